"use strict";
(function () {
  var SVG = (document.querySelector("svg") || {}).namespaceURI;
  var all = (what, from) => Array.prototype.slice.call((from || document).querySelectorAll(what));
  var on = (what, event, run) => what.addEventListener(event, run);
  var one = id => document.getElementById(id);
  var data = JSON.parse(one("known").textContent);
  var number = {};
  data.keys.forEach((key, i) => { number[key] = i; });
  var shots = all(".shot"), figureOf = {};
  shots.forEach(shot => { figureOf[shot.dataset.key] = figureOf[shot.dataset.key] || shot; });
  all("[data-scripted]").forEach(part => { part.hidden = false; });

  function make(tag, text, cls) {
    var made = document.createElement(tag);
    if (text) made.textContent = text;
    if (cls) made.className = cls;
    return made;
  }
  function press(text, run) {
    var made = make("button", text);
    made.type = "button";
    on(made, "click", run);
    return made;
  }
  function drawn(tag, attributes, into) {
    var made = document.createElementNS(SVG, tag);
    Object.keys(attributes).forEach(name => { made.setAttribute(name, attributes[name]); });
    return into ? into.appendChild(made) : made;
  }
  /* The largest picture that the page has of a sample: that of a gallery, of a neighbour, or its tile of the sheet. */
  function picture(i) {
    var seen = figureOf[data.keys[i]] && figureOf[data.keys[i]].querySelector("img, svg");
    if (seen) return seen.cloneNode(true);
    var alt = data.captions[i] || "Picture of sample " + data.keys[i], made;
    if (data.pictures[i]) {
      made = make("img");
      made.src = "data:image/jpeg;base64," + data.pictures[i];
      made.alt = alt;
      return made;
    }
    var sheet = data.sheet, tile = sheet && sheet.tiles[i];
    if (tile === undefined) return make("div", "no picture", "frame");
    var x = tile % sheet.columns * sheet.tile, y = Math.floor(tile / sheet.columns) * sheet.tile;
    made = drawn("svg", { viewBox: [x, y, sheet.tile, sheet.tile].join(" "), role: "img", "aria-label": alt });
    drawn("use", { href: "#sheet" }, made);
    return made;
  }
  function entry(i, note, open) {
    var item = make("li"), button = item.appendChild(press("", open));
    button.append(picture(i), make("span", (data.captions[i] || data.keys[i]) + (note ? " (" + note + ")" : "")));
    return item;
  }

  /* Copying */
  function said(button, done) {
    button.dataset.label = button.dataset.label || button.textContent;
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
  }
  function byHand(text) {
    var area = make("textarea");
    area.value = text;
    (dialog.open ? dialog : document.body).appendChild(area);
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    return done;
  }
  function copy(button, keys) {
    var text = keys.join("\n");
    if (!navigator.clipboard || !window.isSecureContext) return said(button, byHand(text));
    navigator.clipboard.writeText(text).then(() => { said(button, true); }, () => { said(button, byHand(text)); });
  }
  all("button[data-copy]").forEach(button => {
    on(button, "click", () => {
      copy(button, all(".shot:not([hidden])", one(button.dataset.copy)).map(shot => shot.dataset.key));
    });
  });

  /* One sample: opened from a gallery, a map or a list; `places` are figures or numbers of samples. */
  var dialog = one("detail"), content = dialog.querySelector(".content"), places = [], at = 0, from = null;
  function show(list, index) {
    if (!dialog.open) from = document.activeElement;
    places = list;
    at = (index + list.length) % list.length;
    var shot = typeof list[at] === "number" ? figureOf[data.keys[list[at]]] : list[at];
    var i = typeof list[at] === "number" ? list[at] : number[shot.dataset.key], key = data.keys[i];
    one("detail-key").textContent = "Sample " + key;
    content.textContent = "";
    content.appendChild(make("div", "", "large")).appendChild(picture(i));
    var said = content.appendChild(make("div"));
    var caption = said.appendChild(make("p", (shot && shot.querySelector(".cap").textContent) || data.captions[i] || "no caption"));
    caption.dir = "auto";
    if (shot) said.appendChild(make("p", shot.closest(".lobe").querySelector("h5").textContent + ": " + { top: "top of the ranking", member: "drawn from the members", "near miss": "near miss, no member" }[shot.dataset.pick] + "; score " + shot.querySelector(".meta").textContent));
    if (data.meta[i]) said.appendChild(make("p", data.meta[i], "muted"));
    said.appendChild(press("Copy the key", event => { copy(event.currentTarget, [key]); }));
    var near = data.near[i];
    if (near) neighbours(near);
    all("[data-step]", dialog).forEach(step => { step.disabled = list.length < 2; });
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }
  function neighbours(near) {
    var box = content.appendChild(make("div", "", "near"));
    box.appendChild(make("p", "Nearest samples under each model, by the kernel that the search compared; " + near[2] + " are in both lists and have a bar at the left."));
    ["baseline", "candidate"].forEach((role, side) => {
      var column = box.appendChild(make("div")), others = near[1 - side].map(n => n[0]);
      column.appendChild(make("h3", role[0].toUpperCase() + role.slice(1) + ": " + data.models[role]));
      var list = column.appendChild(make("ol"));
      near[side].forEach(n => {
        var shared = others.indexOf(n[0]) >= 0;
        var note = (n[1] === null ? "" : n[1].toFixed(3)) + (shared ? ", in both" : "");
        list.appendChild(entry(n[0], note, () => { show([n[0]], 0); })).classList.toggle("both", shared);
      });
    });
  }
  all("[data-step]", dialog).forEach(step => {
    on(step, "click", () => { show(places, at + Number(step.dataset.step)); });
  });
  on(dialog, "keydown", event => {
    var step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && places.length > 1) show(places, at + step);
  });
  on(dialog.querySelector("[data-close]"), "click", () => { dialog.close(); });
  on(dialog, "click", event => { if (event.target === dialog) dialog.close(); });
  on(dialog, "close", () => { if (from) from.focus(); });
  shots.forEach(shot => {
    var button = press("", () => {
      var list = all(".shot:not([hidden])", shot.closest(".shots"));
      show(list, list.indexOf(shot));
    });
    button.setAttribute("aria-haspopup", "dialog");
    button.appendChild(shot.firstElementChild);
    shot.prepend(button);
  });

  /* Search and filters */
  var find = one("find"), told = one("found");
  function filter() {
    var words = find.value.toLowerCase().split(/\s+/).filter(Boolean), side = one("side").value;
    var theme = one("theme") ? one("theme").value : "", confirmed = one("confirmed").checked, held = one("held").checked;
    var active = words.length || side || theme || confirmed || held, narrow = Boolean(words.length || held), count = 0, findings = 0;
    all(".finding").forEach(finding => {
      var fits = (!side || finding.dataset.side === side) && (!theme || finding.dataset.theme === theme) && (!confirmed || finding.dataset.state === "confirmed");
      var title = finding.querySelector(".title").textContent.toLowerCase(), seen = 0;
      all(".shot", finding).forEach(shot => {
        var text = (shot.querySelector("figcaption").textContent + " " + shot.dataset.key + " " + (shot.dataset.meta || "")).toLowerCase();
        var hit = words.every(word => text.indexOf(word) >= 0) || words.every(word => title.indexOf(word) >= 0);
        shot.hidden = !(fits && hit && (!held || shot.dataset.split === "confirmation"));
        seen += shot.hidden ? 0 : 1;
      });
      all(".count", finding).forEach(part => {
        part.textContent = all(".shot:not([hidden])", part.closest(".lobe")).length;
      });
      all(".group, .lobe", finding).forEach(part => { part.hidden = active && !part.querySelector(".shot:not([hidden])"); });
      finding.hidden = !fits || active && !seen;
      if (narrow && seen) all(".refuted", finding).forEach(part => { part.open = true; });
      count += seen;
      findings += finding.hidden ? 0 : 1;
    });
    all(".block").forEach(block => {
      block.hidden = active && !block.querySelector(".finding:not([hidden])");
    });
    find.closest("section").classList.toggle("filtering", narrow);
    one("nothing").hidden = !active || findings > 0;
    one("reset").hidden = !active;
    told.textContent = !active ? "" : findings ? count + " of " + shots.length + " samples, in " + findings + " of " + all(".finding").length + " findings" : "Nothing found";
  }
  if (find) {
    all("input, select", find.closest(".tools")).forEach(field => { on(field, "input", filter); });
    on(one("reset"), "click", () => {
      all("input, select", find.closest(".tools")).forEach(field => { field.value = field.type === "checkbox" ? field.value : ""; field.checked = false; });
      filter();
      find.focus();
    });
  }

  /* Maps: one pair of drawings, hit-tested by hand; what is chosen is marked in both */
  var map = data.map, maps = all(".map"), chosen = [], pointed = document.querySelector(".pointed");
  function point(k) {
    maps.forEach(box => {
      var spot = box.querySelector(".spot"), place = map[box.dataset.role][k];
      spot.setAttribute("d", place ? "M" + place[0] + " " + place[1] + "m-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0" : "");
    });
    var i = map.at[k], group = map.group[k], text = make("div");
    text.append(make("b", data.keys[i]), make("p", data.captions[i] || "no caption"));
    if (group) text.append(make("span", map.names[Math.abs(group) - 1] + (group > 0 ? ", first lobe" : ", counterpart"), "muted"));
    pointed.replaceChildren(picture(i), text);
    pointed.hidden = false;
  }
  function choose(list) {
    chosen = list;
    maps.forEach(box => {
      box.querySelector(".picked").setAttribute("d", list.map(k => {
        var place = map[box.dataset.role][k];
        return place ? "M" + place[0] + " " + place[1] + "h0" : "";
      }).join(""));
    });
    var numbers = list.map(k => map.at[k]), shown = numbers.slice(0, 60), box = document.querySelector(".chosen");
    one("chosen").textContent = list.length + (list.length === 1 ? " sample" : " samples") + " marked in both maps" + (list.length > 60 ? "; the first 60:" : "");
    box.querySelector("ul").replaceChildren.apply(box.querySelector("ul"), shown.map((i, n) => { return entry(i, "", () => { show(shown, n); }); }));
    box.hidden = false;
  }
  function startMap(box) {
    var role = box.dataset.role, svg = box.querySelector("svg"), places = map[role], now = -1, line = null;
    var order = places.map((q, k) => k).filter(k => places[k]);
    order.sort((a, b) => map.group[b] - map.group[a] || places[a][0] - places[b][0]);
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Map under the " + role + ": arrow keys walk through the samples, Enter opens one");
    drawn("path", { "class": "picked", fill: "none", stroke: "#e0007a", "stroke-width": 6, "stroke-linecap": "round", "stroke-opacity": 0.8 }, svg);
    drawn("path", { "class": "spot", fill: "none", stroke: "#1b2230", "stroke-width": 2 }, svg);
    var lasso = drawn("path", { fill: "#1a56b0", "fill-opacity": 0.12, stroke: "#1a56b0" }, svg);
    function spot(event) {
      var seen = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / seen.width;
      return [(event.clientX - seen.left) * scale, (event.clientY - seen.top) * scale];
    }
    function nearest(p) {
      var best = -1, least = 150;
      places.forEach((q, k) => {
        var d = q ? Math.pow(q[0] - p[0], 2) + Math.pow(q[1] - p[1], 2) : 1e9;
        if (d < least) { least = d; best = k; }
      });
      return best;
    }
    function inside(p) {
      for (var hit = false, a = 0, b = line.length - 1; a < line.length; b = a++) {
        if (line[a][1] > p[1] !== line[b][1] > p[1] && p[0] < (line[b][0] - line[a][0]) * (p[1] - line[a][1]) / (line[b][1] - line[a][1]) + line[a][0]) hit = !hit;
      }
      return hit;
    }
    on(box, "pointerdown", event => {
      line = [spot(event)];
      box.setPointerCapture(event.pointerId);
    });
    on(box, "pointermove", event => {
      var p = spot(event), k = nearest(p);
      if (line) {
        line.push(p);
        lasso.setAttribute("d", "M" + line.join("L") + "Z");
      } else if (k >= 0 && k !== now) point(now = k);
    });
    on(box, "pointerup", event => {
      var drawnRound = line && line.length > 4, k = nearest(spot(event));
      if (drawnRound) choose(places.map((q, n) => q && inside(q) ? n : -1).filter(n => n >= 0));
      else if (k >= 0) { point(now = k); show([map.at[k]], 0); }
      line = null;
      lasso.setAttribute("d", "");
    });
    on(box, "pointercancel", () => { line = null; lasso.setAttribute("d", ""); });
    on(box, "keydown", event => {
      var way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (event.key === "Enter" && now >= 0) return show([map.at[now]], 0);
      if (!way) return;
      event.preventDefault();
      var place = now < 0 ? 0 : (order.indexOf(now) + way + order.length) % order.length;
      if (order.length) point(now = order[place]);
    });
  }
  if (map && maps.length) {
    maps.forEach(startMap);
    all(".legend [data-group]").forEach(key => {
      var button = press("", () => {
        choose(map.group.map((g, k) => g === Number(key.dataset.group) ? k : -1).filter(k => k >= 0));
      });
      button.append.apply(button, key.childNodes);
      key.append(button);
    });
    all("[data-chosen]").forEach(button => {
      on(button, "click", () => {
        if (button.dataset.chosen === "copy") return copy(button, chosen.map(k => data.keys[map.at[k]]));
        choose([]);
        document.querySelector(".chosen").hidden = true;
      });
    });
  }

  /* Contents, folded sections, tables that are wider than the screen */
  var menu = document.querySelector(".menu"), sidebar = one("sidebar"), links = all("a", sidebar);
  function toggle(open) {
    sidebar.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
    menu.textContent = open ? "Close" : "Menu";
  }
  menu.hidden = false;
  on(menu, "click", () => { toggle(!sidebar.classList.contains("open")); });
  on(sidebar, "click", event => { if (event.target.closest("a")) toggle(false); });
  on(document, "keydown", event => {
    if (event.key === "Escape" && sidebar.classList.contains("open")) { toggle(false); menu.focus(); }
  });
  function mark() {
    var here = links[0];
    links.forEach(link => {
      var target = one(link.hash.slice(1));
      if (target && target.getBoundingClientRect().top < 120 && target.offsetParent) here = link;
      link.removeAttribute("aria-current");
    });
    here.setAttribute("aria-current", "true");
  }
  var waiting = false;
  on(window, "scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; mark(); });
  }, { passive: true });
  mark();
  function unfold() {
    var target = location.hash && one(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    var fold = target.closest("details") || target.tagName === "H2" && target.parentNode.querySelector(".fold");
    if (fold) fold.open = true;
    target.scrollIntoView();
  }
  on(window, "hashchange", unfold);
  on(document, "click", event => {
    var link = event.target.closest && event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) unfold();
  });
  unfold();
  on(window, "beforeprint", () => { all("details:not([open])").forEach(part => { part.open = part.dataset.printed = true; }); });
  on(window, "afterprint", () => { all("details[data-printed]").forEach(part => { part.open = false; part.removeAttribute("data-printed"); }); });
  all("[tabindex='0']:not([role])").forEach(box => {
    var caption = box.querySelector("caption");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", caption ? caption.textContent : "Figure");
  });
})();
