// Text embeddings in a browser, a worker, Node or Deno.
//
//   import { load, similarity } from "nestling";
//   const model = await load("nano.nest");
//   similarity(model.encode("a sleeping kitty"), model.encode(documents));

/** What load and encode throw. It says what was given, what was expected, and what to do. */
export class NestlingError extends Error {}

export interface LoadOptions {
  /** One of the model's tiers, to be its largest. */
  dim?: number;
  /**
   * Where nestling.wasm is (nestling-unigram.wasm for a Unigram tokenizer, nestling-transformer.wasm for a transformer), its
   * bytes, or its compiled module; by default it lies beside nestling.js.
   */
  wasm?: string | URL | ArrayBuffer | ArrayBufferView | WebAssembly.Module;
}

export type Source = string | URL | ArrayBuffer | ArrayBufferView | Response | Blob;

/** Loads a .nest file from a URL, a path (in Node), bytes, or what has them: a Response, a Blob, a File. */
export function load(source: Source, options?: LoadOptions): Promise<Model>;

export interface EncodeOptions {
  /** One of the model's `dims`; the largest by default. */
  dim?: number;
  /** Unit length, the default; false gives the mean of the tokens' rows. */
  normalize?: boolean;
  /**
   * Of a text of more than maxTokens tokens: "cut" it (a warning says so once), refuse it, or "split" it, which takes the
   * mean over all of its tokens. The default is "cut" for static models, "split" for transformers.
   */
  overflow?: "cut" | "error" | "split";
  /** Of half a character (a lone surrogate): refuse it, the default, or put U+FFFD there. */
  errors?: "strict" | "replace";
  /** Of a transformer: one of its `tasks`, or "" for none; by default what the model's file says. */
  task?: string;
  /** To fill instead of a new array: as many texts times dim. */
  out?: Float32Array;
}

/** A model of what a file holds. */
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
  /** The tasks that have a prompt, or a token, of their own. */
  readonly tasks: string[];

  /** Tokens of a text, unknown ones included; of an array, those of each. */
  countTokens(text: string, options?: Pick<EncodeOptions, "errors">): number;
  countTokens(texts: Iterable<string>, options?: Pick<EncodeOptions, "errors">): number[];

  /** A text's vector; of an array of texts, their Vectors. Zeros where there is no known token. */
  encode(text: string, options?: EncodeOptions): Float32Array;
  encode(texts: Iterable<string>, options?: EncodeOptions): Vectors;
  /** encode with the model's prompt or task for queries, if it has one. */
  encodeQuery(text: string, options?: EncodeOptions): Float32Array;
  encodeQuery(texts: Iterable<string>, options?: EncodeOptions): Vectors;
  /** encode with the model's prompt or task for documents, if it has one. */
  encodeDocument(text: string, options?: EncodeOptions): Float32Array;
  encodeDocument(texts: Iterable<string>, options?: EncodeOptions): Vectors;
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
