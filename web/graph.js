// A transformer's ONNX graph, whose weights lie beside it in the model's file: they are put in, and all else is checked.
// A graph may hold only the plain operations that a student needs, none of which holds a graph of its own, and no place
// of a file.

import { damaged } from "./nest.js";

const OPERATIONS = new Set(
  (
    "Abs Add Cast Concat Cos Div Expand Gather Gelu Gemm Identity LayerNormalization MatMul MatMulInteger Max Mul Neg Not " +
    "Pow Range Reciprocal ReduceMax ReduceMean ReduceSum Reshape Round Shape Sin Slice Softmax Split Sqrt Squeeze Sub " +
    "Transpose Unsqueeze Where"
  ).split(" "),
);
const MOST_NODES = 10_000;
// Numbers of the fields of ONNX's messages, and of the kind of field that has a length.
const MODEL = { graph: 7, functions: 25 };
const GRAPH = { node: 1, initializer: 5 };
const NODE = { kind: 4, attribute: 5, domain: 7 };
const ATTRIBUTE = { graph: 6, graphs: 11 };
const TENSOR = { name: 8, raw: 9, external: 13, location: 14 };
const SIZED = 2;

/** The graph with its weights. weights: Map of name -> values, of which it may lack some, and not the other way round. */
export function fillGraph(bytes, weights) {
  let nodes = 0;
  const filled = rewrite(bytes, (number, body, whole) => {
    if (number === MODEL.functions) damaged("a graph with functions of its own");
    if (number !== MODEL.graph) return whole;
    const graph = rewrite(body, (part, inner, all) => {
      if (part === GRAPH.node) checkNode(inner, ++nodes);
      return part === GRAPH.initializer ? sized(part, fillTensor(inner, weights)) : all;
    });
    return sized(number, graph);
  });
  if (!nodes) damaged("a graph without nodes");
  return filled;
}

function fillTensor(bytes, weights) {
  const found = [...fields(bytes)];
  const name = new TextDecoder().decode(found.find(({ number }) => number === TENSOR.name)?.body ?? new Uint8Array());
  if (!found.some(({ number }) => number === TENSOR.external)) return bytes;
  const values = weights.get(name);
  if (!values) damaged(`a graph that lacks ${JSON.stringify(name)}`);
  const own = found.filter(({ number }) => ![TENSOR.raw, TENSOR.external, TENSOR.location].includes(number));
  const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return join([...own.map(({ whole }) => whole), sized(TENSOR.raw, raw)]);
}

function checkNode(bytes, count) {
  if (count > MOST_NODES) damaged(`a graph of over ${MOST_NODES.toLocaleString("en")} nodes`);
  const found = [...fields(bytes)];
  const kinds = found.filter(({ number }) => number === NODE.kind).map(({ body }) => new TextDecoder().decode(body));
  const foreign = found.some(({ number, body }) => number === NODE.domain && body?.length);
  if (kinds.length !== 1 || !OPERATIONS.has(kinds[0]) || foreign)
    damaged(`a graph that asks for ${kinds.join().slice(0, 60)}, which no student needs`);
  for (const { body } of found.filter(({ number }) => number === NODE.attribute))
    for (const { number } of fields(body ?? new Uint8Array()))
      if (number === ATTRIBUTE.graph || number === ATTRIBUTE.graphs) damaged("a graph with graphs within");
}

// --- protobuf ---

/** A message with each field as change(number, body, all its bytes) says. */
function rewrite(message, change) {
  return join([...fields(message)].map(({ number, body, whole }) => change(number, body ?? new Uint8Array(), whole)));
}

/** The fields of a message; body: the bytes of one that has a length, undefined for plain numbers. */
function* fields(message) {
  for (let place = 0; place < message.length; ) {
    const start = place;
    const [key, after] = readNumber(message, place);
    const kind = key % 8;
    let size = 0;
    place = after;
    if (kind === 0) [, place] = readNumber(message, place);
    else if (kind === SIZED) [size, place] = readNumber(message, place);
    else if (kind === 1 || kind === 5) size = kind === 1 ? 8 : 4;
    else damaged("a graph that is no ONNX");
    if (place + size > message.length) damaged("a graph that is broken off");
    const body = kind === SIZED ? message.subarray(place, place + size) : undefined;
    place += size;
    yield { number: Math.floor(key / 8), body, whole: message.subarray(start, place) };
  }
}

/** A number of seven bits a byte, and where it ends. */
function readNumber(message, place) {
  let value = 0;
  for (let unit = 1; unit < 2 ** 70; unit *= 128) {
    if (place >= message.length) break;
    const byte = message[place++];
    value += (byte & 127) * unit;
    if (byte < 128) return [value, place];
  }
  return damaged("a graph that is no ONNX");
}

function sized(number, body) {
  return join([writeNumber(number * 8 + SIZED), writeNumber(body.length), body]);
}

function writeNumber(value) {
  const bytes = [];
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.from([...bytes, value]);
}

function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
