// The plan of a tokenizer (tokenizer.json without its vocabulary) -> what the core is told. What the core does not do
// exactly is refused: other ids would give other vectors, and nobody would notice.

import { damaged, fail, isObject, isWhole } from "./nest.js";

const MOST_ADDED = 1000;
const MOST_ID = 3_999_999;

/** { kind: "WordPiece" or "Unigram", added: [{ content, id, lstrip, rstrip }], and what the kind needs }. */
export function compilePlan(plan) {
  if (!isObject(plan) || !isObject(plan.model)) damaged("a tokenizer plan without a model");
  const kind = plan.model.type;
  if (!Object.hasOwn(KINDS, kind)) refuse(`the tokenizer ${JSON.stringify(kind)}`);
  return { kind, ...KINDS[kind](plan), added: readAdded(plan.added_tokens ?? []) };
}

const KINDS = { WordPiece: wordPiece, Unigram: unigram };

function refuse(what) {
  fail(
    `The model has ${what}.`,
    "BERT's WordPiece, or SentencePiece's Unigram with Metaspace, was expected.",
    "Use the Python package for this model, or another model here.",
  );
}

function need(right, what) {
  if (!right) refuse(what);
}

function wordPiece({ model, normalizer, pre_tokenizer: splitter }) {
  need(
    isObject(splitter) && Object.keys(splitter).length === 1 && splitter.type === "BertPreTokenizer",
    "a pre-tokenizer other than BertPreTokenizer",
  );
  need(isObject(normalizer) && normalizer.type === "BertNormalizer", "a normalizer other than BertNormalizer");
  need(
    normalizer.clean_text === true && normalizer.handle_chinese_chars === true,
    "a normalizer that keeps controls",
  );
  const lower = normalizer.lowercase;
  need(
    typeof lower === "boolean" && [null, lower].includes(normalizer.strip_accents ?? null),
    "accents stripped without lower case",
  );
  need(model.continuing_subword_prefix === "##", "a prefix other than ##");
  need(isWhole(model.max_input_chars_per_word, 1, 1000), "words of over 1,000 characters");
  need(typeof model.unk_token === "string", "no unknown token");
  return { unknown: model.unk_token, mostChars: model.max_input_chars_per_word, cased: !lower };
}

function readAdded(tokens) {
  if (!Array.isArray(tokens)) damaged("added tokens that are no list");
  need(tokens.length <= MOST_ADDED, `over ${MOST_ADDED} added tokens`);
  return tokens.map((token) => {
    if (!isObject(token) || typeof token.content !== "string" || !token.content)
      damaged("an added token without content");
    if (!isWhole(token.id, 0, MOST_ID)) damaged(`an added token ${JSON.stringify(token.content)} without an id`);
    need(token.normalized === false, `an added token, ${token.content}, that is matched in normalised text`);
    need(token.single_word === false, `an added token, ${token.content}, that is matched as a whole word`);
    if (typeof token.lstrip !== "boolean" || typeof token.rstrip !== "boolean") damaged("an added token without sides");
    return { content: token.content, id: token.id, lstrip: token.lstrip, rstrip: token.rstrip };
  });
}

// --- Unigram, as XLM-R, T5 and ALBERT have it ---

const MARK = "\u2581"; // stands for a space
const QUOTES = ["``", "''"].map((pair) => ({ type: "Replace", pattern: { String: pair }, content: '"' }));
const FOLD = ["NFKD", "StripAccents", "Lowercase"];
const SPACES = [" ", MARK].map((content) => ({ type: "Replace", pattern: { Regex: " {2,}" }, content }));
const PREPEND = ["always", "first", "never"];

function unigram({ model, normalizer, pre_tokenizer: splitter }) {
  need(isWhole(model.unk_id) && (model.fuse_unk ?? true) === true, "no unknown piece");
  return {
    unknown: model.unk_id,
    byteFallback: model.byte_fallback === true,
    ...unigramNormalizer(normalizer, splitter?.type === "Metaspace"),
    ...metaspace(splitter),
  };
}

/** Of the steps that the core knows, some, in their order. alone: before a Metaspace without a WhitespaceSplit. */
function unigramNormalizer(normalizer, alone) {
  const steps = stepsOf(normalizer, "normalizers");
  const take = (wanted, is) =>
    wanted.length <= steps.length && wanted.every((each, i) => is(steps[i], each))
      ? steps.splice(0, wanted.length)
      : null;
  const ofType = (step, type) => step.type === type;
  const sides = (taken) => [taken?.[0].strip_left === true, taken?.[0].strip_right === true];
  const found = {
    trim: sides(take(["Strip"], ofType)),
    replaceQuotes: take(QUOTES, same) !== null,
    fold: take(FOLD, ofType) !== null,
    charsmap: fromBase64(take(["Precompiled"], ofType)?.[0].precompiled_charsmap ?? ""),
    strip: sides(take(["Strip"], ofType)),
    collapseSpaces: take([SPACES[0]], same) !== null || (alone && take([SPACES[1]], same) !== null),
  };
  need(steps.length === 0, `a normalizer with ${steps[0]?.type} where it stands`);
  return found;
}

/** Metaspace, alone or behind a WhitespaceSplit. */
function metaspace(splitter) {
  const steps = stepsOf(splitter, "pretokenizers");
  const alone = steps.length === 1;
  const last = steps.at(-1);
  need(alone || (steps.length === 2 && steps[0].type === "WhitespaceSplit"), "an unknown pre-tokenizer");
  need(last.type === "Metaspace" && last.replacement === MARK, "no Metaspace with its usual mark");
  need((last.split ?? true) === true, "a Metaspace that does not split");
  const scheme = last.prepend_scheme ?? "always";
  const prefixed = last.add_prefix_space ?? scheme !== "never";
  need(PREPEND.includes(scheme) && prefixed === (scheme !== "never"), "a Metaspace of unknown form");
  return { splitWhitespace: !alone, prepend: PREPEND.indexOf(scheme) };
}

/** The steps of a normalizer or pre-tokenizer, sequences taken apart. */
function stepsOf(part, inner, depth = 0) {
  if (part === null || part === undefined) return [];
  if (!isObject(part) || depth > 8) damaged("a tokenizer plan of unknown form");
  if (part.type !== "Sequence") return [part];
  if (!Array.isArray(part[inner])) damaged("a tokenizer plan of unknown form");
  return part[inner].flatMap((each) => stepsOf(each, inner, depth + 1));
}

function same(one, other) {
  const ordered = (_, value) => (isObject(value) ? Object.fromEntries(Object.entries(value).sort()) : value);
  return JSON.stringify(one, ordered) === JSON.stringify(other, ordered);
}

function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return damaged("a charsmap that is no base64");
  }
}
