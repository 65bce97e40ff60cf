"use strict";
const one = (what, from = document) => from.querySelector(what);
const all = (what, from = document) => [...from.querySelectorAll(what)];
const on = (what, event, run) => what.addEventListener(event, run);
const SVG = one("svg")?.namespaceURI;
const data = JSON.parse(one("#known").textContent);
const number = new Map(data.keys.map((key, i) => [key, i]));
const shots = all(".shot"), figureOf = new Map();
for (const shot of shots) if (!figureOf.has(shot.dataset.key)) figureOf.set(shot.dataset.key, shot);
for (const part of all("[data-scripted]")) part.hidden = false;

const make = (tag, textContent = "", className = "") =>
  Object.assign(document.createElement(tag), { textContent, className });
function press(text, run) {
  const made = Object.assign(make("button", text), { type: "button" });
  on(made, "click", run);
  return made;
}
function set(what, attributes) {
  for (const name in attributes) what.setAttribute(name, attributes[name]);
  return what;
}
const add = (parent, ...made) => parent.appendChild(make(...made));
const drawn = (tag, attributes) => set(document.createElementNS(SVG, tag), attributes);
/* The largest picture that the page has of a sample: that of a gallery, of a neighbour, or its tile of the sheet. */
function picture(i) {
  const key = data.keys[i], seen = figureOf.has(key) && one("img, svg", figureOf.get(key));
  if (seen) return seen.cloneNode(true);
  const alt = data.captions[i] || `Picture of sample ${key}`, sheet = data.sheet, place = sheet?.tiles[i];
  if (data.pictures[i]) return Object.assign(new Image(), { src: `data:image/jpeg;base64,${data.pictures[i]}`, alt });
  if (place === undefined) return make("div", "no picture", "frame");
  const x = place % sheet.columns * sheet.tile, y = Math.floor(place / sheet.columns) * sheet.tile;
  const made = drawn("svg", { viewBox: `${x} ${y} ${sheet.tile} ${sheet.tile}`, role: "img", "aria-label": alt });
  made.append(drawn("use", { href: "#sheet" }));
  return made;
}
function entry(i, note, open) {
  const item = make("li"), button = item.appendChild(press("", open));
  button.append(picture(i), make("span", (data.captions[i] || data.keys[i]) + (note ? ` (${note})` : "")));
  return item;
}
function list(box, words, numbers) {
  one("[role=status]", box).textContent = words;
  one("ul", box).replaceChildren(...numbers.map((i, n) => entry(i, "", () => show(numbers, n))));
  box.hidden = false;
}
const left = from => all(".shot:not([hidden])", from);
const agreeing = (n, one, many) => n === 1 ? one : many;
const samples = n => `${n} ${agreeing(n, "sample", "samples")}`;

/* Copying */
function byHand(text) {
  const area = make("textarea", text);
  (dialog.open ? dialog : document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}
function copy(button, keys) {
  const text = keys.join("\n"), tell = done => {
    button.dataset.label = button.dataset.label || button.textContent;
    button.textContent = done ? "Copied" : "Could not copy";
    setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
  };
  if (!navigator.clipboard || !isSecureContext) return tell(byHand(text));
  navigator.clipboard.writeText(text).then(() => tell(true), () => tell(byHand(text)));
}
for (const button of all("button[data-copy]")) on(button, "click", () => {
  copy(button, left(one(`#${button.dataset.copy}`)).map(shot => shot.dataset.key));
});

/* One sample: opened from a gallery, a map or a list; `places` are figures or numbers of samples. */
const dialog = one("#detail"), content = one(".content", dialog);
const PICKS = { top: "top of the ranking", member: "drawn from the members", "near miss": "near miss, no member" };
let places = [], at = 0, from = null;
function show(choice, index) {
  if (!dialog.open) from = document.activeElement;
  places = choice;
  at = (index + choice.length) % choice.length;
  const it = choice[at], i = typeof it === "number" ? it : number.get(it.dataset.key), key = data.keys[i];
  const shot = i === it ? figureOf.get(key) : it;
  one("#detail-key").textContent = `Sample ${key}`;
  content.textContent = "";
  add(content, "div", "", "large").append(picture(i));
  const said = add(content, "div");
  add(said, "p", (shot && one(".cap", shot).textContent) || data.captions[i] || "no caption").dir = "auto";
  if (shot) {
    const place = one("h5", shot.closest(".lobe")).textContent, page = shot.closest(".finding").dataset.page;
    add(said, "p", `${place}: ${PICKS[shot.dataset.pick]}; score ${one(".meta", shot).textContent}`);
    if (page) add(add(said, "p"), "a", "Its picture on the gallery page").href = page;
  }
  if (data.meta[i]) add(said, "p", data.meta[i], "muted");
  said.append(press("Copy the key", event => copy(event.currentTarget, [key])));
  if (data.near[i]) neighbours(data.near[i]);
  for (const step of all("[data-step]", dialog)) step.disabled = choice.length < 2;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}
function neighbours(near) {
  const box = add(content, "div", "", "near");
  box.append(make("p", `Nearest samples under each model, by the kernel that the search compared; ${near[2]} ${agreeing(near[2], "is in both lists and has", "are in both lists and have")} a bar at the left.`));
  ["Baseline", "Candidate"].forEach((role, side) => {
    const column = add(box, "div"), others = near[1 - side].map(n => n[0]);
    add(column, "h3", `${role}: ${data.models[role.toLowerCase()]}`);
    const rows = add(column, "ol");
    for (const [i, similarity] of near[side]) {
      const shared = others.includes(i), note = (similarity?.toFixed(3) ?? "") + (shared ? ", in both" : "");
      rows.appendChild(entry(i, note, () => show([i], 0))).classList.toggle("both", shared);
    }
  });
}
for (const step of all("[data-step]", dialog)) on(step, "click", () => show(places, at + Number(step.dataset.step)));
on(dialog, "keydown", event => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step && places.length > 1) show(places, at + step);
});
on(dialog, "click", event => { if (event.target === dialog || event.target.matches("[data-close]")) dialog.close(); });
on(dialog, "close", () => from?.focus());
for (const shot of shots) {
  const button = press("", () => {
    const shown = left(shot.closest(".shots"));
    show(shown, shown.indexOf(shot));
  });
  button.setAttribute("aria-haspopup", "dialog");
  button.append(shot.firstElementChild);
  shot.prepend(button);
}

/* Cells of a confusion that hold samples which the page knows */
for (const cell of all("[data-cell]")) {
  const box = one(".chosen", cell.closest("details")), numbers = data.cells[cell.dataset.cell];
  const table = cell.closest("table"), row = cell.parentNode.cells[0].textContent;
  const words = `${row} taken for ${table.rows[0].cells[cell.cellIndex].textContent}`;
  const n = Number(cell.firstChild.textContent.replace(/\D/g, ""));
  const button = press("", () => {
    const opened = button.getAttribute("aria-pressed") === "true";
    for (const other of all("[aria-pressed=true]", cell.closest("details"))) other.setAttribute("aria-pressed", false);
    box.hidden = opened;
    if (opened) return;
    button.setAttribute("aria-pressed", true);
    const part = numbers.length < n ? `; ${numbers.length} of them ${agreeing(numbers.length, "is", "are")} in this report` : "";
    list(box, `${one("caption", table).firstChild.textContent.trim()}. ${words}: ${samples(n)}${part}.`, numbers);
  });
  button.setAttribute("aria-pressed", false);
  button.append(...cell.childNodes, make("span", `, ${words}`, "quiet"));
  cell.append(button);
}

/* Search and filters */
const find = one("#find");
function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean), held = one("#held").checked;
  const asked = { side: one("#side").value, theme: one("#theme")?.value, state: one("#confirmed").checked && "confirmed" };
  const wanted = Object.entries(asked).filter(([, value]) => value), narrow = words.length > 0 || held;
  const active = narrow || wanted.length > 0, says = text => words.every(word => text.toLowerCase().includes(word));
  for (const finding of all(".finding")) {
    const fits = wanted.every(([name, value]) => finding.dataset[name] === value);
    const named = says(one(".title", finding).textContent);
    for (const shot of all(".shot", finding)) {
      const hit = named || says([one("figcaption", shot).textContent, shot.dataset.key, shot.dataset.meta].join(" "));
      shot.hidden = !fits || !hit || held && shot.dataset.split !== "confirmation";
    }
    for (const part of all(".count", finding)) part.textContent = left(part.closest(".lobe")).length;
    for (const part of [...all(".group, .lobe", finding), finding]) part.hidden = active && !left(part).length;
    finding.hidden ||= !fits;
    if (narrow && !finding.hidden) for (const part of all(".refuted", finding)) part.open = true;
  }
  for (const block of all(".block")) block.hidden = active && !one(".finding:not([hidden])", block);
  find.closest("section").classList.toggle("filtering", narrow);
  const findings = all(".finding:not([hidden])").length, every = all(".finding").length;
  one("#nothing").hidden = !active || findings > 0;
  one("#reset").hidden = !active;
  const told = findings ? `${left().length} of ${samples(shots.length)}, in ${findings} of ${every} ${agreeing(every, "finding", "findings")}` : "Nothing found";
  one("#found").textContent = active ? told : "";
}
if (find) {
  const fields = all("input, select", find.closest(".tools"));
  for (const field of fields) on(field, "input", filter);
  on(one("#reset"), "click", () => {
    for (const field of fields) field[field.type === "checkbox" ? "checked" : "value"] = "";
    filter();
    find.focus();
  });
}

/* Maps: one pair of drawings, hit-tested by hand; what is chosen is marked in both */
const map = data.map, maps = all(".map"), pointed = one(".pointed"), picked = one("#chosen")?.closest(".chosen");
let chosen = [];
function draw(mark, numbers, shape) {
  for (const box of maps) {
    const spots = numbers.map(k => map[box.dataset.role][k]).filter(Boolean);
    one(mark, box).setAttribute("d", spots.map(([x, y]) => `M${x} ${y}${shape}`).join(""));
  }
}
function point(k) {
  draw(".spot", [k], "m-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0");
  const i = map.at[k], group = map.group[k], text = make("div");
  add(text, "b", data.keys[i]);
  add(text, "p", data.captions[i] || "no caption");
  if (group) add(text, "span", map.names[Math.abs(group) - 1] + (group > 0 ? ", first lobe" : ", counterpart"), "muted");
  pointed.replaceChildren(picture(i), text);
  pointed.hidden = false;
}
function choose(numbers) {
  chosen = numbers.map(k => map.at[k]);
  draw(".picked", numbers, "h0");
  list(picked, `${samples(chosen.length)} marked in both maps${chosen.length > 60 ? "; the first 60:" : ""}`, chosen.slice(0, 60));
}
function startMap(box) {
  const role = box.dataset.role, svg = one("svg", box), spots = map[role];
  const order = [...spots.keys()].filter(k => spots[k]);
  order.sort((a, b) => map.group[b] - map.group[a] || spots[a][0] - spots[b][0]);
  let now = -1, line = null;
  box.tabIndex = 0;
  set(box, { role: "group", "aria-label": `Map under the ${role}: arrow keys walk through the samples, Enter opens one` });
  const [, , lasso] = ["picked", "spot", "lasso"].map(name => svg.appendChild(drawn("path", { class: name })));
  function spot(event) {
    const seen = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / seen.width;
    return [(event.clientX - seen.left) * scale, (event.clientY - seen.top) * scale];
  }
  function nearest([x, y]) {
    let best = -1, least = 12;
    for (const k of order) {
      const d = Math.hypot(spots[k][0] - x, spots[k][1] - y);
      if (d < least) [least, best] = [d, k];
    }
    return best;
  }
  const inside = ([x, y]) => lasso.isPointInFill(new DOMPoint(x, y));
  function end() {
    line = null;
    lasso.setAttribute("d", "");
  }
  on(box, "pointerdown", event => {
    line = [spot(event)];
    box.setPointerCapture(event.pointerId);
  });
  on(box, "pointermove", event => {
    const p = spot(event), k = nearest(p);
    if (line) {
      line.push(p);
      lasso.setAttribute("d", `M${line.join("L")}Z`);
    } else if (k >= 0 && k !== now) point(now = k);
  });
  on(box, "pointerup", event => {
    const k = nearest(spot(event));
    if (line?.length > 4) choose(order.filter(n => inside(spots[n])).sort((a, b) => a - b));
    else if (k >= 0) { point(now = k); show([map.at[k]], 0); }
    end();
  });
  on(box, "pointercancel", end);
  on(box, "keydown", event => {
    const way = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (event.key === "Enter" && now >= 0) return show([map.at[now]], 0);
    if (!way) return;
    event.preventDefault();
    const place = now < 0 ? 0 : (order.indexOf(now) + way + order.length) % order.length;
    if (order.length) point(now = order[place]);
  });
}
if (map && maps.length) {
  maps.forEach(startMap);
  for (const key of all(".legend [data-group]")) {
    const group = Number(key.dataset.group);
    const button = press("", () => choose([...map.group.keys()].filter(k => map.group[k] === group)));
    button.append(...key.childNodes);
    key.append(button);
  }
  on(one("[data-chosen=copy]"), "click", event => copy(event.target, chosen.map(i => data.keys[i])));
  on(one("[data-chosen=clear]"), "click", () => {
    choose([]);
    picked.hidden = true;
  });
}

/* Contents, folded sections, tables that are wider than the screen */
const menu = one(".menu"), sidebar = one("#sidebar"), links = all("a", sidebar);
function toggle(open) {
  sidebar.classList.toggle("open", open);
  menu.setAttribute("aria-expanded", open);
  menu.textContent = open ? "Close" : "Menu";
}
menu.hidden = false;
on(menu, "click", () => toggle(!sidebar.classList.contains("open")));
on(sidebar, "click", event => { if (event.target.closest("a")) toggle(false); });
on(document, "keydown", event => {
  if (event.key === "Escape" && sidebar.classList.contains("open")) { toggle(false); menu.focus(); }
});
let waiting = false;
function mark() {
  waiting = false;
  const above = links.filter(link => one(link.hash)?.offsetParent && one(link.hash).getBoundingClientRect().top < 120);
  one("[aria-current]", sidebar)?.removeAttribute("aria-current");
  (above.pop() || links[0]).setAttribute("aria-current", "true");
}
on(window, "scroll", () => {
  if (!waiting) requestAnimationFrame(mark);
  waiting = true;
}, { passive: true });
mark();
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  const fold = target.closest("details") || target.tagName === "H2" && one(".fold", target.parentNode);
  if (fold) fold.open = true;
  target.scrollIntoView();
}
on(window, "hashchange", unfold);
on(document, "click", event => { if (event.target.closest("a[href^='#']")?.hash === location.hash) unfold(); });
unfold();
let printed = [];
on(window, "beforeprint", () => {
  printed = all("details:not([open])");
  for (const part of printed) part.open = true;
});
on(window, "afterprint", () => { for (const part of printed) part.open = false; });
