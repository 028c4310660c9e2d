// What stands behind a transformer's table: blocks that look at a whole text and say what each of its tokens weighs. Read
// from the tensors of a file, and handed to the core, as src/nestling/model/blocks.py does it, to the bit.

import { damaged, expect, expectRange } from "./nest.js";

const [SCALES, WORDS] = [".scales", ".words"]; // behind the name of a matrix in int8, or in codes
const [MOST_WORDS, SIZES] = [256, [1, 2, 3, 4, 8]]; // of words, and of values in one
const MOST_COLUMNS = 65_536; // of which products of bytes add up to what int32 holds
const LARGEST = 1e3; // of a float: whatever is made of such ones before the vector is finite
const LOG_THETA = 9.210340371976184; // of rotary positions
const [TWO_OVER_PI, QUARTER_HIGH, QUARTER_LOW] = [0.6366197723675814, 1.5707963267341256, 6.077100506506192e-11];
const [SEEN, WITHIN, AROUND] = [1e-7, 1e-6, 1e-12]; // beside mean squares
const BESIDE = -1; // instead of a block's number: what is in none

/**
 * Hands the blocks to the core, whose table has `stride` columns. tensors: Map, by their names without "body.". head:
 * columns of an attention head; longest: tokens of a piece. Returns how many columns a vector has.
 */
export function buildBlocks(core, tensors, stride, head, longest) {
  const left = new Map(tensors);
  const encoder = left.has("places"); // layers of one; else blocks with rotary positions
  const take = (name, dtypes, shape) => {
    const values = expect(left, name, dtypes, shape, LARGEST);
    left.delete(name);
    return values;
  };
  const matrix = (name, rows, columns) => readMatrix(left, take, name, rows, columns);
  const vector = (name, size) => take(name, "F32", [size]);

  const up = matrix("up.weight", null, null);
  const [seen, dim] = [up.rows, up.columns];
  const weighs = left.has("weigh.weight");
  // Layers of an encoder that add vectors weigh as many columns; others, all that they do not see.
  const added = left.get("back.weight")?.shape[0] ?? stride - seen;
  const inner = weighs ? (encoder ? added : stride) : 0;
  const fit = encoder ? inner > 0 && inner <= stride && seen <= stride && stride <= inner + seen : seen === stride;
  if (!fit) damaged(`blocks that see ${seen} columns of ${stride}, and weigh ${inner}`);
  const layers = countBlocks(left);
  const wrong = (said) => said && damaged(core.text(said));
  const keep = (values) => core.put(values, true);
  wrong(core.call("blocks_shape", inner, stride - seen, seen, dim, head, longest, layers));

  const put = (layer, name, { values, rows, columns, scales }, bias) => {
    const given = [...core.putText(name), core.put(values), rows, columns, keep(scales), bias ? keep(bias) : 0];
    wrong(core.call("blocks_matrix", layer, ...given));
    core.release();
  };
  const putMatrix = (layer, own, name, rows, columns) => {
    const found = matrix(`${own}${name}.weight`, rows, columns);
    put(layer, name, found, encoder ? vector(`${own}${name}.bias`, found.columns) : null);
    return found.columns;
  };
  const putNorm = (layer, name, stored) => {
    const weights = keep(vector(`${stored}.weight`, dim));
    const bias = encoder ? keep(vector(`${stored}.bias`, dim)) : 0;
    wrong(core.call("blocks_norm", layer, ...core.putText(name), weights, bias, encoder ? AROUND : WITHIN));
    core.release();
  };

  put(BESIDE, "up", up, encoder ? vector("up.bias", dim) : null);
  for (let layer = 0; layer < layers; layer++) {
    const own = `blocks.${layer}.`;
    const place = encoder ? "after" : "before";
    putMatrix(layer, own, "queries_keys_values", dim, 3 * dim);
    putMatrix(layer, own, "attended", dim, dim);
    const feed = putMatrix(layer, own, "wide", dim, null);
    putMatrix(layer, own, "narrow", feed, dim);
    putNorm(layer, "attention", `${own}${place}_attention`);
    putNorm(layer, "feed", `${own}${place}_feed`);
  }
  wrong(core.call("blocks_norm", BESIDE, ...core.putText("seeing"), 0, 0, SEEN));
  core.release();
  if (encoder) {
    putNorm(BESIDE, "input", "first");
    core.call("blocks_places", keep(readPlaces(matrix("places", null, dim), longest, dim)));
  } else {
    putNorm(BESIDE, "last", "last");
    core.call("blocks_rotary", ...rotaryPositions(longest, head).map(keep));
  }
  if (weighs) core.call("blocks_weigh", keep(take("weigh.weight", "F32", [dim, 1])));
  const behind = weighs ? "back" : "out";
  const found = left.has(`${behind}.weight`) ? matrix(`${behind}.weight`, weighs ? inner : null, dim) : null;
  if (found) put(BESIDE, behind, turned(found));
  for (const name of left.keys()) damaged(`a tensor ${JSON.stringify(name)}, which no blocks have`);
  wrong(core.call("blocks_ready"));
  return inner || (found ? found.rows : dim);
}

function countBlocks(tensors) {
  const names = [...tensors.keys()].filter((name) => name.startsWith("blocks."));
  const numbers = new Set(names.map((name) => name.split(".")[1]));
  for (let number = 0; number < numbers.size; number++)
    if (!numbers.has(String(number))) damaged("blocks that do not come one after the other");
  return numbers.size;
}

/** A matrix in int8 with a scale a column: stored so, or in codes of words; one in float32 is rounded to that. */
function readMatrix(tensors, take, name, rows, columns) {
  const shape = tensors.get(name)?.shape;
  let values = take(name, "F32 I8 U8", [rows, null]);
  if (values instanceof Uint8Array) values = spelt(values, tensors, take, name);
  const [m, n] = [shape[0], shape[0] && values.length / shape[0]];
  if (!m || !n || m > MOST_COLUMNS || n > 3 * MOST_COLUMNS || n !== (columns ?? n))
    damaged(`a tensor ${JSON.stringify(name)} of shape ${shape}`);
  if (values instanceof Int8Array) return { values, rows: m, columns: n, scales: take(name + SCALES, "F32", [n]) };
  const found = rounded(transpose(values, m, n), n, m);
  return { values: transpose(found.values, n, m), rows: m, columns: n, scales: found.scales };
}

/** The values that a matrix in codes stands for: each code for a word of some side by side. */
function spelt(codes, tensors, take, name) {
  const [count, word] = tensors.get(name + WORDS)?.shape ?? [];
  if (!(count <= MOST_WORDS && SIZES.includes(word)))
    damaged(`a tensor ${JSON.stringify(name)} of codes, whose words are not there, too many or of another size`);
  const words = take(name + WORDS, "I8", [count, word]);
  expectRange(codes, name, count);
  const values = new Int8Array(codes.length * word);
  codes.forEach((code, i) => {
    for (let k = 0; k < word; k++) values[i * word + k] = words[code * word + k];
  });
  return values;
}

/** What stands behind the sum lies (out, in): turned, with a scale an output instead. */
function turned({ values, rows, columns, scales }) {
  const floats = Float32Array.from(values, (value, i) => value * scales[i % columns]);
  const found = rounded(floats, rows, columns);
  return { values: transpose(found.values, rows, columns), rows: columns, columns: rows, scales: found.scales };
}

/** Rows of floats to int8 with a scale a row, as to_int8 in model/pack.py. */
function rounded(floats, rows, columns) {
  const values = new Int8Array(floats.length);
  const scales = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = floats.subarray(row * columns, (row + 1) * columns);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    scales[row] = largest > 0 ? Math.fround(largest / 127) : 1;
    own.forEach((value, i) => (values[row * columns + i] = toEven(Math.fround(value / scales[row]))));
  }
  return { values, scales };
}

const toEven = (value) => {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
};

function transpose(values, rows, columns) {
  const found = new values.constructor(values.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) found[column * rows + row] = values[row * columns + column];
  return found;
}

function readPlaces({ values, rows, scales }, longest, dim) {
  if (rows < longest) damaged(`${rows} positions and ${longest} tokens`);
  return Float32Array.from({ length: longest * dim }, (_, i) => values[i] * scales[i % dim]);
}

/** Cosines and sines of rotary positions, (longest, head / 2) each: by sums and products alone, the same everywhere. */
function rotaryPositions(longest, head) {
  const half = head / 2;
  const cosines = new Float32Array(longest * half);
  const sines = new Float32Array(longest * half);
  for (let i = 0; i < half; i++) {
    const share = ((2 * i) / head) * (LOG_THETA / 1024);
    let rate = 1;
    for (let term = 9; term > 0; term--) rate = 1 + (-share / term) * rate;
    for (let square = 0; square < 10; square++) rate *= rate; // e^-1024x
    for (let place = 0; place < longest; place++) {
      const angle = place * rate;
      const quarters = Math.floor(angle * TWO_OVER_PI + 0.5);
      const rest = angle - quarters * QUARTER_HIGH - quarters * QUARTER_LOW;
      const [cosine, sine] = [alternating(rest, 0), alternating(rest, 1)];
      const turn = quarters % 4;
      const [first, second] = turn % 2 ? [sine, cosine] : [cosine, sine];
      cosines[place * half + i] = turn === 1 || turn === 2 ? -first : first;
      sines[place * half + i] = turn > 1 ? -second : second;
    }
  }
  return [cosines, sines];
}

/** The cosine (first 0) or sine (1) of an angle of at most an eighth of a turn, by their series. */
function alternating(x, first) {
  let total = 1;
  for (let term = 16 + first; term > first; term -= 2) total = 1 - ((x * x) / (term * (term - 1))) * total;
  return first ? total * x : total;
}
