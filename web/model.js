// A model: nestling.d.ts says what its methods mean.

import { damaged, fail, noText, oneOf, quote } from "./nest.js";

const NOT_FINITE = 2 ** 32 - 1; // instead of how many were cut

export class Vectors {
  constructor(data, dim, cut = 0) {
    this.data = data;
    this.dim = dim;
    this.cut = cut;
  }

  get length() {
    return this.data.length / this.dim;
  }

  at(i) {
    const row = i < 0 ? i + this.length : i;
    return row >= 0 && row < this.length ? this.data.subarray(row * this.dim, (row + 1) * this.dim) : undefined;
  }

  *[Symbol.iterator]() {
    for (let i = 0; i < this.length; i++) yield this.at(i);
  }
}

export class Model {
  #room;
  #warned = false;

  constructor(room, document, dim = document.dim) {
    this.#room = room;
    this.document = document;
    this.dim = checkDim(document, dim);
    this.dims = document.dims.filter((tier) => tier <= dim);
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
  get maxTokens() {
    return this.document.max_tokens;
  }
  get fingerprint() {
    return this.document.fingerprint;
  }
  get tasks() {
    return [...Object.keys(this.document.prompts), ...Object.keys(this.document.task_tokens)];
  }

  encode(texts, options = {}) {
    return this.#encode(texts, options, "text");
  }

  encodeQuery(texts, options = {}) {
    return this.#encode(texts, options, "query");
  }

  encodeDocument(texts, options = {}) {
    return this.#encode(texts, options, "document");
  }

  countTokens(texts, { errors = "strict" } = {}) {
    const { listed, single } = list(texts);
    const counts = new Uint32Array(listed.length);
    this.#room.pass(listed, "", errors, (start, n, ascii) => counts.set(this.#room.count(n, ascii), start));
    return single ? counts[0] : Array.from(counts);
  }

  #encode(texts, options, role) {
    const usual = this.document.architecture === "transformer" ? "split" : "cut";
    const { dim = this.dim, normalize = true, overflow = usual, errors = "strict", out } = options;
    const { listed, single } = list(texts);
    checkDim(this, dim);
    oneOf("overflow", overflow, ["cut", "error", "split"]);
    const task = this.#taskOf(role, options.task);
    const prompt = Object.hasOwn(this.document.prompts, task) ? this.document.prompts[task] : "";
    const data = outputOf(out, listed.length * dim);
    const cut = this.#fill(data, listed, { dim, task, prompt, normalize, overflow, errors });
    if (cut) this.#warn(cut, listed.length);
    return single ? data : new Vectors(data, dim, cut);
  }

  /** What is asked for, or what the file says. */
  #taskOf(role, asked) {
    const { routes } = this.document;
    if (asked === undefined) return Object.hasOwn(routes, role) ? routes[role] : role === "text" ? "" : role;
    if (asked && !this.tasks.includes(asked))
      fail(
        `task ${quote(asked)} is not a task of ${this.name}.`,
        `It has ${this.tasks.join(", ") || "none"}.`,
        "Choose one.",
      );
    return asked;
  }

  /** Writes the vectors of texts into `data`; how many were cut. */
  #fill(data, texts, { dim, task, prompt, normalize, overflow, errors }) {
    const limit = overflow === "split" || this.maxTokens === null ? -1 : Math.min(this.maxTokens, 2 ** 31);
    const tokens = this.document.task_tokens;
    const how = [dim, limit, overflow === "error", normalize, Object.hasOwn(tokens, task) ? tokens[task] : -1];
    let cut = 0;
    this.#room.pass(texts, prompt, errors, (start, n, ascii) => {
      const done = this.#room.encode(n, ascii, data, start * dim, ...how);
      if (done.cut === NOT_FINITE) damaged("weights that give values which are not finite");
      if (done.stopped < n) this.#tooLong(start + done.stopped);
      cut += done.cut;
    });
    return cut;
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
