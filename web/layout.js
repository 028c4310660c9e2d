// A table laid out for adding up its rows, whatever form they are stored in. The sum of a block of tokens is
//
//   scales * (sum of factor[t] * row[place[t]] over coded t) + (the same sum over the other t)
//
// Factors that belong together are multiplied here, once, as float32: the same steps as in Python give the same bits.

import { damaged, expect, expectRange } from "./nest.js";

const OTHERS = /^(tokenizer\..*|canaries|counts|weights|weights\.levels)$/; // tensors that any scheme may have
const MOST_WORDS = 256; // that one byte tells apart
const MOST_UNFOLDED = 1_000_000_000; // bytes of unfolded rows, which a small file could make endless

/**
 * Tensors of the table -> { rows, dim, size, places, factors, coded, scales }.
 *
 * rows: Int8Array or Float32Array of rows of dim columns. size: how many tokens there are. places: the row of each token,
 * or null for its id. factors: Float32Array, or one number for all. coded: Uint8Array, 1 for each token whose sum is
 * multiplied by `scales`, (dim,); both null for none.
 */
export function layOut({ scheme, dim }, tensors) {
  if (!Object.hasOwn(SCHEMES, scheme)) damaged(`the unknown scheme ${JSON.stringify(scheme)}`);
  const [names, read] = SCHEMES[scheme];
  for (const name of tensors.keys())
    if (!OTHERS.test(name) && !names.split(" ").includes(name))
      damaged(`a tensor ${JSON.stringify(name)}, which scheme ${scheme} does not have`);
  const layout = { dim, places: null, coded: null, scales: null, ...read(tensors, dim) };
  return { ...layout, factors: weigh(layout, tensors) };
}

// Each scheme: the tensors that it may have, and how they are read.
const SCHEMES = {
  float: ["rows", floatRows],
  int8: ["rows scales", int8Rows],
  int4: ["rows scales", int4Rows],
  centroids: ["rows scales mapping", centroidRows],
  product: ["codes words words.scales words.widths exact.rows exact.scales exact.ids", productRows],
};

function floatRows(tensors, dim) {
  const rows = expect(tensors, "rows", "F32 F16", [null, dim]);
  return { rows, size: rows.length / dim, factors: 1 };
}

function int8Rows(tensors, dim, prefix = "") {
  const rows = expect(tensors, `${prefix}rows`, "I8", [null, dim]);
  const size = rows.length / dim;
  return { rows, size, factors: expect(tensors, `${prefix}scales`, "F32 F16", [size]) };
}

// Two columns a byte, the even one in the low half, each value plus 8.
function int4Rows(tensors, dim) {
  const width = Math.ceil(dim / 2);
  const packed = expect(tensors, "rows", "U8", [null, width]);
  const size = packed.length / width;
  const rows = new Int8Array(size * dim);
  for (let row = 0, place = 0; row < size; row++)
    for (let column = 0; column < dim; column++) {
      const pair = packed[row * width + (column >> 1)];
      rows[place++] = (column & 1 ? pair >> 4 : pair & 15) - 8;
    }
  return { rows, size, factors: expect(tensors, "scales", "F32 F16", [size]) };
}

function centroidRows(tensors, dim) {
  const { rows, size, factors } = (tensors.has("scales") ? int8Rows : floatRows)(tensors, dim);
  const mapping = expect(tensors, "mapping", "U16 I32 U32", [null]);
  expectRange(mapping, "mapping", size);
  const own = common(factors); // of the centroids, before they are spread over the tokens
  const spread = typeof own === "number" ? own : Float32Array.from(mapping, (place) => own[place]);
  return { rows, size: mapping.length, factors: spread, places: Uint32Array.from(mapping) };
}

function productRows(tensors, dim) {
  const widths = expect(tensors, "words.widths", "U16", [null]);
  const words = expect(tensors, "words", "I8", [null, dim]);
  if (words.length > MOST_WORDS * dim) damaged(`over ${MOST_WORDS} words`);
  if (widths.includes(0) || widths.reduce((sum, width) => sum + width, 0) !== dim)
    damaged(`widths that do not add up to ${dim}`);
  const codes = expect(tensors, "codes", "U8", [null, widths.length]);
  expectRange(codes, "codes", words.length / dim);
  const scales = expect(tensors, "words.scales", "F32", [widths.length]);
  const exact = int8Rows(tensors, dim, "exact.");
  const exactIds = expect(tensors, "exact.ids", "U16 U32", [exact.size]);
  const size = codes.length / widths.length + exact.size;
  expectRange(exactIds, "exact.ids", size);
  if (exactIds.some((id, i) => i > 0 && id <= exactIds[i - 1])) damaged("exact.ids that do not rise");
  if (size * dim > MOST_UNFOLDED) damaged(`codes that unfold to over ${MOST_UNFOLDED.toLocaleString("en")} bytes`);

  const coded = new Uint8Array(size).fill(1);
  const factors = new Float32Array(size).fill(1);
  exactIds.forEach((id, i) => {
    coded[id] = 0;
    factors[id] = exact.factors[i];
  });
  const rows = unfold(codes, words, widths, coded, dim);
  exactIds.forEach((id, i) => rows.set(exact.rows.subarray(i * dim, (i + 1) * dim), id * dim));
  return { rows, size, factors, coded, scales: repeat(scales, widths, dim) };
}

/** The rows of the coded tokens, with room for the others: (size, dim) int8. */
function unfold(codes, words, widths, coded, dim) {
  const rows = new Int8Array(coded.length * dim);
  let code = 0;
  for (let token = 0; token < coded.length; token++) {
    if (!coded[token]) continue;
    let place = token * dim;
    for (let block = 0, column = 0; block < widths.length; block++) {
      const word = codes[code++] * dim;
      for (const end = column + widths[block]; column < end; column++) rows[place++] = words[word + column];
    }
  }
  return rows;
}

function repeat(values, counts, size) {
  const repeated = new Float32Array(size);
  let place = 0;
  values.forEach((value, i) => repeated.fill(value, place, (place += counts[i])));
  return repeated;
}

/** The factors of a layout times the weights of the tokens. */
function weigh({ factors, coded, size }, tensors) {
  const weights = readWeights(tensors, size);
  if (coded) return weights ? factors.map((factor, i) => weights[i] * factor) : factors;
  if (!weights) return common(factors);
  return common(
    typeof factors === "number"
      ? weights.map((weight) => factors * weight)
      : factors.map((factor, i) => factor * weights[i]),
  );
}

function readWeights(tensors, size) {
  if (!tensors.has("weights.levels"))
    return tensors.has("weights") ? expect(tensors, "weights", "F32", [size]) : null;
  const levels = expect(tensors, "weights.levels", "F32", [null]);
  if (levels.length > MOST_WORDS) damaged(`over ${MOST_WORDS} weights.levels`);
  const weights = expect(tensors, "weights", "U8", [size]);
  expectRange(weights, "weights", levels.length);
  return Float32Array.from(weights, (level) => levels[level]);
}

/** One number where all are the same: it is applied to the sum, once. */
function common(factors) {
  if (typeof factors === "number" || factors.length === 0) return factors;
  return factors.every((factor) => factor === factors[0]) ? factors[0] : factors;
}
