// The .nest file (docs/format.md): bytes -> its document and its tensors. Nothing in it is trusted.

export class NestlingError extends Error {
  name = "NestlingError";
}

/** Errors say what was given, what was expected, and what to do. */
export function fail(given, expected, advice) {
  throw new NestlingError(`${given} ${expected} ${advice}`);
}

export function damaged(what) {
  fail(
    `The model file has ${what}.`,
    "A .nest file as docs/format.md describes it was expected.",
    "The file is damaged or hostile: get it again from where it came.",
  );
}

export function noText(value, name) {
  const type = value === null ? "null" : typeof value;
  fail(`${name} is of type ${type};`, "a string or an array of strings was expected.", "Pass one of these.");
}

export function oneOf(name, value, known) {
  if (!known.includes(value))
    fail(`${name}: ${quote(value)} was given;`, `known are ${known.join(", ")}.`, "Choose one of them.");
}

const MOST_HEADER_BYTES = 10_000_000;
const MOST_UNPACKED = 100_000_000;
const MOST_DIM = 65_536;
const LARGEST = 1e12; // of a stored float
const ITEM_BYTES = { F64: 8, F32: 4, F16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1 };
const ARRAYS = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  I32: Int32Array,
  I8: Int8Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
};

export const isWhole = (value, from = 0, to = Number.MAX_SAFE_INTEGER) =>
  Number.isInteger(value) && value >= from && value <= to;
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isString = (value) => typeof value === "string";
const isList = (value, of) => Array.isArray(value) && value.every(of);

/** Bytes of a file -> { document, tensors }, where tensors is a Map of name -> { dtype, shape, bytes }. */
export function readNest(file) {
  if (file.length < 8) damaged(`${file.length} bytes`);
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const length = view.getUint32(0, true);
  if (view.getUint32(4, true) > 0 || length > Math.min(file.length - 8, MOST_HEADER_BYTES))
    damaged(`a header that is longer than the file or ${MOST_HEADER_BYTES.toLocaleString("en")} bytes`);
  const header = parseJson(file.subarray(8, 8 + length), "a header");
  if (!isObject(header)) damaged("a header that is no JSON object");
  const document = readDocument(header.__metadata__);
  return { document, tensors: readTensors(header, file.subarray(8 + length)) };
}

// --- the document ---

const isStrings = (value) => isObject(value) && Object.values(value).every(isString);
const isScores = (value) =>
  isObject(value) &&
  Object.values(value).every(isObject) &&
  Object.values(value)
    .flatMap(Object.values)
    .every((score) => typeof score === "number" && Math.abs(score) < 1e9);
const isSource = (value) =>
  isObject(value) && Object.keys(value).sort().join() === "licence,name,role" && isStrings(value);

// Each key: what it must be, and its value where it is left out; undefined: it must be there.
const KEYS = {
  format: [(value) => value === "nest"],
  version: [(value) => value === 1],
  architecture: [(value) => value === "static" || value === "transformer"],
  pooling: [(value) => value === "mean" || value === "sublinear"],
  fingerprint: [isString],
  scheme: [isString],
  dim: [(value) => isWhole(value, 1, MOST_DIM)],
  dims: [
    (value) => isList(value, (dim) => isWhole(dim, 1)) && value.every((dim, i) => i === 0 || dim < value[i - 1]),
  ],
  name: [isString, "unnamed"],
  description: [isString, ""],
  inner: [(value) => isWhole(value, 0, MOST_DIM), 0],
  head: [(value) => isWhole(value, 0, MOST_DIM), 0],
  task_tokens: [(value) => isObject(value) && Object.values(value).every((id) => isWhole(id)), {}],
  routes: [isStrings, {}],
  drop: [(value) => isList(value, (id) => isWhole(id)), []],
  max_tokens: [(value) => value === null || isWhole(value, 1), null],
  prompts: [isStrings, {}],
  licence: [isString, "unknown"],
  lineage: [(value) => isList(value, isSource), []],
  recipe: [(value) => value === null || isString(value), null],
  scores: [isScores, {}],
  canaries: [(value) => isList(value, isString), []],
};

function readDocument(metadata) {
  if (!isStrings(metadata) || Object.keys(metadata).join() !== "nest") damaged("no document");
  const given = parseJson(new TextEncoder().encode(metadata.nest), "a document");
  if (!isObject(given)) damaged("a document that is no JSON object");
  for (const key of Object.keys(given))
    if (!Object.hasOwn(KEYS, key)) damaged(`an unknown key in its document, ${quote(key)}`);
  const document = {};
  for (const [key, [right, otherwise]] of Object.entries(KEYS)) {
    const value = Object.hasOwn(given, key) ? given[key] : otherwise;
    if (value === undefined) damaged(`a document without ${key}`);
    if (!right(value)) damaged(`a document whose ${key} is ${quote(value)}, which this version does not read`);
    document[key] = value;
  }
  if (document.dims[0] !== document.dim) damaged(`dims that do not begin with ${document.dim}`);
  const more = ["inner", "head", "task_tokens", "routes"].some((key) => Object.hasOwn(given, key));
  if (more && document.architecture === "static") damaged("keys of a transformer");
  return document;
}

/** A value for a message, cut short. */
export const quote = (value) => String(JSON.stringify(value)).slice(0, 60);

// --- tensors ---

function readTensors(header, body) {
  const tensors = new Map();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    checkEntry(name, entry);
    const {
      dtype,
      shape,
      data_offsets: [start, stop],
    } = entry;
    const size = shape.reduce((product, side) => product * side, ITEM_BYTES[dtype]);
    if (size !== stop - start) damaged(`tensor ${quote(name)}, whose shape disagrees with its bytes`);
    tensors.set(name, { dtype, shape, start, stop });
  }
  let end = 0;
  for (const tensor of [...tensors.values()].sort((a, b) => a.start - b.start || a.stop - b.stop)) {
    if (tensor.start !== end) damaged("tensors that overlap or leave holes");
    end = tensor.stop;
  }
  if (end !== body.length) damaged(`tensors of ${end} bytes in a body of ${body.length}`);
  for (const tensor of tensors.values()) tensor.bytes = body.subarray(tensor.start, tensor.stop);
  return tensors;
}

function checkEntry(name, entry) {
  const sizes = (value) => isList(value, (side) => isWhole(side, 0, 2 ** 48 - 1)) && value.length <= 4;
  if (!isObject(entry) || Object.keys(entry).sort().join() !== "data_offsets,dtype,shape")
    damaged(`tensor ${quote(name)} without dtype, shape and data_offsets`);
  if (!sizes(entry.shape) || !sizes(entry.data_offsets) || entry.data_offsets.length !== 2)
    damaged(`tensor ${quote(name)} with a bad shape or data_offsets`);
  if (!isString(entry.dtype) || !Object.hasOwn(ITEM_BYTES, entry.dtype))
    damaged(`tensor ${quote(name)} of the unknown dtype ${quote(entry.dtype)}`);
}

/**
 * The values of a tensor, its dtype one of `dtypes` (a space between), its shape as given (null: any). F16 comes as float32.
 * Floats must be finite and of no unlikely size: one infinity would spread into every vector that touches it.
 */
export function expect(tensors, name, dtypes, shape, largest = LARGEST) {
  const tensor = tensors.get(name);
  if (!tensor) damaged(`no tensor ${quote(name)}`);
  if (!dtypes.split(" ").includes(tensor.dtype))
    damaged(`tensor ${quote(name)} of dtype ${tensor.dtype}, not ${dtypes}`);
  if (tensor.shape.length !== shape.length || shape.some((side, i) => side !== null && side !== tensor.shape[i]))
    damaged(`tensor ${quote(name)} of shape ${quote(tensor.shape)}, not ${quote(shape)}`);
  const values = arrayOf(tensor);
  if (tensor.dtype[0] === "F" && !values.every((value) => value >= -largest && value <= largest))
    damaged(`tensor ${quote(name)} with values that are not finite or over ${largest}`);
  return values;
}

/** Fails unless every value is from 0 to end - 1. */
export function expectRange(values, name, end) {
  for (const value of values)
    if (value < 0 || value >= end) damaged(`tensor ${quote(name)} with the value ${value}, not 0 to ${end - 1}`);
}

function arrayOf({ dtype, bytes }) {
  const aligned = bytes.byteOffset % ITEM_BYTES[dtype] === 0 ? bytes : bytes.slice();
  const values = new ARRAYS[dtype](aligned.buffer, aligned.byteOffset, aligned.length / ITEM_BYTES[dtype]);
  return dtype === "F16" ? floatsOfHalves(values) : values;
}

function floatsOfHalves(halves) {
  const every = new Float32Array(65_536);
  for (let half = 0; half < 65_536; half++) {
    const exponent = (half >> 10) & 31;
    const fraction = half & 1023;
    const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    every[half] = exponent === 31 ? NaN : half & 0x8000 ? -size : size;
  }
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) floats[i] = every[halves[i]];
  return floats;
}

// --- streams and JSON ---

/** Expands a zlib stream of at most MOST_UNPACKED bytes, so that a small file cannot fill the memory. */
export async function inflate(packed) {
  const stream = new Response(packed).body.pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const parts = [];
  let size = 0;
  try {
    for (let part = await reader.read(); !part.done && size <= MOST_UNPACKED; part = await reader.read()) {
      parts.push(part.value);
      size += part.value.length;
    }
  } catch {
    damaged("a compressed tensor that is no zlib stream or cut short");
  }
  if (size > MOST_UNPACKED) {
    reader.cancel().catch(() => {});
    damaged(`a compressed tensor of over ${MOST_UNPACKED.toLocaleString("en")} bytes`);
  }
  const whole = new Uint8Array(size);
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}

/** JSON from bytes. Refuses repeated keys, bad UTF-8 and halves of characters. what: names it in an error. */
export function parseJson(bytes, what) {
  let text, value, half;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
    half = /\\u[dD][89a-fA-F]/.test(text) && /(?<!\\)(?:\\\\)*\\ud[89a-f]/.test(JSON.stringify(value));
  } catch (error) {
    damaged(`${what} that is no valid JSON (${error.message})`);
  }
  if (half) damaged(`${what} with half a character`);
  if (repeatsKey(text)) damaged(`${what} with a repeated key`);
  return value;
}

// JSON.parse keeps the last of several values; a file could show one to us and another to who audits it.
function repeatsKey(json) {
  const open = []; // for each object around, the keys met; for each array, null
  for (let i = 0; i < json.length; i++) {
    const character = json[i];
    if (character === "{") open.push(new Set());
    else if (character === "[") open.push(null);
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const end = stringEnd(json, i + 1);
      const keys = open.at(-1);
      if (keys && colonFollows(json, end)) {
        const key = JSON.parse(json.slice(i, end));
        if (keys.has(key)) return true;
        keys.add(key);
      }
      i = end - 1;
    }
  }
  return false;
}

function stringEnd(json, i) {
  for (; json[i] !== '"'; i++) if (json[i] === "\\") i++;
  return i + 1;
}

function colonFollows(json, i) {
  while (" \t\n\r".includes(json[i])) i++;
  return json[i] === ":";
}
