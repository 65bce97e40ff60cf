"use strict";
(function () {
  var SVG = "http://www.w3.org/2000/svg";
  var SHAPES = { pass: "circle", warn: "triangle", fail: "square", inconclusive: "diamond" };
  var SEVERITY = { damaged: 0, fail: 1, inconclusive: 2, warn: 3, pass: 4 };
  var MOST = 12; // lines that are drawn at once
  var body = document.querySelector(".audits tbody");
  if (!body) { return; }
  var data = JSON.parse(document.getElementById("data").textContent);
  var rows = Array.prototype.slice.call(body.rows);
  var heads = Array.prototype.slice.call(document.querySelectorAll("th[data-sort]"));
  var form = document.querySelector(".filters");
  var trends = document.querySelector(".trends");
  var sorts = document.getElementById("sort");
  var sorted = { by: "ended", down: true };
  function get(id) { return document.getElementById(id); }
  rows.forEach(function (row, n) {
    row.dataset.n = n;
    row.dataset.candidate = row.querySelector("th bdi").textContent;
    row.words = (row.textContent + " " + row.dataset.more).toLowerCase();
  });

  function value(row, by) {
    if (by === "verdict") { return SEVERITY[row.dataset.verdict]; }
    if (by === "ended") { return -Number(row.dataset.n); }
    if (by.charAt(0) === "f") { var cell = row.cells[4 + Number(by.slice(1))]; return cell.dataset.value === undefined ? null : Number(cell.dataset.value); }
    if (by === "people") { return row.cells[row.cells.length - 1].textContent.toLowerCase(); }
    return (row.dataset[by] || "").toLowerCase();
  }
  function sort(by, down) {
    sorted = { by: by, down: down };
    rows.sort(function (a, b) {
      var x = value(a, by), y = value(b, by);
      if (x === null || y === null) { return (x === null) - (y === null) || a.dataset.n - b.dataset.n; }
      var way = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (down ? -way : way) || a.dataset.n - b.dataset.n;
    });
    rows.forEach(function (row) { body.appendChild(row); });
    heads.forEach(function (head) {
      if (head.dataset.sort === by) { head.setAttribute("aria-sort", down ? "descending" : "ascending"); } else { head.removeAttribute("aria-sort"); }
    });
    sorts.value = by;
  }
  function filter() {
    var words = get("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    var verdict = get("verdict").value, baseline = get("baseline").value, dataset = get("dataset").value, since = get("since").value;
    var count = 0;
    rows.forEach(function (row) {
      var of = row.dataset;
      var fits = (!verdict || of.verdict === verdict || (verdict === "damaged" && of.damaged === "1")) &&
        (!baseline || of.baseline === baseline) && (!dataset || of.data === dataset) && (!since || (data.audits[of.n] && data.audits[of.n][3].slice(0, 10) >= since)) &&
        words.every(function (word) { return row.words.indexOf(word) >= 0; });
      row.hidden = !fits;
      count += fits ? 1 : 0;
    });
    get("told").textContent = count === rows.length ? count + (count === 1 ? " audit" : " audits") : count + " of " + rows.length + " audits";
    get("none").hidden = count > 0;
    draw();
  }

  function el(name, attributes, parent, text) {
    var made = document.createElementNS(SVG, name);
    Object.keys(attributes).forEach(function (key) { made.setAttribute(key, attributes[key]); });
    if (text !== undefined) { made.textContent = text; }
    parent.appendChild(made);
    return made;
  }
  function tag(name, parent, text, kind) {
    var made = document.createElement(name);
    if (text !== undefined) { made.textContent = text; }
    if (kind) { made.className = kind; }
    parent.appendChild(made);
    return made;
  }
  function mark(verdict, x, y, r, parent) {
    var shape = SHAPES[verdict];
    if (shape === "circle") { return el("circle", { "class": verdict, cx: x, cy: y, r: r }, parent); }
    if (shape === "square") { return el("rect", { "class": verdict, x: x - r + 0.4, y: y - r + 0.4, width: 2 * r - 0.8, height: 2 * r - 0.8 }, parent); }
    var d = shape === "triangle" ? [[0, -r], [r, r], [-r, r]] : [[0, -r - 0.6], [r + 0.6, 0], [0, r + 0.6], [-r - 0.6, 0]];
    return el("polygon", { "class": verdict, points: d.map(function (p) { return (x + p[0]) + "," + (y + p[1]); }).join(" ") }, parent);
  }
  function decimals(numbers, unit) { // as koda/units.py has them
    var most = Math.max.apply(null, numbers.map(function (number) { return Math.abs(100 * number); }));
    if (most > 0 && most < 0.1) { return Math.min(4, 1 - Math.floor(Math.log10(most))); }
    return unit === "points" || most >= 10 ? 1 : 2;
  }
  function written(number, places) {
    var digits = number.toFixed(places);
    return Number(digits) === 0 ? digits.replace("-", "") : digits;
  }
  function shown(number, unit, places) {
    if (number === null) { return "–"; }
    if (unit) { return written(100 * number, places === undefined ? decimals([number], unit) : places) + "\u00a0" + unit; }
    if (places !== undefined) { return written(number, places); }
    return Math.abs(number) < 1e4 ? String(Number(number.toPrecision(4))) : number.toFixed(0);
  }
  function axisDecimals(step, unit) { return Math.min(8, Math.max(0, Math.ceil(-Math.log10(unit ? 100 * step : step)))); }
  function points(figure) {
    var lines = {}, order = [];
    rows.filter(function (row) { return !row.hidden; }).forEach(function (row) {
      var of = data.audits[row.dataset.n];
      var seen = of && of[4][data.figures.indexOf(figure)];
      if (!seen || seen[0] === null) { return; }
      if (!lines[of[0]]) { lines[of[0]] = []; order.push(of[0]); }
      lines[of[0]].push({ row: row, ended: of[3], data: of[1], policy: of[2], v: seen });
    });
    return order.map(function (key) {
      return lines[key].sort(function (a, b) { return a.ended < b.ended ? -1 : a.ended > b.ended ? 1 : b.row.dataset.n - a.row.dataset.n; });
    }).sort(function (a, b) { return b.length - a.length; });
  }
  function brokenAt(line, i) {
    var found = [];
    if (i > 0 && line[i].data !== line[i - 1].data) { found.push("data"); }
    if (i > 0 && line[i].policy !== line[i - 1].policy) { found.push("policy"); }
    return found;
  }
  function chart(line, unit, parent, title) {
    var width = Math.max(320, Math.min(1000, parent.clientWidth || 900)), height = 190, left = 56, right = 14, top = 12, bottom = 26;
    var svg = el("svg", { viewBox: "0 0 " + width + " " + height, role: "img" }, parent);
    var ends = [];
    line.forEach(function (p) { p.v.forEach(function (v) { if (v !== null) { ends.push(v); } }); });
    var low = Math.min.apply(null, ends), high = Math.max.apply(null, ends);
    if (low >= 0 && low < high / 2) { low = 0; }
    if (high === low) { high += Math.abs(high) / 10 || 1; low -= low === 0 ? 0 : Math.abs(low) / 10; }
    function x(i) { return left + (line.length === 1 ? 0.5 : (i + 0.5) / line.length) * (width - left - right); }
    function y(v) { return top + (1 - (v - low) / (high - low)) * (height - top - bottom); }
    svg.setAttribute("aria-label", title + ": " + line.length + (line.length === 1 ? " audit" : " audits") + ", the first " + shown(line[0].v[0], unit) + ", the last " + shown(line[line.length - 1].v[0], unit) + ". The table beneath has the values.");
    var places = axisDecimals((high - low) / 2, unit);
    [low, (low + high) / 2, high].forEach(function (v) {
      el("line", { "class": "grid", x1: left, x2: width - right, y1: y(v), y2: y(v) }, svg);
      el("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, svg, shown(v, unit, places));
    });
    var path = "";
    line.forEach(function (p, i) {
      var broken = brokenAt(line, i);
      path += (i && !broken.length ? "L" : "M") + x(i).toFixed(1) + " " + y(p.v[0]).toFixed(1);
      if (broken.length) {
        var at = (x(i) + x(i - 1)) / 2, rule = el("line", { "class": "break", x1: at, x2: at, y1: top, y2: height - bottom }, svg);
        el("title", {}, rule, "changed: " + broken.join(" and "));
      }
    });
    el("path", { "class": "course", d: path }, svg);
    line.forEach(function (p, i) {
      if (p.v[1] !== null && p.v[2] !== null) { el("line", { "class": "ci", x1: x(i), x2: x(i), y1: y(p.v[1]), y2: y(p.v[2]) }, svg); }
    });
    var r = Math.max(1.6, Math.min(4.2, 0.42 * (width - left - right) / line.length));
    line.forEach(function (p, i) {
      var dot = mark(p.row.dataset.verdict, x(i), y(p.v[0]), r, svg);
      el("title", {}, dot, p.row.dataset.candidate + ", " + p.ended.slice(0, 16).replace("T", " ") + ": " + shown(p.v[0], unit));
    });
    el("text", { x: x(0), y: height - 8, "text-anchor": "start" }, svg, line[0].ended.slice(0, 10));
    if (line.length > 1) { el("text", { x: width - right, y: height - 8, "text-anchor": "end" }, svg, line[line.length - 1].ended.slice(0, 10)); }
  }
  function table(line, unit, parent, title) {
    var details = tag("details", parent);
    tag("summary", details, "Values of these " + line.length + (line.length === 1 ? " audit" : " audits"));
    details.addEventListener("toggle", function () {
      if (details.querySelector("table")) { return; }
      var box = tag("div", details, undefined, "values");
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", "Values, " + title);
      var made = tag("table", box);
      tag("caption", made, title, "unseen");
      var head = tag("tr", tag("thead", made));
      ["Ended (UTC)", "Candidate", "Value", "Interval", "Verdict", "Changed before it"].forEach(function (name) { tag("th", head, name).scope = "col"; });
      var rest = tag("tbody", made);
      line.forEach(function (p, i) {
        var row = tag("tr", rest), name = p.row.querySelector("th a");
        tag("td", row, p.ended.slice(0, 16).replace("T", " "));
        var cell = tag("td", row);
        if (name) { tag("a", cell, p.row.dataset.candidate).href = name.href; } else { cell.textContent = p.row.dataset.candidate; }
        var places = unit ? decimals(p.v.filter(function (v) { return v !== null; }), unit) : undefined;
        tag("td", row, shown(p.v[0], unit, places));
        tag("td", row, p.v[1] === null || p.v[2] === null ? "–" : shown(p.v[1], unit, places) + " to " + shown(p.v[2], unit, places));
        tag("td", row, p.row.dataset.verdict);
        tag("td", row, brokenAt(line, i).join(" and ") || "–");
      });
    });
  }
  function draw() {
    if (!trends.open) { return; }
    var figure = get("figure").value, unit = data.units[figure], place = get("lines");
    var lines = points(figure);
    place.textContent = "";
    if (!lines.length) { tag("p", place, "No audit of the list has this figure.", "muted"); return; }
    var key = tag("p", place, undefined, "line key");
    ["pass", "warn", "fail", "inconclusive"].forEach(function (verdict) {
      var entry = tag("span", key);
      mark(verdict, 6, 6, 4.2, el("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, entry));
      entry.appendChild(document.createTextNode(verdict));
    });
    lines.slice(0, MOST).forEach(function (line) {
      var last = line[line.length - 1].row.dataset, title = "against " + last.baseline + " on " + last.data;
      var part = tag("div", place, undefined, "line");
      tag("bdi", tag("h2", part), title);
      chart(line, unit, part, title);
      table(line, unit, part, title);
    });
    if (lines.length > MOST) { tag("p", place, (lines.length - MOST) + (lines.length - MOST === 1 ? " more line is" : " more lines are") + " not drawn: narrow the list by the filters.", "muted"); }
  }

  heads.forEach(function (head) {
    var by = head.dataset.sort, button = document.createElement("button"), option = document.createElement("option");
    button.type = "button";
    button.textContent = head.textContent;
    option.value = by;
    option.textContent = head.textContent;
    sorts.appendChild(option);
    head.textContent = "";
    head.appendChild(button);
    button.addEventListener("click", function () { sort(by, sorted.by === by ? !sorted.down : first(by)); });
  });
  function first(by) { return by === "ended" || by.charAt(0) === "f"; }
  sorts.addEventListener("change", function () { sort(sorts.value, first(sorts.value)); });
  ["find", "verdict", "baseline", "dataset", "since"].forEach(function (id) { get(id).addEventListener("input", filter); });
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.addEventListener("reset", function () { setTimeout(function () { sort("ended", true); filter(); }, 0); });
  get("figure").addEventListener("input", draw);
  form.hidden = false;
  trends.hidden = false;
  trends.addEventListener("toggle", draw);
  sort("ended", true);
  filter();
})();
