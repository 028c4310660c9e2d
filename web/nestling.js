// Text embeddings in a browser, a worker or Node: a .nest file and core/wasm.cpp. Exports stand in nestling.d.ts.

import { Core, Room, buildTable, buildTokenizer } from "./core.js";
import { layOut } from "./layout.js";
import { Model, Vectors } from "./model.js";
import { NestlingError, damaged, expect, fail, inflate, parseJson, quote, readNest } from "./nest.js";
import { compilePlan } from "./plan.js";

export { NestlingError, Vectors };

export async function load(source, { dim, wasm } = {}) {
  const module = wasm === undefined ? compileOurs("WordPiece") : compile(wasm); // while the model is on its way
  const [file] = await Promise.all([read(source), module]);
  const { document, tensors } = readNest(file);
  const tokenizer = await readTokenizer(tensors);
  const kind = document.architecture === "transformer" ? "Transformer" : tokenizer.kind;
  const core = new Core(await (wasm === undefined ? compileOurs(kind) : module));
  buildTokenizer(core, tokenizer);
  if (kind === "Transformer") {
    const { buildTransformer } = await import("./transformer.js");
    buildTransformer(core, document, tensors, checkOthers);
  } else {
    const layout = layOut(document, tensors);
    checkOthers(document, tensors, layout.size);
    buildTable(core, layout, document);
  }
  return new Model(new Room(core, document.dim), document, dim);
}

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

// What lies beside this file, written so that bundlers find it; most models need the first.
const OURS = {
  WordPiece: () => new URL("./nestling.wasm", import.meta.url),
  Unigram: () => new URL("./nestling-unigram.wasm", import.meta.url),
  Transformer: () => new URL("./nestling-transformer.wasm", import.meta.url),
};
const compiled = {};

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
