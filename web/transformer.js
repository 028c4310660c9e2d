// A small transformer: rows of a table, weighed by blocks that see the whole text, in the core as in Python, to the bit.

import { buildBlocks } from "./blocks.js";
import { Room, buildTable } from "./core.js";
import { layOut } from "./layout.js";
import { Model } from "./model.js";
import { damaged, fail, quote } from "./nest.js";

const MOST_TOKENS = 65_536; // of a text
const TOKENS_AT_ONCE = 16_384; // about, of texts that are read in one go
const MOST_REPEATS = 255; // of a token in a text; further ones weigh what the last of these does
const BODY = "body."; // before the names of the weights
const BESIDE = /^(graph$|body\.)/; // tensors that are not the table's; the graph is for other runtimes

/** A model of what a file holds. checkOthers: of tensors that are not needed here. */
export function loadTransformer(core, document, tensors, checkOthers, dim) {
  if (!core.has("blocks_read"))
    fail(
      "A nestling.wasm without transformers was given.",
      "This model needs nestling-transformer.wasm.",
      "Pass that one as wasm, or none.",
    );
  checkTasks(document);
  const body = new Map();
  const own = new Map([...tensors].filter(([name]) => !BESIDE.test(name)));
  for (const [name, tensor] of tensors) if (name.startsWith(BODY)) body.set(name.slice(BODY.length), tensor);
  const layout = layOut({ scheme: document.scheme, dim: document.inner }, own);
  checkOthers(document, own, layout.size);
  for (const id of Object.values(document.task_tokens))
    if (id >= layout.size) damaged(`the task's id ${id} and a table of ${layout.size} rows`);
  buildTable(core, layout, { ...document, pooling: "mean" });
  const vector = buildBlocks(core, body, document.inner, document.head, document.max_tokens);
  if (vector < document.dim) damaged(`blocks that give ${vector} columns, and dim ${document.dim}`);
  return new TransformerModel(core, new Room(core, 1), document, dim, vector);
}

function checkTasks({ inner, head, max_tokens: most, prompts, task_tokens: tokens, routes }) {
  if (!inner || !head || most === null || most < 2 || most > MOST_TOKENS)
    damaged(`a transformer without inner, head, or a limit of 2 to ${MOST_TOKENS} tokens`);
  if (Object.keys(tokens).some((task) => Object.hasOwn(prompts, task))) damaged("a task with a prompt and a token");
  for (const [role, task] of Object.entries(routes))
    if (!["query", "document", "text"].includes(role) || !(Object.hasOwn(tokens, task) || Object.hasOwn(prompts, task)))
      damaged(`a route of ${quote(role)} to ${quote(task)}`);
}

class TransformerModel extends Model {
  usualOverflow = "split";
  #core;
  #vector;

  constructor(core, room, document, dim, vector) {
    super(room, document, dim);
    this.#core = core;
    this.#vector = vector;
  }

  /** Writes the vectors of texts into `data`; how many were cut. */
  fill(data, texts, { dim, task, prompt, normalize, overflow, errors }) {
    const { pieces, cut } = this.#pieces(this.#tokens(texts, prompt, errors), task, overflow);
    const sums = new Float32Array(texts.length * this.#vector);
    const counts = new Uint32Array(texts.length);
    for (const batch of batches(pieces)) {
      const found = this.#read(batch);
      batch.forEach(({ owner, ids }, i) => {
        const sum = sums.subarray(owner * this.#vector, (owner + 1) * this.#vector);
        for (let d = 0; d < sum.length; d++) sum[d] += found[i * this.#vector + d];
        counts[owner] += ids.length;
      });
    }
    if (!sums.every(Number.isFinite)) damaged("weights that give values which are not finite");
    this.#finish(sums, counts, dim, normalize, data);
    return cut;
  }

  /** The ids of the tokens of each text, without those that are dropped. */
  #tokens(texts, prompt, errors) {
    const drop = new Set(this.document.drop);
    const found = [];
    this.room.pass(texts, prompt, errors, (_, n, ascii) => {
      const counts = this.room.count(n, ascii).slice();
      const ids = this.#numbers(
        counts.reduce((sum, count) => sum + count, 0),
        (place) => this.room.count(n, ascii, place),
      );
      let start = 0;
      for (const count of counts) found.push(ids.subarray(start, (start += count)).filter((id) => !drop.has(id)));
    });
    return found;
  }

  /** As many whole numbers as `write` writes to the place in the core that it gets. */
  #numbers(size, write) {
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

  /** The sums of pieces over their tokens, end to end. */
  #read(pieces) {
    const core = this.#core;
    const lengths = Uint32Array.from(pieces, ({ ids }) => ids.length);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const ids = new Uint32Array(total);
    const weights = new Float32Array(total);
    let place = 0;
    for (const piece of pieces) {
      ids.set(piece.ids, place);
      weights.set(piece.weights, place);
      place += piece.ids.length;
    }
    const out = core.allocate(pieces.length * this.#vector * 4);
    core.call("blocks_read", core.put(ids), core.put(weights), core.put(lengths), pieces.length, out);
    const sums = new Float32Array(core.buffer, out, pieces.length * this.#vector).slice();
    core.release();
    core.release([out]);
    return sums;
  }

  /** Sums of rows -> unit length, or means of as many as `counts` says; zeros stay zeros. */
  #finish(sums, counts, dim, normalize, data) {
    const core = this.#core;
    const place = core.allocate(this.#vector * 4);
    for (let i = 0; i < counts.length; i++) {
      new Float32Array(core.buffer, place, dim).set(sums.subarray(i * this.#vector, i * this.#vector + dim));
      core.call("finish", place, dim, counts[i], normalize, place);
      data.set(new Float32Array(core.buffer, place, dim), i * dim);
    }
    core.release([place]);
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

/** Pieces for one go each, in their order. */
function* batches(pieces) {
  for (let start = 0, stop = 0; start < pieces.length; start = stop) {
    for (let tokens = 0; stop < pieces.length && tokens < TOKENS_AT_ONCE; stop++) tokens += pieces[stop].ids.length;
    yield pieces.slice(start, stop);
  }
}
