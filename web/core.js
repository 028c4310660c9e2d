// The core (core/wasm.cpp): an instance of it, the memory in it that is ours, and what goes into it and comes out.

import { damaged, fail, noText, oneOf } from "./nest.js";

/** An instance of the core, and the memory in it that is ours. */
export class Core {
  #exports;
  #held = []; // pointers to give back
  #spent = false;

  constructor(module) {
    const nothing = { proc_exit: () => {}, emscripten_notify_memory_growth: () => {} };
    this.#exports = new WebAssembly.Instance(module, { env: nothing, wasi_snapshot_preview1: nothing }).exports;
    this.#exports._initialize();
  }

  get buffer() {
    return this.#exports.memory.buffer;
  }

  has(name) {
    return name in this.#exports;
  }

  /** A function of the core. It traps only where memory is at its end, and is of no use then. */
  call(name, ...values) {
    if (this.#spent) this.#fail();
    try {
      return this.#exports[name](...values);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      this.#spent = true;
      return this.#fail();
    }
  }

  #fail() {
    fail(
      "The model needs more memory than WebAssembly gives it.",
      "At most 2 GB for a model and its texts was expected.",
      "Load it again, and pass shorter texts.",
    );
  }

  allocate(size) {
    return (size < 2 ** 31 && this.call("allocate", size) >>> 0) || this.#fail();
  }

  /** Copies values into the core. They stay if `kept`, else until `release`. */
  put(values, kept = false) {
    const pointer = this.allocate(values.byteLength || 1);
    new Uint8Array(this.buffer, pointer, values.byteLength).set(
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
    );
    if (!kept) this.#held.push(pointer);
    return pointer;
  }

  /** put, and how many values there are. */
  putAll(values) {
    return [this.put(values), values.length];
  }

  putText(text) {
    return this.putAll(new TextEncoder().encode(text));
  }

  release(pointers = this.#held.splice(0)) {
    for (const pointer of pointers) this.call("release", pointer);
  }

  /** The text at a pointer, up to its NUL. */
  text(pointer) {
    const bytes = new Uint8Array(this.buffer, pointer);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }
}

const MOST_TEXTS = 128; // that are passed at once: few calls, and what they fill stays in the processor's cache
const MOST_UNITS = 32_768;
const KEPT_UNITS = 1 << 20; // of the room for texts: a very long one does not hold memory for ever

/** Where texts go into the core, and vectors come out of it. */
export class Room {
  #core;
  #out;
  #units;
  #cut;
  #texts = 0;
  #capacity = 0;
  #encoder = new TextEncoder();

  constructor(core, dim) {
    this.#core = core;
    this.#out = core.allocate(MOST_TEXTS * dim * 4);
    this.#units = core.allocate(MOST_TEXTS * 4);
    this.#cut = core.allocate(4);
    this.#grow(MOST_UNITS);
  }

  /** Writes the texts into the core, as many at once as fit, and calls step(start, how many, whether all is ASCII). */
  pass(texts, prompt, errors, step) {
    oneOf("errors", errors, ["strict", "replace"]);
    for (let start = 0, n; start < texts.length; start += n) {
      n = this.#measure(texts, start, prompt.length);
      step(start, n, this.#write(texts, start, n, prompt, errors));
    }
    if (this.#capacity > KEPT_UNITS) this.#grow(MOST_UNITS);
  }

  /** How many texts are passed next; their lengths in UTF-16 units are written to #units. */
  #measure(texts, start, more) {
    const stop = Math.min(texts.length, start + MOST_TEXTS);
    const units = new Uint32Array(this.#core.buffer, this.#units, MOST_TEXTS);
    let total = 0;
    let i = start;
    for (; i < stop && total < MOST_UNITS; i++) {
      const text = texts[i];
      if (typeof text !== "string") noText(text, `texts[${i}]`);
      units[i - start] = text.length + more;
      total += text.length + more + 1;
    }
    if (total > this.#capacity) this.#grow(total);
    return i - start;
  }

  // A line end between texts keeps half a character at the end of one from the other half at the start of the next.
  #write(texts, start, n, prompt, errors) {
    const joined = prompt + (n === 1 ? texts[start] : texts.slice(start, start + n).join(`\n${prompt}`));
    const room = new Uint8Array(this.#core.buffer, this.#texts, this.#capacity * 3 + 1);
    const { written } = this.#encoder.encodeInto(joined, room);
    room[written] = 0; // what lies behind from before must not look like the rest of the last character
    if (written === joined.length) return true;
    if (errors === "strict" && !isWellFormed(joined)) this.#findHalf(texts, start);
    return false;
  }

  #findHalf(texts, start) {
    const index = texts.findIndex((text, i) => i >= start && !isWellFormed(text));
    fail(
      `texts[${index}] holds half a character, a lone surrogate.`,
      "Text that UTF-8 can hold was expected.",
      'Decode the source rightly, or pass errors: "replace".',
    );
  }

  #grow(units) {
    if (this.#texts) this.#core.release([this.#texts]);
    this.#texts = this.#capacity = 0; // also where what follows fails
    this.#texts = this.#core.allocate(units * 3 + 32);
    this.#capacity = units;
  }

  /** Embeds the n texts that were written into `data` from `place` on; `how`: the options of the core's `encode`. */
  encode(n, ascii, data, place, dim, ...how) {
    const where = [this.#out, this.#cut];
    const stopped = this.#core.call("encode", this.#texts, this.#units, n, ascii, dim, ...how, ...where);
    data.set(new Float32Array(this.#core.buffer, this.#out, n * dim), place);
    return { stopped, cut: new Uint32Array(this.#core.buffer, this.#cut, 1)[0] };
  }

  /** How many tokens each of the n texts has that were written. */
  count(n, ascii) {
    this.#core.call("count", this.#texts, this.#units, n, ascii, this.#out);
    return new Uint32Array(this.#core.buffer, this.#out, n);
  }
}

/** Whether a string holds no half of a character. */
const isWellFormed =
  "isWellFormed" in String.prototype ? (text) => text.isWellFormed() : (text) => !/\p{Surrogate}/u.test(text);

// --- building ---

export function buildTokenizer(core, plan) {
  const { kind, added, vocabulary, order } = plan;
  for (const { content, id, lstrip, rstrip } of added)
    core.call("add_token", ...core.putText(content), id, lstrip, rstrip);
  const pieces = [...core.putAll(vocabulary), ...(order ? core.putAll(order) : [0, 0])];
  const wrong = kind === "WordPiece" ? wordPiece(core, pieces, plan) : unigram(core, pieces, plan);
  if (wrong) damaged(`a ${kind} tokenizer with ${core.text(wrong)}`);
  core.release();
}

function wordPiece(core, pieces, { unknown, mostChars, cased }) {
  return core.call("wordpiece", ...pieces, ...core.putText(unknown), mostChars, cased);
}

function unigram(core, pieces, plan) {
  if (!core.has("unigram"))
    fail(
      "A nestling.wasm without Unigram was given.",
      "This model needs nestling-unigram.wasm.",
      "Pass that one as wasm, or none.",
    );
  const {
    scores,
    unknown,
    byteFallback,
    trim,
    replaceQuotes,
    fold,
    charsmap,
    strip,
    collapseSpaces,
    splitWhitespace,
    prepend,
  } = plan;
  const model = [...core.putAll(scores), unknown, byteFallback];
  const normalizer = [...trim, replaceQuotes, fold, ...core.putAll(charsmap), ...strip, collapseSpaces];
  return core.call("unigram", ...pieces, ...model, ...normalizer, splitWhitespace, prepend);
}

export function buildTable(core, { rows, dim, size, places, factors, coded, scales }, { drop, pooling }) {
  const known = core.call("tokens_known");
  if (size < known) damaged(`a tokenizer with ids up to ${known - 1} and a table of ${size} rows`);
  for (const id of drop) if (id >= size) damaged(`the dropped id ${id} and a table of ${size} rows`);
  const maybe = (values) => (values ? core.put(values) : 0);
  const one = typeof factors === "number";
  core.call(rows instanceof Int8Array ? "table_int8" : "table_float", core.put(rows, true), dim);
  core.call(
    "table_tokens",
    size,
    maybe(places),
    one ? 0 : core.put(factors),
    one ? factors : 1,
    maybe(coded),
    maybe(scales),
    pooling === "sublinear",
  );
  for (const id of drop) core.call("table_drop", id);
  core.release();
}
