/** What load and encode throw. It says what was given, what was expected, and what to do. */
export class NestlingError extends Error {}

export interface LoadOptions {
  /** One of the model's tiers, to be its largest. */
  dim?: number;
  /** Where nestling.wasm is, its bytes, or its compiled module; by default it lies beside nestling.js. */
  wasm?: string | URL | ArrayBuffer | ArrayBufferView | WebAssembly.Module;
}

/** Loads a .nest file from a URL, a path (in Node), bytes, or what has them: a Response, a Blob, a File. */
export function load(
  source: string | URL | ArrayBuffer | ArrayBufferView | Response | Blob,
  options?: LoadOptions,
): Promise<Model>;

export interface EncodeOptions {
  /** One of the model's `dims`; the largest by default. */
  dim?: number;
  /** Unit length, the default; false gives the mean of the tokens' rows. */
  normalize?: boolean;
  /** Of a text of more than maxTokens tokens: "cut" it, the default (a warning says so once), refuse it, or take all. */
  overflow?: "cut" | "error" | "split";
  /** Of half a character (a lone surrogate): refuse it, the default, or put U+FFFD there. */
  errors?: "strict" | "replace";
  /** To fill instead of a new array: as many texts times dim. */
  out?: Float32Array;
}

export interface Model {
  readonly name: string;
  readonly description: string;
  readonly licence: string;
  /** What it was made from, with its licence. */
  readonly lineage: readonly { role: string; name: string; licence: string }[];
  /** A sha256 over all that changes vectors: store it beside vectors, and compare. */
  readonly fingerprint: string;
  /** Columns of a vector when no dim is given. */
  readonly dim: number;
  /** The tiers, the largest first. */
  readonly dims: readonly number[];
  /** The longest text in tokens, null for no limit. */
  readonly maxTokens: number | null;

  /** A text's vector; of an array of texts, their Vectors. Zeros where there is no known token. */
  encode(text: string, options?: EncodeOptions): Float32Array;
  encode(texts: Iterable<string>, options?: EncodeOptions): Vectors;
  /** encode with the model's prompt for queries, if it has one. */
  encodeQuery(text: string, options?: EncodeOptions): Float32Array;
  encodeQuery(texts: Iterable<string>, options?: EncodeOptions): Vectors;
  /** encode with the model's prompt for documents, if it has one. */
  encodeDocument(text: string, options?: EncodeOptions): Float32Array;
  encodeDocument(texts: Iterable<string>, options?: EncodeOptions): Vectors;
  /** Tokens of a text, unknown ones included; of an array, those of each. */
  countTokens(text: string, options?: Pick<EncodeOptions, "errors">): number;
  countTokens(texts: Iterable<string>, options?: Pick<EncodeOptions, "errors">): number[];
}

/** Vectors of texts, end to end. */
export class Vectors implements Iterable<Float32Array> {
  constructor(data: Float32Array, dim: number, cut?: number);
  /** Text i is data.subarray(i * dim, (i + 1) * dim). */
  readonly data: Float32Array;
  readonly dim: number;
  readonly length: number;
  /** How many texts had more tokens than the model takes. */
  readonly cut: number;
  /** The vector of text i, -1 being the last: a view, not a copy. */
  at(i: number): Float32Array | undefined;
  [Symbol.iterator](): Iterator<Float32Array>;
}

export type Matrix = Vectors | Float32Array[];

/** Cosines: of two vectors a number; of one and many a Float32Array; of two lists a Float32Array for each of a. */
export function similarity(a: Float32Array, b: Float32Array): number;
export function similarity(a: Float32Array, b: Matrix): Float32Array;
export function similarity(a: Matrix, b: Float32Array): Float32Array;
export function similarity(a: Matrix, b: Matrix): Float32Array[];
