// Text embeddings in a browser, a worker, Node or Deno: a .nest file and the C++ core as WebAssembly (core/wasm.cpp).
//
//   import { load, similarity } from "nestling";
//   const model = await load("nano.nest");
//   similarity(model.encode("a sleeping kitty"), model.encode(documents));

import { Core, Room, buildTable, buildTokenizer } from "./core.js";
import { layOut } from "./layout.js";
import { NestlingError, damaged, expect, fail, inflate, noText, oneOf, parseJson, quote, readNest } from "./nest.js";
import { compilePlan } from "./plan.js";

export { NestlingError };

/**
 * Loads a model from a URL, a path (in Node) or bytes. dim: one of its tiers, to be the largest; wasm: where
 * nestling.wasm is, or its bytes, or its compiled module, if it does not lie beside this file.
 */
export async function load(source, { dim, wasm } = {}) {
  const module = wasm === undefined ? compileOurs("WordPiece") : compile(wasm); // while the model is on its way
  const [file] = await Promise.all([read(source), module]);
  const { document, tensors } = readNest(file);
  const tokenizer = await readTokenizer(tensors);
  const layout = layOut(document, tensors);
  checkOthers(document, tensors, layout.size);
  const core = new Core(await (wasm === undefined ? compileOurs(tokenizer.kind) : module));
  buildTokenizer(core, tokenizer);
  buildTable(core, layout, document);
  return new Model(core, document, dim);
}

/**
 * Cosines of a with b, each one vector or many: a number, a Float32Array, or for two lists an array of one Float32Array
 * for each vector of a.
 */
export function similarity(a, b) {
  const left = matrixOf(a);
  const right = matrixOf(b);
  if (left.dim !== right.dim)
    fail(
      `Vectors of ${left.dim} and of ${right.dim} dims were given.`,
      "The same dim was expected.",
      "Encode both with one.",
    );
  const rows = Array.from({ length: left.length }, (_, i) =>
    cosines(left.data.subarray(i * left.dim, (i + 1) * left.dim), right),
  );
  const found = right.single ? Float32Array.from(rows, (row) => row[0]) : rows;
  return left.single ? found[0] : found;
}

/** What encode gives for many texts: their vectors end to end in `data`. */
export class Vectors {
  /** cut: how many texts had more tokens than the model takes. */
  constructor(data, dim, cut = 0) {
    this.data = data;
    this.dim = dim;
    this.cut = cut;
  }

  get length() {
    return this.data.length / this.dim;
  }

  /** The vector of text i: a view, not a copy. */
  at(i) {
    const row = i < 0 ? i + this.length : i;
    return row >= 0 && row < this.length ? this.data.subarray(row * this.dim, (row + 1) * this.dim) : undefined;
  }

  *[Symbol.iterator]() {
    for (let i = 0; i < this.length; i++) yield this.at(i);
  }
}

/** A loaded model. */
class Model {
  #core;
  #room;
  #warned = false;

  constructor(core, document, dim = document.dim) {
    this.#core = core;
    this.document = document;
    this.dim = checkDim(document, dim);
    this.dims = document.dims.filter((tier) => tier <= dim);
    this.#room = new Room(core, dim);
  }

  get name() {
    return this.document.name;
  }
  get description() {
    return this.document.description;
  }
  get licence() {
    return this.document.licence;
  }
  get lineage() {
    return this.document.lineage;
  }
  /** The longest text in tokens, null for no limit. */
  get maxTokens() {
    return this.document.max_tokens;
  }
  /** A sha256, as the file states it, over all that changes vectors. */
  get fingerprint() {
    return this.document.fingerprint;
  }

  /**
   * Vectors of texts: a Float32Array for a string, Vectors for an array. A text without a known token is all zeros.
   *
   * dim: one of `dims`. normalize: unit length; false gives the mean of the tokens' rows. overflow: what to do with a
   * text of more than maxTokens tokens: "cut" it (the first time a warning says so, and Vectors.cut counts), "error", or
   * "split": the mean over all of its tokens. errors: "strict" refuses half a character, "replace" puts U+FFFD there. out: a
   * Float32Array to fill instead of a new one.
   */
  encode(texts, options = {}) {
    return this.#encode(texts, options, "");
  }

  /** encode with the model's prompt for queries, if it has one. */
  encodeQuery(texts, options = {}) {
    return this.#encode(texts, options, this.#prompt("query"));
  }

  /** encode with the model's prompt for documents, if it has one. */
  encodeDocument(texts, options = {}) {
    return this.#encode(texts, options, this.#prompt("document"));
  }

  /** Tokens of a text, or an array of those of each; unknown ones count. */
  countTokens(texts, { errors = "strict" } = {}) {
    const { listed, single } = list(texts);
    const counts = new Uint32Array(listed.length);
    this.#room.pass(listed, "", errors, (start, n, ascii) => counts.set(this.#room.count(n, ascii), start));
    return single ? counts[0] : Array.from(counts);
  }

  #prompt(task) {
    return Object.hasOwn(this.document.prompts, task) ? this.document.prompts[task] : "";
  }

  #encode(texts, options, prompt) {
    const { dim = this.dim, normalize = true, overflow = "cut", errors = "strict", out } = options;
    const { listed, single } = list(texts);
    checkDim(this, dim);
    oneOf("overflow", overflow, ["cut", "error", "split"]);
    const data = outputOf(out, listed.length * dim);
    const limit = overflow === "split" || this.maxTokens === null ? -1 : Math.min(this.maxTokens, 2 ** 31);
    let cut = 0;
    this.#room.pass(listed, prompt, errors, (start, n, ascii) => {
      const done = this.#room.encode(n, ascii, dim, limit, overflow === "error", normalize, data, start * dim);
      if (done.stopped < n) this.#tooLong(start + done.stopped);
      cut += done.cut;
    });
    if (cut) this.#warn(cut, listed.length);
    return single ? data : new Vectors(data, dim, cut);
  }

  #tooLong(index) {
    fail(
      `texts[${index}] is too long.`,
      `${this.name} takes at most ${this.maxTokens} tokens.`,
      'Shorten it, or pass overflow: "split" or "cut".',
    );
  }

  #warn(cut, texts) {
    if (this.#warned) return;
    this.#warned = true;
    console.warn(
      `${cut} of ${texts} texts had more than ${this.maxTokens} tokens and were cut; overflow: "split" uses all of them.`,
    );
  }
}

// --- loading ---

async function read(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof source?.arrayBuffer === "function") return new Uint8Array(await source.arrayBuffer());
  if (typeof source !== "string" && !(source instanceof URL))
    fail(`${typeof source} was given as a model.`, "A URL, a path or bytes were expected.", "Pass one of these.");
  const place = String(source);
  const inNode = typeof process === "object" && process.versions?.node;
  return inNode && !/^(https?|data|blob):/.test(place) ? readPath(source, place) : fetchBytes(place);
}

async function readPath(source, place) {
  const files = "node:fs/promises"; // not spelled out in the import, so that bundlers for browsers leave it alone
  try {
    const { readFile } = await import(/* @vite-ignore */ /* webpackIgnore: true */ files);
    return await readFile(place.startsWith("file:") ? new URL(place) : source);
  } catch (error) {
    return fail(`${place} cannot be read: ${error.message}.`, "A readable file was expected.", "Check the path.");
  }
}

async function fetchBytes(place) {
  let response;
  try {
    response = await fetch(place);
  } catch (error) {
    fail(
      `${place} cannot be fetched: ${error.message}.`,
      "A file was expected there.",
      "Check the address and the connection.",
    );
  }
  if (!response.ok)
    fail(
      `${place} cannot be fetched: status ${response.status}.`,
      "A file was expected there.",
      "Check the address.",
    );
  return new Uint8Array(await response.arrayBuffer());
}

// What lies beside this file, written so that bundlers find it. Most models need the first, which is half as large.
const OURS = {
  WordPiece: () => new URL("./nestling.wasm", import.meta.url),
  Unigram: () => new URL("./nestling-unigram.wasm", import.meta.url),
};
const compiled = {}; // once for all models

function compile(wasm) {
  return wasm instanceof WebAssembly.Module ? wasm : read(wasm).then(compileBytes);
}

function compileOurs(kind) {
  compiled[kind] ??= compile(OURS[kind]());
  compiled[kind].catch(() => delete compiled[kind]); // a fetch that failed may be tried again
  return compiled[kind];
}

async function compileBytes(bytes) {
  try {
    return await WebAssembly.compile(bytes);
  } catch (error) {
    return fail(
      `nestling.wasm cannot be compiled: ${error.message}.`,
      "WebAssembly with SIMD was expected: Chrome 91, Firefox 89, Safari 16.4, Node 16.4 or newer.",
      "Update the browser, or get the file again.",
    );
  }
}

async function readTokenizer(tensors) {
  for (const name of tensors.keys())
    if (name.startsWith("tokenizer.") && !/^tokenizer\.(vocabulary|plan|order|scores|merges)$/.test(name))
      damaged(`a tensor ${quote(name)}`);
  const packed = (name) => expect(tensors, `tokenizer.${name}`, "U8", [null]);
  const [plan, vocabulary] = await Promise.all([inflate(packed("plan")), inflate(packed("vocabulary"))]);
  const order = tensors.has("tokenizer.order")
    ? Uint32Array.from(expect(tensors, "tokenizer.order", "U16 U32", [null]))
    : null;
  const tokenizer = { ...compilePlan(parseJson(plan, "a tokenizer plan")), vocabulary, order };
  if (tokenizer.kind === "Unigram")
    tokenizer.scores = Float64Array.from(expect(tensors, "tokenizer.scores", "F32 F64", [null], 1e30));
  return tokenizer;
}

/** Tensors that are not needed here, but must be what they say. */
function checkOthers(document, tensors, size) {
  expect(tensors, "canaries", "F32", [document.canaries.length, document.dim]);
  if (tensors.has("counts")) expect(tensors, "counts", "U32", [size]);
}

// --- what is given ---

function list(texts) {
  if (typeof texts === "string") return { listed: [texts], single: true };
  if (Array.isArray(texts)) return { listed: texts, single: false };
  if (typeof texts?.[Symbol.iterator] !== "function" || ArrayBuffer.isView(texts)) noText(texts, "texts");
  return { listed: [...texts], single: false };
}

function checkDim({ name, dims }, dim) {
  if (!dims.includes(dim))
    fail(`dim ${quote(dim)} is not a tier of ${name}.`, `It offers ${dims.join(", ")}.`, "Choose one of them.");
  return dim;
}

function outputOf(out, size) {
  if (out === undefined) return new Float32Array(size);
  if (!(out instanceof Float32Array) || out.length !== size)
    fail(
      `out is ${out?.constructor?.name ?? out} of length ${out?.length}.`,
      `A Float32Array of length ${size} was expected.`,
      "Make it so, or leave it out.",
    );
  return out;
}

// --- similarity ---

function matrixOf(vectors) {
  if (vectors instanceof Vectors) return vectors;
  if (vectors instanceof Float32Array) return { data: vectors, dim: vectors.length, length: 1, single: true };
  if (
    Array.isArray(vectors) &&
    vectors.every((row) => row instanceof Float32Array && row.length === vectors[0].length)
  ) {
    const dim = vectors[0]?.length ?? 0;
    const data = new Float32Array(vectors.length * dim);
    vectors.forEach((row, i) => data.set(row, i * dim));
    return { data, dim, length: vectors.length };
  }
  return fail(
    `${vectors?.constructor?.name ?? vectors} was given.`,
    "A vector, Vectors, or an array of vectors was expected.",
    "Pass what encode returns.",
  );
}

function cosines(query, { data, dim, length }) {
  const found = new Float32Array(length);
  let own = 0;
  for (const value of query) own += value * value;
  for (let i = 0, place = 0; i < length; i++) {
    let product = 0;
    let squares = 0;
    for (let d = 0; d < dim; d++, place++) {
      product += query[d] * data[place];
      squares += data[place] * data[place];
    }
    const sizes = Math.sqrt(own * squares);
    found[i] = sizes > 0 ? product / sizes : 0;
  }
  return found;
}
