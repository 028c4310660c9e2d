// A small transformer: rows of a table, through a graph that onnxruntime-web runs, and their mean.
//
// As in Python, texts run in parts of one padded length, a multiple of eight tokens, and never alone, so that a text gives the
// same bits in any batch. Python's own differ in the last ones: onnxruntime adds up in another order there.

import { Room, buildTable } from "./core.js";
import { fillGraph } from "./graph.js";
import { layOut } from "./layout.js";
import { Model } from "./model.js";
import { damaged, expect, fail, quote } from "./nest.js";

const STEP = 8; // tokens, of which a padded length is a multiple
const TOKENS_AT_ONCE = 4096; // padded
const MOST_REPEATS = 255; // of a token in a text; further ones weigh what the last of these does
const BODY = "body."; // before the names of the weights
const SCALES = ".scales"; // behind that of a matrix in int8
const GRAPH = "graph";
const BESIDE = /^(graph(\.int8)?$|body\.)/; // tensors that are not the table's

/** A model of what a file holds. checkOthers: of tensors that are not needed here. */
export async function loadTransformer(core, document, tensors, checkOthers, dim, onnxruntime) {
  if (typeof onnxruntime?.InferenceSession?.create !== "function")
    fail(
      `${document.name} is a transformer.`,
      "The module onnxruntime-web was expected, which runs it.",
      'Pass it: load(source, { onnxruntime: await import("onnxruntime-web/wasm") }).',
    );
  checkTasks(document);
  const beside = new Map([...tensors].filter(([name]) => BESIDE.test(name)));
  const own = new Map([...tensors].filter(([name]) => !BESIDE.test(name)));
  const layout = layOut({ scheme: document.scheme, dim: document.inner }, own);
  checkOthers(document, own, layout.size);
  for (const id of Object.values(document.task_tokens))
    if (id >= layout.size) damaged(`the task's id ${id} and a table of ${layout.size} rows`);
  buildTable(core, { ...layout, rows: new Int8Array(), dim: 0, factors: 1, coded: null, scales: null }, document);
  const graph = fillGraph(expect(beside, GRAPH, "U8", [null]), weightsOf(beside));
  const session = await openSession(onnxruntime, graph);
  return new TransformerModel(core, new Room(core, 1), document, dim, { onnxruntime, session, layout });
}

function checkTasks({ inner, max_tokens: most, prompts, task_tokens: tokens, routes }) {
  if (!inner || most === null || most < 2) damaged("a transformer without inner, or a limit of at least 2 tokens");
  if (Object.keys(tokens).some((task) => Object.hasOwn(prompts, task))) damaged("a task with a prompt and a token");
  for (const [role, task] of Object.entries(routes))
    if (!["query", "document", "text"].includes(role) || !(Object.hasOwn(tokens, task) || Object.hasOwn(prompts, task)))
      damaged(`a route of ${quote(role)} to ${quote(task)}`);
}

async function openSession(onnxruntime, graph) {
  try {
    const session = await onnxruntime.InferenceSession.create(graph, { executionProviders: ["wasm"] });
    if (session.inputNames.join() !== "rows,mask" || session.outputNames.length !== 1)
      damaged(`a graph of ${session.inputNames.join()}`);
    return session;
  } catch (error) {
    return damaged(`a graph that onnxruntime-web does not run (${String(error.message ?? error).slice(0, 200)})`);
  }
}

/** The weights by the names that the graph has for them, as float32. */
function weightsOf(beside) {
  const weights = new Map();
  for (const [name, { dtype, shape }] of beside) {
    if (!name.startsWith(BODY) || name.endsWith(SCALES)) continue;
    const own = name.slice(BODY.length);
    if (shape.length !== 2 || dtype !== "I8") {
      weights.set(own, expect(beside, name, "F32", shape.length === 2 ? [null, null] : [null]));
      continue;
    }
    const columns = shape[1];
    const scales = expect(beside, name + SCALES, "F32", [columns]);
    weights.set(own, Float32Array.from(expect(beside, name, "I8", [null, null]), (value, i) => value * scales[i % columns]));
  }
  return weights;
}

class TransformerModel extends Model {
  usualOverflow = "split";
  #core;
  #layout;
  #session;
  #onnxruntime;
  #running = Promise.resolve(); // a session runs one batch at a time

  constructor(core, room, document, dim, { onnxruntime, session, layout }) {
    super(room, document, dim);
    this.#core = core;
    this.#layout = layout;
    this.#session = session;
    this.#onnxruntime = onnxruntime;
  }

  /** The tasks that have a prompt, or a token, of their own. */
  get tasks() {
    return [...Object.keys(this.document.prompts), ...Object.keys(this.document.task_tokens)];
  }

  /** The task that is asked for, or that the model's file says. */
  taskOf(role, asked) {
    const { routes } = this.document;
    if (asked === undefined) return Object.hasOwn(routes, role) ? routes[role] : role;
    if (asked && !this.tasks.includes(asked))
      fail(
        `task ${quote(asked)} is not a task of ${this.name}.`,
        `It has ${this.tasks.join(", ") || "none"}.`,
        "Leave task out or choose one.",
      );
    return asked;
  }

  /** Writes the vectors of texts into `data`; a promise of how many were cut. */
  async fill(data, texts, { dim, task, prompt, normalize, overflow, errors }) {
    const { pieces, cut } = this.#pieces(this.#tokens(texts, prompt, errors), task, overflow);
    const sums = new Float32Array(texts.length * dim);
    const counts = new Float64Array(texts.length);
    for (const batch of batches(pieces)) {
      const means = await this.#run(batch.pieces, batch.width);
      batch.pieces.forEach(({ owner, ids }, i) => {
        for (let d = 0; d < dim; d++) sums[owner * dim + d] += means.data[i * means.dim + d] * ids.length;
        counts[owner] += ids.length;
      });
    }
    finish(sums, counts, dim, normalize, data);
    return cut;
  }

  /** The ids of the tokens of each text, without those that are dropped. */
  #tokens(texts, prompt, errors) {
    const drop = new Set(this.document.drop);
    const found = [];
    this.room.pass(texts, prompt, errors, (_, n, ascii) => {
      const counts = this.room.count(n, ascii).slice();
      const ids = this.#read(
        counts.reduce((sum, count) => sum + count, 0),
        (place) => this.room.count(n, ascii, place),
      );
      let start = 0;
      for (const count of counts) found.push(ids.subarray(start, (start += count)).filter((id) => !drop.has(id)));
    });
    return found;
  }

  /** As many whole numbers as `write` writes to the place in the core that it gets. */
  #read(size, write) {
    const place = this.#core.allocate(4 * size + 4);
    write(place);
    const values = new Uint32Array(this.#core.buffer, place, size).slice();
    this.#core.release([place]);
    return values;
  }

  /** Each text in pieces within the limit, the task's id before them, and what each token weighs. */
  #pieces(texts, task, overflow) {
    const { task_tokens: tokens, pooling } = this.document;
    const head = Object.hasOwn(tokens, task) ? [tokens[task]] : [];
    const room = this.maxTokens - head.length;
    const pieces = [];
    let cut = 0;
    texts.forEach((ids, owner) => {
      if (ids.length > room && overflow === "error") this.tooLong(owner);
      if (ids.length > room && overflow === "cut") cut++;
      const weights = pooling === "sublinear" ? repeatWeights(ids) : new Float32Array(ids.length).fill(1);
      const end = overflow === "cut" ? Math.min(ids.length, room) : ids.length;
      for (let first = 0; first < end; first += room) {
        const last = Math.min(first + room, end);
        pieces.push({
          owner,
          ids: [...head, ...ids.subarray(first, last)],
          weights: [...head.map(() => 1), ...weights.subarray(first, last)],
        });
      }
    });
    return { pieces, cut };
  }

  /** The means of pieces, padded to `width` tokens. One alone runs twice, as one among many does. */
  #run(pieces, width) {
    const { inner } = this.document;
    const whole = pieces.length > 1 ? pieces : [...pieces, ...pieces];
    const rows = new Float32Array(whole.length * width * inner);
    const mask = new BigInt64Array(whole.length * width);
    whole.forEach(({ ids, weights }, i) =>
      ids.forEach((id, j) => {
        const place = i * width + j;
        mask[place] = 1n;
        this.#gather(id, weights[j], rows.subarray(place * inner, (place + 1) * inner));
      }),
    );
    const { Tensor } = this.#onnxruntime;
    const given = {
      rows: new Tensor("float32", rows, [whole.length, width, inner]),
      mask: new Tensor("int64", mask, [whole.length, width]),
    };
    this.#running = this.#running.then(
      () => this.#session.run(given),
      () => this.#session.run(given),
    );
    return this.#running.then((outputs) => this.#checked(outputs[this.#session.outputNames[0]], whole.length));
  }

  #checked({ data, dims, type }, texts) {
    if (type !== "float32" || dims.length !== 2 || dims[0] !== texts || dims[1] < this.document.dim)
      damaged(`a graph that gives ${type} of shape ${dims}`);
    if (!data.every(Number.isFinite)) damaged("weights that give values which are not finite");
    return { data, dim: dims[1] };
  }

  /** A token's row times its weight. */
  #gather(id, weight, row) {
    const { rows, dim, places, factors, coded, scales } = this.#layout;
    const start = (places ? places[id] : id) * dim;
    const factor = typeof factors === "number" ? factors : factors[id];
    const own = coded?.[id] ? scales : null;
    for (let d = 0; d < dim; d++) row[d] = Math.fround(rows[start + d] * (own ? own[d] : 1) * factor) * weight;
  }
}

/** What each token weighs where repeats count less: sqrt(k) - sqrt(k - 1), if it is the k-th of its id in its text. */
function repeatWeights(ids) {
  const met = new Map();
  return Float32Array.from(ids, (id) => {
    const times = Math.min((met.get(id) ?? 0) + 1, MOST_REPEATS);
    met.set(id, times);
    return Math.sqrt(times) - Math.sqrt(times - 1);
  });
}

/** Pieces of one padded width, few enough for a run; longest first. */
function* batches(pieces) {
  const byWidth = new Map();
  for (const piece of pieces) {
    const width = Math.ceil(piece.ids.length / STEP) * STEP;
    if (!byWidth.has(width)) byWidth.set(width, []);
    byWidth.get(width).push(piece);
  }
  for (const width of [...byWidth.keys()].sort((a, b) => b - a)) {
    const alike = byWidth.get(width);
    const parts = Math.ceil((alike.length * width) / TOKENS_AT_ONCE);
    for (let part = 0, start = 0; part < parts; part++) {
      const stop = Math.round(((part + 1) * alike.length) / parts);
      if (stop > start) yield { width, pieces: alike.slice(start, stop) };
      start = stop;
    }
  }
}

/** Sums of rows -> unit length, or means of as many as `counts` says; zeros stay zeros. */
function finish(sums, counts, dim, normalize, data) {
  for (let i = 0; i < counts.length; i++) {
    const sum = sums.subarray(i * dim, (i + 1) * dim);
    const squares = sum.reduce((total, value) => total + value * value, 0);
    const divisor = normalize ? Math.sqrt(squares) : counts[i];
    for (let d = 0; d < dim; d++) data[i * dim + d] = divisor > 0 ? sum[d] / divisor : 0;
  }
}
