"use strict";
// The upper part is arithmetic alone and runs without a page; the lower part draws.

const COSTS = {
  mul_adds: "Mul-Adds", latency_p50_ms: "Latency (ms)", images_per_second: "Images/s",
  peak_memory_bytes: "Peak memory", embedding_bytes: "Embedding bytes", parameters: "Parameters",
  joules_per_image: "Joules/image",
};
const MORE_IS_BETTER = new Set(["images_per_second"]);
const STEPPED = new Set(["embedding_bytes", "parameters"]);  // a stream has few values, each with many accuracies
const OURS = new Set(["exit", "stream"]);
const known = (p, ...columns) => columns.every(c => Number.isFinite(p[c]));

/** The Pareto set, cheapest first. */
function pareto(points, cost, metric) {
  const sign = MORE_IS_BETTER.has(cost) ? -1 : 1;
  const able = points.filter(p => OURS.has(p.kind) && known(p, cost, metric));
  able.sort((a, b) => sign * (a[cost] - b[cost]) || b[metric] - a[metric]);
  const found = [];
  for (const p of able) {
    const last = found[found.length - 1];
    if (!last || p[metric] > last[metric] || (p[metric] === last[metric] && p[cost] === last[cost])) found.push(p);
  }
  return found;
}

/** Whether a point is within every limit; an unknown cost is not. */
function fits(p, limits) {
  return Object.entries(limits).every(([cost, bound]) =>
    known(p, cost) && (MORE_IS_BETTER.has(cost) ? p[cost] >= bound : p[cost] <= bound));
}

/** The most accurate exit or stream within the limits; ties are broken as in best.py. */
function best(points, limits, metric) {
  const able = points.filter(p => OURS.has(p.kind) && known(p, metric) && fits(p, limits));
  const least = (a, b) => { const [x, y] = [a ?? Infinity, b ?? Infinity]; return x < y ? -1 : x > y ? 1 : 0; };
  able.sort((a, b) => b[metric] - a[metric] || b.mAP - a.mAP || least(a.mul_adds, b.mul_adds)
    || least(a.parameters, b.parameters) || (a.kind === "stream") - (b.kind === "stream"));
  return able[0] || null;
}

/** The points with only a few budgets of each stream, evenly spread. */
function fold(points, keep = 5) {
  const streams = new Map();
  for (const p of points.filter(p => p.kind === "stream")) {
    const key = JSON.stringify([p.method, p.point]);
    streams.set(key, [...(streams.get(key) || []), p]);
  }
  const kept = new Set();
  for (const line of streams.values()) {
    line.sort((a, b) => a.planned - b.planned);
    for (let i = 0; i < keep; i++) kept.add(line[Math.round(i * (line.length - 1) / (keep - 1))]);
  }
  return points.filter(p => p.kind !== "stream" || kept.has(p));
}

/** Of points of equal cost the best. */
function bestOfEqual(points, cost, metric) {
  const best = new Map();
  for (const p of points) if (!best.has(p[cost]) || p[metric] > best.get(p[cost])[metric]) best.set(p[cost], p);
  return [...best.values()];
}

/** Positions of the ticks of an axis. */
function ticks(low, high, log) {
  const found = [];
  if (log) {
    const wide = high / low > 300;
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
      for (const m of wide ? [1] : [1, 2, 5]) found.push(m * 10 ** e);
  } else {
    const raw = (high - low) / 6, size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find(m => m * size >= raw) * size;
    for (let i = Math.ceil(low / step); i * step <= high; i++) found.push(i * step);
  }
  return found.filter(v => v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9));
}

/** 86000000 -> "86 M". */
function short(value) {
  for (const [size, letter] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
    if (value >= size) return `${+(value / size).toPrecision(3)}${letter}`;
  return `${+value.toPrecision(3)}`;
}

/** A cost as text: bytes of an embedding to the byte. */
const costText = (column, value) => column === "embedding_bytes" ? value.toLocaleString("en")
  : column === "peak_memory_bytes" ? `${short(value)}B` : short(value);
const named = p => p.point && p.point !== p.method ? `${p.method} ${p.point}` : p.method;
const percent = x => Number.isFinite(x) ? `${(100 * x).toFixed(1)}%` : "–";
/** The 95% confidence interval of an accuracy: "55.1–60.0", or empty. */
const interval = (p, metric) => known(p, metric + "_low", metric + "_high")
  ? `${(100 * p[metric + "_low"]).toFixed(1)}–${(100 * p[metric + "_high"]).toFixed(1)}` : "";

if (typeof module !== "undefined") module.exports = { pareto, fits, best, fold, ticks, short, bestOfEqual, interval };
if (typeof document !== "undefined") start(JSON.parse(document.getElementById("data").textContent));

function start({ points, colours }) {
  const at = id => document.getElementById(id);
  const costs = Object.keys(COSTS).filter(c => points.some(p => OURS.has(p.kind) && p[c] > 0));
  const state = { axis: costs[0], metric: "rank1", scale: "log", off: new Set(), limits: {}, sort: "rank1", up: false, all: false };
  const INK = "#1d1f21", QUIET = "#66696d", GRID = "#e8e8e4";  // in dark mode the plot is inverted

  for (const c of costs) at("axis").add(new Option(COSTS[c], c));
  for (const key of ["axis", "metric", "scale"])
    at(key).onchange = e => { state[key] = e.target.value; draw(); };
  const groups = [...Object.keys(colours)];
  if (points.some(p => p.kind === "reference")) groups.push("references");
  if (points.some(p => p.kind === "published")) groups.push("published");
  if (points.some(p => p.kind === "reranked")) { groups.push("re-ranked"); state.off.add("re-ranked"); }
  for (const group of groups) at("methods").append(toggle(group));
  for (const c of costs) if (!MORE_IS_BETTER.has(c) && varies(c)) at("limits").append(slider(c));
  at("limits").hidden = at("best").hidden = at("limits").children.length < 2;
  const streams = points.filter(p => p.kind === "stream").length;
  at("all").parentNode.hidden = streams === fold(points).filter(p => p.kind === "stream").length;
  at("all").onchange = e => { state.all = e.target.checked; draw(); };
  at("count").textContent = streams;
  let resized = 0;
  window.onresize = () => { cancelAnimationFrame(resized); resized = requestAnimationFrame(draw); };
  draw();

  function varies(cost) {
    return new Set(points.filter(p => OURS.has(p.kind) && p[cost] > 0).map(p => p[cost])).size > 1;
  }

  function groupOf(p) {
    return { reference: "references", published: "published", reranked: "re-ranked" }[p.kind] || p.method;
  }

  function toggle(group) {
    const label = make("label"), box = make("input"), dot = make("i");
    box.type = "checkbox";
    box.checked = !state.off.has(group);
    box.onchange = () => { state.off[box.checked ? "delete" : "add"](group); draw(); };
    dot.style.background = colours[group] || "#fff";
    dot.style.border = `1.5px solid ${colours[group] || QUIET}`;
    label.append(box, dot, group);
    return label;
  }

  function slider(cost) {
    const values = points.filter(p => OURS.has(p.kind) && p[cost] > 0).map(p => p[cost]);
    const low = Math.min(...values), high = Math.max(...values);
    const label = make("label"), value = make("b"), input = make("input");
    Object.assign(input, { type: "range", min: 0, max: 1000, value: 1000 });
    value.textContent = "any";
    input.oninput = () => {
      const bound = low * (high / low) ** (input.value / 1000);
      if (+input.value === 1000) delete state.limits[cost];
      else state.limits[cost] = bound * (1 + 1e-9);
      value.textContent = +input.value === 1000 ? "any" : `≤ ${costText(cost, Math.floor(bound) || bound)}`;
      draw();
    };
    label.append(COSTS[cost], value, input);
    return label;
  }

  function draw() {
    const { axis, metric, limits } = state;
    const visible = points.filter(p => !state.off.has(groupOf(p)));
    const won = Object.keys(limits).length ? best(visible, limits, metric) : null;
    const front = pareto(visible, axis, metric);
    plot(visible.filter(p => p[axis] > 0 && known(p, axis, metric)), front, won);
    showBest(won);
    tabulate(visible, new Set(front), won);
  }

  function plot(shown, front, won) {
    const { axis, metric, limits } = state, log = state.scale === "log", svg = at("plot");
    const BOX = size(svg);
    svg.replaceChildren();
    if (!shown.length) { put(svg, "text", { x: BOX.right / 2, y: BOX.bottom / 2, "text-anchor": "middle" }, "no point has this cost"); return; }
    // a reference may cost far less than the rest: it is drawn in a strip at the edge
    const ours = shown.filter(p => p.kind !== "reference");
    const xs = (ours.length ? ours : shown).map(p => p[axis]), ys = shown.flatMap(p => [p[metric], p[metric + "_min"] ?? p[metric], p[metric + "_max"] ?? p[metric]]);
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)], [y0, y1] = [Math.min(...ys), Math.max(...ys)];
    if (log) { const pad = (x1 / x0) ** .05 * (x1 === x0 ? 1.5 : 1); x0 /= pad; x1 *= pad; } else { x0 = 0; x1 *= 1.05; }
    const padY = .06 * (y1 - y0 || .1);
    y0 = Math.max(0, y0 - padY); y1 = Math.min(1, y1 + padY);
    const f = log ? Math.log : v => v;
    const strip = shown.some(p => p[axis] < x0) ? Math.min(120, .2 * BOX.right) : 0, start = BOX.left + strip;
    const X = v => v < x0 ? BOX.left + 9 : start + (f(v) - f(x0)) / (f(x1) - f(x0)) * (BOX.right - start);
    const Y = v => BOX.bottom - (v - y0) / (y1 - y0) * (BOX.bottom - BOX.top);
    const path = (line, step) => line.map((p, i) => (i === 0 ? "M" : step ? `H${X(p[axis])}V` : "L")
      + (i && step ? Y(p[metric]) : `${X(p[axis])},${Y(p[metric])}`)).join("");

    for (const v of ticks(x0, x1, log)) {
      put(svg, "path", { d: `M${X(v)},${BOX.top}V${BOX.bottom}`, stroke: GRID });
      put(svg, "text", { x: X(v), y: BOX.bottom + 18, "text-anchor": "middle", class: "tick" }, short(v));
    }
    for (const v of ticks(100 * y0, 100 * y1, false)) {
      put(svg, "path", { d: `M${BOX.left},${Y(v / 100)}H${BOX.right}`, stroke: GRID });
      put(svg, "text", { x: BOX.left - 8, y: Y(v / 100) + 4, "text-anchor": "end", class: "tick" }, short(v));
    }
    put(svg, "text", { x: (BOX.left + BOX.right) / 2, y: BOX.bottom + 42, "text-anchor": "middle" }, COSTS[axis]);
    put(svg, "text", { x: -(BOX.top + BOX.bottom) / 2, y: 14, "text-anchor": "middle", transform: "rotate(-90)" },
      `${metric === "rank1" ? "Rank-1" : "mAP"} (%)`);
    if (strip) put(svg, "path", { d: `M${start},${BOX.top}V${BOX.bottom}`, stroke: QUIET, "stroke-dasharray": "2 3" });
    put(svg, "path", { d: path(front, true), fill: "none", stroke: INK, "stroke-dasharray": "5 3" });

    const lines = new Map();
    for (const p of shown.filter(p => OURS.has(p.kind))) {
      const key = `${p.kind} ${p.method}`;
      lines.set(key, [...(lines.get(key) || []), p]);
    }
    for (const line of lines.values()) {
      line.sort((a, b) => a[axis] - b[axis]);
      const [{ kind, method }] = line;
      const dashes = () => bestOfEqual(line, axis, metric).map(p => `M${X(p[axis]) - 8},${Y(p[metric])}h16`).join("");
      const d = !STEPPED.has(axis) ? path(line) : kind === "stream" ? dashes() : "";
      put(svg, "path", { d, fill: "none", stroke: colours[method], "stroke-width": kind === "stream" ? 2.5 : 1 });
    }
    const dots = shown.filter(p => p.kind !== "stream" && p.kind !== "reference").map(p => [X(p[axis]) - 6, Y(p[metric]) - 6, X(p[axis]) + 6, Y(p[metric]) + 6]);
    const written = [];  // boxes of names: without room a name is in the tooltip only
    const clear = (box, others) => others.every(b => b[0] >= box[2] || box[0] >= b[2] || b[1] >= box[3] || box[1] >= b[3]);
    const write = (x, y, text, always) => {
      const wide = 6 * text.length;
      const places = [[x + 9, y + 4], [x - 9 - wide, y + 4], [x - wide / 2, y - 10], [x - wide / 2, y + 18],
        [x + 9, y - 10], [x + 9, y + 18]];
      const boxed = ([left, base]) => [left, base - 9, left + wide, base + 3];
      const inside = box => box[0] >= BOX.left && box[2] <= BOX.right + 12 && box[3] <= BOX.bottom + 4;
      const free = places.find(place => inside(boxed(place)) && clear(boxed(place), [...written, ...dots]));
      const [left, base] = free || (always ? places[0] : []);
      if (left === undefined) return;
      written.push(boxed([left, base]));
      put(svg, "text", { x: left, y: base, class: "quiet" }, text);
    };
    for (const p of [...shown].sort((a, b) => (a.kind === "exit") - (b.kind === "exit"))) {
      const x = X(p[axis]), y = Y(p[metric]), ours = OURS.has(p.kind), mark = put(svg, "g", {});
      if (!fits(p, limits)) mark.setAttribute("class", "out");
      if (p.kind === "exit" && p[metric + "_max"] > p[metric + "_min"])
        put(mark, "path", { d: `M${x},${Y(p[metric + "_min"])}V${Y(p[metric + "_max"])}`, stroke: colours[p.method] });
      const hollow = { fill: "#fff", stroke: p.kind === "published" ? QUIET : INK, "stroke-width": 1.4 };
      if (p.kind === "published") put(mark, "path", { d: `M${x},${y - 5}l5,5l-5,5l-5,-5z`, ...hollow });
      else if (p.kind === "stream") put(mark, "circle", { cx: x, cy: y, r: 2.2, fill: front.includes(p) ? INK : colours[p.method] });
      else put(mark, "circle", {
        cx: x, cy: y, r: p.kind === "exit" ? 6 : 5,
        ...(ours ? { fill: colours[p.method] } : hollow),
        ...(front.includes(p) ? { stroke: INK, "stroke-width": 1.5 } : {}),
      });
      if (p === won) put(mark, "circle", { cx: x, cy: y, r: 11, fill: "none", stroke: "#2f5f8f", "stroke-width": 3 });
      mark.onmousemove = e => tip(p, e);
      mark.onmouseleave = () => { at("tip").hidden = true; };
    }
    // a reference may have several image sizes: the best one is named
    const references = shown.filter(p => p.kind === "reference");
    for (const p of references.filter(p => !references.some(r => r.method === p.method && r[metric] > p[metric])))
      write(X(p[axis]), Y(p[metric]), p[axis] < x0 ? `◂ ${p.method}` : p.method, p[axis] < x0);
    const exits = shown.filter(p => p.kind === "exit");
    for (const p of exits.sort((a, b) => front.includes(b) - front.includes(a) || b[metric] - a[metric]))
      write(X(p[axis]), Y(p[metric]), exits.some(e => e !== p && e.method === p.method) ? p.point : named(p));
    for (const p of shown.filter(p => p.kind === "published")) write(X(p[axis]), Y(p[metric]), p.method);
  }

  /** Fit the plot to the free width, and to the height of the controls next to it; returns the box of the axes. */
  function size(svg) {
    const room = svg.parentNode.clientWidth - 32, controls = at("controls");
    const beside = controls.offsetTop === svg.parentNode.offsetTop;
    const width = Math.max(300, room), height = beside ? Math.max(460, controls.offsetHeight - 34) : Math.max(320, .75 * width);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    return { left: 56, right: width - 16, top: 16, bottom: height - 50 };
  }

  function facts(p) {
    const found = [["Rank-1", "rank1"], ["mAP", "mAP"]].map(([name, metric]) =>
      `${name} ${percent(p[metric])}${interval(p, metric) && `, 95% CI ${interval(p, metric)}`}`);
    if (p.rank1_max > p.rank1_min) found[0] += ` (seeds: ${percent(p.rank1_min)} to ${percent(p.rank1_max)})`;
    for (const c of Object.keys(COSTS)) if (known(p, c)) found.push(`${COSTS[c]}: ${costText(c, p[c])}`);
    if (p.views > 1) found.push(`costs of one of ${p.views} views`);
    if (p.kind === "stream") found.push(`planned ${short(p.planned)} Mul-Adds`);
    for (const key of ["seeds", "source", "note", "measured_on"]) if (p[key]) found.push(key === "note" ? p.note : `${key.replace("_", " ")} ${p[key]}`);
    return found;
  }

  function tip(p, event) {
    const box = at("tip"), frame = at("plot").getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    box.textContent = [named(p), ...facts(p)].join("\n");
    box.hidden = false;
    box.style.left = `${x > frame.width / 2 ? x - box.offsetWidth : x + 28}px`;
    box.style.top = `${Math.max(0, Math.min(y, frame.height - box.offsetHeight))}px`;
  }

  function showBest(won) {
    const box = at("best");
    box.replaceChildren();
    if (!Object.keys(state.limits).length) { box.textContent = "Move a slider: the best under the budget is shown here."; return; }
    if (!won) { box.textContent = "Nothing fits this budget."; return; }
    box.append(make("strong", named(won)), `${percent(won.rank1)} Rank-1, ${percent(won.mAP)} mAP at ${short(won.mul_adds)} Mul-Adds`);
    if (won.kind === "stream") box.append(`, planned ${short(won.planned)}`);
    if (won.kind === "stream" && won.note) box.append(`, ${won.note}`);
    if (won.deploy) box.append(make("code", won.deploy));
  }

  function tabulate(visible, front, won) {
    const { limits } = state, columns = ["point", "rank1", "mAP", ...costs, "seeds", "source"];
    const heads = { point: "Exit or stream", rank1: "Rank-1", mAP: "mAP", seeds: "Seeds", source: "Source", ...COSTS };
    const used = columns.filter(c => visible.some(p => p[c] !== "" && p[c] !== null));
    const text = (p, c) => c === "rank1" || c === "mAP" ? percent(p[c])
      : c in COSTS ? known(p, c) ? costText(c, p[c]) : "–"
      : p[c];
    const key = p => (state.sort === "point" ? `${p.method} ${p.point}` : p[state.sort]) ?? (state.up ? Infinity : -Infinity);
    const few = new Set(state.all ? visible : fold(visible));
    const rows = visible.filter(p => few.has(p) || p === won).sort((a, b) => (state.up ? 1 : -1) * (key(a) > key(b) ? 1 : key(a) < key(b) ? -1 : 0));
    const head = make("tr");
    for (const c of used) {
      const cell = make("th", heads[c].replace("-", "\u2011"));
      if (c === state.sort) cell.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      cell.onclick = () => { state.up = c === state.sort ? !state.up : c in COSTS || c === "point"; state.sort = c; draw(); };
      head.append(cell);
    }
    const body = rows.map(p => {
      const row = make("tr");
      row.className = p === won ? "won" : fits(p, limits) ? "" : "out";
      row.append(...used.map(c => c === "point" ? name(p, front.has(p)) : value(text(p, c), interval(p, c))));
      return row;
    });
    at("table").replaceChildren(head, ...body);
  }

  /** The exit, or the policy and its planned budget; below it the method. */
  function name(p, best) {
    const cell = make("td"), own = p.point && p.point !== p.method;
    const what = p.kind === "stream" ? `${p.point}, planned ${short(p.planned)}` : own ? p.point : p.method;
    cell.append(make("b", best ? `● ${what}` : what));
    if (own || p.kind === "stream") cell.append(make("small", p.method));
    return cell;
  }

  /** A cell, with the interval below an accuracy. */
  function value(text, below) {
    const cell = make("td", text), small = make("small", below);
    small.title = "95% confidence interval";
    if (below) cell.append(small);
    return cell;
  }

  function make(tag, text) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function put(parent, tag, attributes, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
}
