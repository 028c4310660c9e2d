// The demo page: passages of a text, embedded in this tab, searched as you type and drawn as a map.

import { load, similarity } from "./nestling.js";

const SHOWN = 12; // results
const LIT = 5; // of them, that a line joins to the query
const LONGEST = 420; // characters of a passage
const PIECES = new RegExp(`\\S.{0,${LONGEST - 1}}(?= |$)|\\S.{0,${LONGEST - 1}}`, "gu");
const SHORTEST = 70;
const MOST_PASSAGES = 50_000;
const TRIES = [
  "ghosts in the night",
  "money and greed",
  "shooting a cannon into space",
  "a cold winter evening",
  "the beauty of youth",
];

const $ = (id) => document.getElementById(id);
const [query, status, results, canvas, tip, legend] = ["query", "status", "results", "map", "tip", "legend"].map($);
const still = matchMedia("(prefers-reduced-motion: reduce)");

let model;
let passages = []; // { text, source }, source being an index of `sources`
let sources = [];
let vectors;
let map; // of each passage, where it is drawn
let ranked = []; // indices of the shown passages, the nearest first

// --- from texts to passages ---

/** Paragraphs of a text; long ones are cut where a sentence ends, headings and the like join what follows. */
function passagesOf(text) {
  const found = [];
  let open = "";
  const close = () => {
    if (open) found.push(open);
    open = "";
  };
  for (const block of text.split(/\n\s*\n/)) {
    const sentences =
      block
        .replace(/\s+/g, " ")
        .trim()
        .match(/.+?(?:[.!?…][)"'”’]*(?=\s|$)|$)/g) ?? [];
    for (const sentence of sentences.flatMap(pieces)) {
      if (open.length + sentence.length > LONGEST) close();
      open = `${open} ${sentence}`.trim();
    }
    if (open.length > SHORTEST) close();
  }
  close();
  return found;
}

/** A sentence, cut between words where it is longer than a passage. */
function pieces(sentence) {
  return sentence.match(PIECES) ?? [];
}

/** shelf.txt: a line `# TITLE, AUTHOR` begins a book, of which each line is a passage. */
function readShelf(text) {
  const books = [];
  for (const line of text.trim().split("\n"))
    if (line.startsWith("# ")) books.push({ name: line.slice(2), passages: [] });
    else books.at(-1).passages.push(line);
  return books;
}

/** Embeds the passages of texts: [{ name, passages }]. */
function fill(texts) {
  const all = texts.flatMap((text, source) => text.passages.map((passage) => ({ text: passage, source })));
  passages = all.slice(0, MOST_PASSAGES);
  sources = texts.map((text) => text.name);
  nearestTo = lit = null;
  const start = performance.now();
  vectors = model.encodeDocument(passages.map((passage) => passage.text));
  const took = performance.now() - start;
  map = project(vectors);
  showLegend();
  const left =
    all.length > passages.length
      ? ` The other ${(all.length - passages.length).toLocaleString("en")} were left out.`
      : "";
  say(`${passages.length.toLocaleString("en")} passages embedded in ${took.toFixed(took < 10 ? 1 : 0)} ms.${left}`);
}

async function take(files) {
  const texts = [];
  for (const file of files) {
    const text = await file.text();
    if (text.includes("\0"))
      return say(`${file.name} is no text. A text file was expected: save it as .txt or .md first.`, true);
    texts.push({ name: file.name, passages: passagesOf(text) });
  }
  return takeTexts(texts);
}

function takeTexts(texts) {
  if (!texts.some((text) => text.passages.length))
    return say("There is no text in it. A passage or more was expected: drop another file.", true);
  fill(texts);
  search();
}

// --- search ---

let nearestTo = null; // the passage that others are compared with, instead of the query

function search() {
  const text = query.value.trim();
  const start = performance.now();
  const asked = nearestTo !== null ? vectors.at(nearestTo) : model.encodeQuery(text);
  const scores = similarity(asked, vectors);
  ranked = best(scores, SHOWN);
  const took = performance.now() - start;
  const nothing = asked.every((value) => value === 0);
  if (nothing) ranked = [];
  showResults(scores, text);
  moveStar(nothing ? null : amongNearest(scores));
  canvas.ariaLabel = describe(text);
  if (!nothing)
    $("found-title").textContent =
      `Nearest of ${passages.length.toLocaleString("en")} passages, found in ${took.toFixed(2)} ms`;
  else $("found-title").textContent = "Nearest passages";
}

/** Indices of the highest scores, falling. */
function best(scores, count) {
  const found = [];
  for (let i = 0; i < scores.length; i++) {
    if (found.length === count && scores[i] <= scores[found[count - 1]]) continue;
    let at = found.length;
    while (at > 0 && scores[found[at - 1]] < scores[i]) at--;
    found.splice(at, 0, i);
    if (found.length > count) found.pop();
  }
  return found;
}

function showResults(scores, text) {
  const hint = text
    ? "No word of this is known to the model. Try others."
    : "Type a few words. What is near in meaning comes first.";
  const items = ranked.map((index) => resultOf(index, scores[index]));
  results.replaceChildren(...(items.length ? items : [element("li", { className: "none", textContent: hint })]));
}

function resultOf(index, score) {
  const { text, source } = passages[index];
  const hue = hueOf(source);
  const bar = element("span", { className: "bar", ariaHidden: "true" }, [
    element("i", { style: `width:${Math.max(0, Math.min(1, score)) * 100}%` }),
  ]);
  const like = element("button", {
    className: "like",
    type: "button",
    textContent: "More like this",
    onclick: () => askLike(index),
  });
  const meta = element("div", { className: "meta" }, [
    element("span", {
      className: "score",
      textContent: score.toFixed(2),
      title: "Cosine similarity: 1 is the same direction",
    }),
    bar,
    element("span", { className: "source", textContent: sources[source] }),
    like,
  ]);
  const item = element("li", { className: "result", style: `--hue:${hue}` }, [
    element("p", { textContent: text }),
    meta,
  ]);
  item.dataset.index = index;
  item.onmouseenter = () => light(index);
  item.onmouseleave = () => light(null);
  like.onfocus = () => light(index);
  like.onblur = () => light(null);
  return item;
}

function ask(text) {
  nearestTo = null;
  query.value = text;
  search();
}

/** Compares all with one passage, and goes to where it stands: at the top. */
function askLike(index) {
  nearestTo = index;
  query.value = shorten(passages[index].text, 60);
  search();
  results.firstElementChild.classList.add("lit");
  results.focus({ preventScroll: true });
  results.scrollIntoView({ block: "nearest", behavior: still.matches ? "auto" : "smooth" });
}

// --- the map: two directions in which the passages differ most ---

/** Where each vector lies on the axes of all: [x, y], each from 0 to 1. */
function project(vectors) {
  const { dim } = vectors;
  const mean = new Float32Array(dim);
  for (const vector of vectors) for (let d = 0; d < dim; d++) mean[d] += vector[d] / vectors.length;
  const axes = [];
  for (let k = 0; k < 2; k++) axes.push(principal(vectors, mean, axes));
  const spreads = axes.map((axis) => spread(Float32Array.from(vectors, (vector) => along(vector, mean, axis))));
  return Array.from(vectors, (vector) => axes.map((axis, k) => spreads[k](along(vector, mean, axis))));
}

/** The direction of the largest variance, orthogonal to `others`, by power iteration over at most 2,000 vectors. */
function principal(vectors, mean, others) {
  const { dim, length } = vectors;
  const step = Math.max(1, Math.floor(length / 2000));
  let axis = Float32Array.from({ length: dim }, (_, d) => Math.sin(d + 1 + others.length));
  for (let round = 0; round < 24; round++) {
    const next = new Float32Array(dim);
    for (let i = 0; i < length; i += step) {
      const vector = vectors.at(i);
      const size = along(vector, mean, axis);
      for (let d = 0; d < dim; d++) next[d] += size * (vector[d] - mean[d]);
    }
    for (const other of others) {
      const share = dot(next, other);
      for (let d = 0; d < dim; d++) next[d] -= share * other[d];
    }
    const size = Math.hypot(...next) || 1;
    axis = next.map((value) => value / size);
  }
  return axis;
}

function dot(a, b) {
  let sum = 0;
  for (let d = 0; d < a.length; d++) sum += a[d] * b[d];
  return sum;
}

function along(vector, mean, axis) {
  let sum = 0;
  for (let d = 0; d < axis.length; d++) sum += (vector[d] - mean[d]) * axis[d];
  return sum;
}

/** A rising function from values to 0..1: half by size, half by rank, so that crowds in the middle come apart. */
function spread(values) {
  const sorted = values.slice().sort();
  const last = sorted.length - 1;
  const low = sorted[Math.floor(last * 0.01)];
  const high = sorted[Math.ceil(last * 0.99)];
  const rank = (value) => {
    let from = 0;
    let to = sorted.length;
    while (from < to) {
      const middle = (from + to) >> 1;
      if (sorted[middle] < value) from = middle + 1;
      else to = middle;
    }
    return last > 0 ? from / sorted.length : 0.5;
  };
  const size = (value) => (high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5);
  return (value) => (size(value) + rank(value)) / 2;
}

/** Where the query stands: between the passages nearest to it, closer to the closer ones. */
function amongNearest(scores) {
  const near = ranked.slice(0, LIT);
  const weights = near.map((index) => Math.exp(12 * scores[index]));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return [0, 1].map((k) => near.reduce((sum, index, i) => sum + (weights[i] / total) * map[index][k], 0));
}

let star = null; // where the query is drawn
let lit = null; // the passage under the pointer
let frame = 0;

function moveStar(to) {
  cancelAnimationFrame(frame);
  const from = star;
  if (!to || !from || still.matches) {
    star = to;
    return draw();
  }
  const start = performance.now();
  const tick = (now) => {
    const t = Math.min(1, Math.max(0, (now - start) / 260));
    const eased = 1 - (1 - t) ** 3;
    star = from.map((value, k) => value + (to[k] - value) * eased);
    draw();
    if (t < 1) frame = requestAnimationFrame(tick);
  };
  frame = requestAnimationFrame(tick);
}

/** Lights a passage up, on the map and in the list. */
function light(index) {
  lit = index;
  for (const item of results.children)
    item.classList.toggle("lit", index !== null && Number(item.dataset.index) === index);
  showTip();
  draw();
}

const MARGIN = 22;
const pixels = ([x, y]) => [
  MARGIN + x * (canvas.clientWidth - 2 * MARGIN),
  MARGIN + (1 - y) * (canvas.clientHeight - 2 * MARGIN),
];

function draw() {
  if (!map) return;
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth * scale, canvas.clientHeight * scale].map(Math.round);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  drawPoints(pen);
  if (star) drawStar(pen);
  if (lit !== null) disc(pen, pixels(map[lit]), 6.5, hueOf(passages[lit].source), 1, colour("--ink"));
}

function drawPoints(pen) {
  const near = new Set(star ? ranked : []);
  const size = Math.max(1.4, Math.min(3.6, 70 / Math.sqrt(passages.length)));
  map.forEach((point, i) => {
    if (!near.has(i)) disc(pen, pixels(point), size, hueOf(passages[i].source), star ? 0.34 : 0.7);
  });
}

function drawStar(pen) {
  const at = pixels(star);
  pen.lineWidth = 1;
  pen.strokeStyle = colour("--accent");
  ranked.slice(0, LIT).forEach((index, rank) => {
    pen.globalAlpha = 0.75 - rank * 0.12;
    pen.beginPath();
    pen.moveTo(...at);
    pen.lineTo(...pixels(map[index]));
    pen.stroke();
  });
  ranked.forEach((index, rank) =>
    disc(pen, pixels(map[index]), rank < LIT ? 5 : 4, hueOf(passages[index].source), 1),
  );
  disc(pen, at, 11, colour("--accent"), 0.18);
  disc(pen, at, 4.5, colour("--card"), 1, colour("--accent"));
}

function disc(pen, [x, y], radius, fill, alpha, stroke) {
  pen.globalAlpha = alpha;
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 7);
  pen.fill();
  if (!stroke) return;
  pen.lineWidth = 2;
  pen.strokeStyle = stroke;
  pen.stroke();
}

/** The passage that is drawn nearest to a place on the canvas, if one is near. */
function under({ offsetX, offsetY }) {
  let found = null;
  let least = 14 ** 2;
  map?.forEach((point, i) => {
    const [x, y] = pixels(point);
    const far = (x - offsetX) ** 2 + (y - offsetY) ** 2 - (ranked.includes(i) ? 30 : 0);
    if (far < least) [found, least] = [i, far];
  });
  return found;
}

function showTip() {
  tip.hidden = lit === null || document.activeElement?.classList.contains("like") || results.matches(":hover");
  if (tip.hidden) return;
  const { text, source } = passages[lit];
  tip.replaceChildren(element("b", { textContent: sources[source] }), shorten(text, 170));
  const [x, y] = pixels(map[lit]);
  const left = Math.min(Math.max(8, x - tip.offsetWidth / 2), canvas.clientWidth - tip.offsetWidth - 8);
  const above = y > canvas.clientHeight / 2;
  Object.assign(tip.style, {
    left: `${left}px`,
    top: above ? "" : `${y + 14}px`,
    bottom: above ? `${canvas.clientHeight - y + 14}px` : "",
  });
}

function describe(text) {
  const near = ranked.slice(0, LIT).map((index) => sources[passages[index].source]);
  const about = ranked.length ? ` “${text}” lies nearest to passages of ${[...new Set(near)].join("; ")}.` : "";
  const keys = "Arrow keys go through the nearest, Enter asks for more like one.";
  return `A map of ${passages.length} passages.${about} ${keys}`;
}

// --- small things ---

function element(tag, properties, children = []) {
  const made = document.createElement(tag);
  const { style, ...others } = properties;
  if (style) made.style.cssText = style;
  Object.assign(made, others);
  made.append(...children);
  return made;
}

let colours = {};
const colour = (name) => (colours[name] ??= getComputedStyle(document.documentElement).getPropertyValue(name).trim());
const hueOf = (source) => colour(`--hue-${source % 8}`);
const shorten = (text, most) =>
  text.length > most ? `${text.slice(0, text.lastIndexOf(" ", most) || most)} …` : text;

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

function showLegend() {
  const listed = sources
    .slice(0, 12)
    .map((name, i) => element("li", { textContent: name.split(", ")[0], style: `--hue:${hueOf(i)}` }));
  if (sources.length > 12)
    listed.push(element("li", { textContent: `and ${sources.length - 12} more`, style: "--hue:none" }));
  legend.replaceChildren(...listed);
}

// --- what the user does ---

function listen(shelf) {
  query.oninput = () => ask(query.value);
  query.form.onsubmit = (event) => event.preventDefault();
  document
    .querySelector(".tries")
    .append(
      ...TRIES.map((text) =>
        element("li", {}, [element("button", { type: "button", textContent: text, onclick: () => ask(text) })]),
      ),
    );
  $("pasted").oninput = () =>
    $("pasted").value.trim() && takeTexts([{ name: "Your text", passages: passagesOf($("pasted").value) }]);
  $("files").onchange = () => take($("files").files);
  $("shelf").onclick = () => {
    $("pasted").value = "";
    $("files").value = "";
    takeTexts(shelf);
  };
  listenToMap();
  listenToKeys();
  listenToDrops();
  matchMedia("(prefers-color-scheme: dark)").onchange = () => {
    colours = {};
    showLegend();
    search();
  };
  new ResizeObserver(draw).observe(canvas);
}

function listenToMap() {
  canvas.onpointermove = (event) => {
    const found = under(event);
    canvas.style.cursor = found === null ? "" : "pointer";
    if (found !== lit) light(found);
  };
  canvas.onpointerleave = () => light(null);
  canvas.onclick = (event) => {
    const found = under(event);
    if (found !== null) askLike(found);
  };
  canvas.onblur = () => light(null);
  canvas.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && ranked.length) {
      const at = ranked.indexOf(lit);
      light(ranked[(at + step + ranked.length + (at < 0 && step < 0 ? 1 : 0)) % ranked.length]);
      event.preventDefault();
    } else if (event.key === "Enter" && lit !== null) askLike(lit);
  };
}

function listenToKeys() {
  document.onkeydown = (event) => {
    const typing = event.target.matches("input, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      query.select();
      event.preventDefault();
    }
  };
  query.onkeydown = (event) => {
    if (event.key === "ArrowDown") results.querySelector("button")?.focus();
    if (event.key === "Escape") ask("");
  };
  results.onkeydown = (event) => {
    const buttons = [...results.querySelectorAll("button")];
    const to = buttons.indexOf(document.activeElement) + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] ?? NaN);
    if (Number.isNaN(to)) return;
    (buttons[to] ?? (to < 0 ? query : buttons.at(-1))).focus();
    event.preventDefault();
  };
}

function listenToDrops() {
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    $("drop").hidden = false;
  };
  document.ondragenter = over;
  document.ondragover = over;
  document.ondragleave = (event) => ($("drop").hidden = event.relatedTarget === null || $("drop").hidden);
  document.ondrop = (event) => {
    $("drop").hidden = true;
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    take(event.dataTransfer.files);
  };
}

async function main() {
  try {
    // Beside this page where it is deployed; else where the repository has it.
    const beside = (await fetch("nano.nest", { method: "HEAD" })).ok;
    const [loaded, shelf] = await Promise.all([
      load(beside ? "nano.nest" : "../src/nestling/models/nano.nest"),
      fetch("shelf.txt")
        .then((response) => response.text())
        .then(readShelf),
    ]);
    model = loaded;
    fill(shelf);
    listen(shelf);
    query.disabled = false;
    search();
    if (matchMedia("(hover: hover) and (pointer: fine)").matches) query.select();
    document.documentElement.dataset.ready = "";
  } catch (error) {
    say(error.message, true);
  }
}

main();
