"""Whether the C++ core gives the ids of Hugging Face tokenizers and the vectors of its twin: counted.

    python benchmarks/exactness.py [--data DIR] [--tokenizer NAME] [--quick]

Real texts, every code point, and texts made to break a tokenizer, the same each time, through every kind of tokenizer
that the core knows; then vectors of every form of rows. Writes benchmarks/results/exactness.json; ends with 1 if
anything differs. --tokenizer: this one only ("vectors": none), the others' results stay; --quick: a twentieth, printed
and not written.
"""

import argparse
import json
import platform
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.metadata import version
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tokenizers

import nestling
from nestling.files.parts import POOLINGS
from nestling.make.recipe import cache_folder, data_folder
from nestling.model.layout import lay_out
from nestling.model.native import native_model
from nestling.model.rows import CentroidRows, FloatRows, Int4Rows, Int8Rows, ProductRows, Table
from nestling.model.static import StaticModel
from nestling.text.native import core_module
from nestling.text.plan import dump_plan
from nestling.text.tokenizer import TextTokenizer

RESULTS = Path(__file__).parent / "results" / "exactness.json"
BATCH = 8192
REAL, MADE = 200_000, 50_000  # texts of each stage of real texts, and of each kind of made ones
SHOWN = 5
SURROGATES = range(0xD800, 0xE000)
Texts = Iterator[str]
Array = np.ndarray[Any, Any]


# --- characters ---


def characters(*ranges: tuple[int, int]) -> list[str]:
    """Every character of some ranges, both ends included."""
    return [chr(code) for first, last in ranges for code in range(first, last + 1)]


ASCII = characters((0x20, 0x7E))
LETTERS = characters((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x386, 0x3CE), (0x400, 0x52F), (0x531, 0x587))
SPACES = list(" \t\n\r\x0b\x0c\x1c\x1f\x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000")
CONTROLS = [*characters((0, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)), "\xad"]
CONTROLS += list("\u061c\u180e\ufeff\ufff9\ufffc\ufffd\uffff\U000e0001\U000e0020\ue000\U000f0000\U0010ffff")
MARKS = [c for c in map(chr, range(0x20000)) if unicodedata.category(c) in ("Mn", "Mc", "Me")]
HANGUL = characters((0x1100, 0x11FF), (0xA960, 0xA97C), (0xD7B0, 0xD7FB), (0xAC00, 0xAC40), (0xD780, 0xD7A3))
COMPATIBILITY = characters((0xF900, 0xFAFF), (0x2F800, 0x2FA1D), (0x2E80, 0x2FD5), (0x3300, 0x33FF), (0xFB00, 0xFDFF))
COMPATIBILITY += characters(
    (0xFE10, 0xFEFF), (0xFF00, 0xFFEF), (0x2100, 0x218F), (0x1D400, 0x1D4FF), (0x1F100, 0x1F2FF)
)
IDEOGRAPHS = characters((0x3400, 0x3420), (0x4E00, 0x4F00), (0x9FF0, 0x9FFF), (0x20000, 0x20020), (0x3041, 0x30FF))
JOINED = list(
    "\u0600\u0605\u06dd\u070f\u08e2\u0d4e\U000110bd\u0915\u0937\u094d\u0930\u0995\u09cd\u17d2\u1780\u1039\u1000\u200d"
)
JOINED += list("\u200c\ufe0f\ufe0e\U0001f469\U0001f4bb\U0001f3fd\u2764\U0001f1e6\U0001f1fa\u20e3\u0e33\u0eb3\u0f73")
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«»„“”‘’…–—、。「」！？¿¡·\u2581\u00b4\u2032\u30fb\u0964")
POOLS = (ASCII, LETTERS, SPACES, CONTROLS, MARKS, HANGUL, COMPATIBILITY, IDEOGRAPHS, JOINED, PUNCTUATION)
WORDS = [
    "the",
    "of",
    "unbelievable",
    "internationalization",
    "Straße",
    "café",
    "naïve",
    "привет",
    "isn't",
    "e.g.",
    "3.14",
]


def any_character(rng: random.Random) -> str:
    """Of any plane; low ones are likelier, as they are in texts."""
    while (code := rng.randrange(rng.choice((0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000)))) in SURROGATES:
        pass
    return chr(code)


def draw(rng: random.Random, pools: Sequence[Sequence[str]], most: int) -> str:
    """0 to `most` characters, each of any of the pools."""
    return "".join(rng.choice(rng.choice(pools)) for _ in range(rng.randrange(most + 1)))


# --- real texts ---


@dataclass
class Source:
    """Where texts come from. data: holds corpus/; pieces, added: of the tokenizer."""

    data: Path
    pieces: list[str]
    added: list[str]

    @cached_property
    def vocabulary_characters(self) -> list[str]:
        return sorted(set("".join(self.pieces)))

    @cached_property
    def lines(self) -> list[str]:
        """Some real lines to change, in ten languages."""
        return [*islice(self.multilingual(), 10_000), *islice(self.english(), 5_000)]

    def english(self) -> Texts:
        return column(self.data / "corpus" / "english.parquet")

    def multilingual(self) -> Texts:
        return column(self.data / "corpus" / "multilingual.parquet")


def column(path: Path) -> Texts:
    for batch in pq.ParquetFile(path).iter_batches(columns=["text"]):
        yield from batch.column(0).to_pylist()


def every_code_point() -> Texts:
    """Each alone, and each inside a word and behind one."""
    for code in range(0x110000):
        if code not in SURROGATES:
            yield chr(code)
            yield f"wo{chr(code)}rd {chr(code)}e{chr(code)}"


# --- made texts: each kind gives one text at a time ---


def planes(rng: random.Random, source: Source) -> str:
    return "".join(any_character(rng) for _ in range(rng.randrange(24)))


def vocabulary(rng: random.Random, source: Source) -> str:
    """Characters and pieces of the vocabulary, with marks between."""
    parts = (source.vocabulary_characters, source.pieces, MARKS, [" "])
    return "".join(rng.choice(rng.choices(parts, (6, 2, 2, 1))[0]) for _ in range(rng.randrange(20)))


def specials(rng: random.Random, source: Source) -> str:
    """Added tokens, whole, cut, and in odd case, glued into words."""

    def part() -> str:
        token = rng.choice(source.added or ["[MASK]", "</s>"])
        cut = rng.randrange(len(token) + 1)
        odd = (token, token, token.lower(), token.title(), token[:cut], token[cut:], token + token[-1], f" {token} ")
        return rng.choice((*odd, rng.choice(WORDS), rng.choice(SPACES), rng.choice(MARKS), rng.choice(PUNCTUATION)))

    return "".join(part() for _ in range(rng.randrange(8)))


def controls(rng: random.Random, source: Source) -> str:
    return draw(rng, (CONTROLS, CONTROLS, SPACES, LETTERS, ASCII, MARKS), 20)


def neighbours(rng: random.Random, source: Source) -> str:
    """Characters that join, compose, or are taken apart, beside one another."""
    return draw(rng, (rng.choice(POOLS), rng.choice(POOLS), HANGUL, JOINED, COMPATIBILITY, MARKS, [" "]), 16)


def forms(rng: random.Random, source: Source) -> str:
    """A real line in another normal form or case."""
    line = rng.choice(source.lines)[: rng.randrange(20, 200)]
    change = rng.choice((str, str.upper, str.lower, str.title, str.swapcase))
    return unicodedata.normalize(rng.choice(("NFD", "NFKD", "NFC", "NFKC")), change(line))


def long_words(rng: random.Random, source: Source) -> str:
    """Around a word of 90 to 110, 250, 1,000 or, seldom, 5,000 characters."""
    size = rng.choice((*range(90, 111), *range(98, 103), 250, rng.choice((250, 1000, 5000))))
    pool = rng.choice(
        (["a"], ["é"], ["e\u0301"], ["한"], list("abcdefgh"), LETTERS, ["\u0937\u094d"], source.vocabulary_characters)
    )
    word = "".join(rng.choice(pool) for _ in range(size))[:size]
    return rng.choice(("", "x ", "the ", ".", "\x00")) + word + rng.choice(("", " x", ".", "\u0301", "\x00y", "#", " "))


def runs(rng: random.Random, source: Source) -> str:
    """Runs of spaces and line ends between words."""
    text = ""
    for _ in range(rng.randrange(6)):
        space = rng.choice((" ", " ", "\t", "\r\n", "\n", "\r", rng.choice(SPACES), "\u2581", " \u2581", " \u0301"))
        text += rng.choice((space * rng.randrange(1, 40), space, rng.choice(WORDS), rng.choice(PUNCTUATION)))
    return text


def blocks(rng: random.Random, source: Source) -> str:
    """Words that end around the 16 bytes that are looked at together, in texts that end there."""
    text = "".join(rng.choice("aAbeEstz09") for _ in range(rng.randrange(41)))
    for _ in range(rng.randrange(3)):
        place = rng.randrange(len(text) + 1)
        text = (
            text[:place]
            + rng.choice((" ", ".", "é", "\x00", "東", "\u0301", "[MASK]", "[", "<s>", "\t", "\U0001f600"))
            + text[place:]
        )
    return text[:40]


def mixed(rng: random.Random, source: Source) -> str:
    """A little of all."""
    return rng.choice(("", " ")).join(rng.choice(MAKERS)(rng, source)[:30] for _ in range(rng.randrange(1, 5)))


def spliced(rng: random.Random, source: Source) -> str:
    """A real line with characters put in, taken out, or put for others."""
    text = rng.choice(source.lines)[:160]
    for _ in range(rng.randrange(1, 6)):
        place, gone = rng.randrange(len(text) + 1), rng.randrange(3)
        text = text[:place] + draw(rng, POOLS, 2) + text[place + gone :]
    return text


MAKERS = (planes, vocabulary, specials, controls, neighbours, forms, long_words, runs, blocks)
FUZZ = (*MAKERS, mixed, spliced)


def made(maker: Callable[[random.Random, Source], str], source: Source) -> Texts:
    rng = random.Random(maker.__name__)
    while True:
        yield maker(rng, source)


def stages(source: Source, share: int = 1) -> dict[str, Texts]:
    """All texts by stage; share: one in so many of them."""
    real = {"english": source.english(), "multilingual": source.multilingual()}
    return {
        **{name: islice(texts, REAL // share) for name, texts in real.items()},
        "code points": islice(every_code_point(), None, None, share),
        **{maker.__name__: islice(made(maker, source), MADE // share) for maker in FUZZ},
    }


# --- ids ---


def source_of(plan: dict[str, Any], data: Path) -> Source:
    model, added = plan["model"], [token["content"] for token in plan["added_tokens"] or []]
    pieces = [piece for piece, _ in model["vocab"]] if model["type"] == "Unigram" else list(model["vocab"])
    return Source(data, pieces, added)


def reference_of(plan: dict[str, Any]) -> tokenizers.Tokenizer:
    reference = tokenizers.Tokenizer.from_str(dump_plan(plan))
    reference.no_padding()
    reference.no_truncation()
    return reference


def differing(core: Any, reference: tokenizers.Tokenizer, texts: list[str]) -> tuple[int, list[str]]:
    """How many tokens there are, and the texts whose ids are not those of the reference."""
    ids, offsets = core.encode(texts)
    expected = reference.encode_batch_fast(texts, add_special_tokens=False)
    spans = pairwise(offsets.tolist())
    flat, wrong = ids.tolist(), []
    for text, encoding, (start, stop) in zip(texts, expected, spans, strict=True):
        if encoding.ids != flat[start:stop]:
            wrong.append(text)
    return len(ids), wrong


def compare_stage(core: Any, reference: tokenizers.Tokenizer, texts: Texts) -> dict[str, Any]:
    counts, first, began = {"texts": 0, "tokens": 0, "mismatches": 0}, [], time.monotonic()
    while batch := list(islice(texts, BATCH)):
        tokens, wrong = differing(core, reference, batch)
        for name, count in (("texts", len(batch)), ("tokens", tokens), ("mismatches", len(wrong))):
            counts[name] += count
        first += [json.dumps(text) for text in wrong[: SHOWN - len(first)]]
    return {**counts, **({"first": first} if first else {}), "seconds": round(time.monotonic() - began, 1)}


def compare_ids(name: str, plan: dict[str, Any], data: Path, share: int) -> dict[str, Any]:
    tokenizer = TextTokenizer(dump_plan(plan), name)
    if tokenizer.core is None:
        return {"not compared": tokenizer.why_not, "mismatches": 1}
    source, reference, results = source_of(plan, data), reference_of(plan), {}
    for stage, texts in stages(source, share).items():
        results[stage] = compare_stage(tokenizer.core, reference, texts)
        print(f"{name}, {stage}: {results[stage]}", file=sys.stderr)
    sums = {key: sum(result[key] for result in results.values()) for key in ("texts", "tokens", "mismatches")}
    return {"type": plan["model"]["type"], "pieces": len(source.pieces), **sums, "stages": results}


def plans(data: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """The tokenizers, each read when it is its turn."""
    bge = cache_folder() / "teachers" / "bge-small" / "tokenizer.json"
    return {
        "nano": lambda: nestling.load("nano").tokenizer.json,
        "bge-small": partial(read, bge),
        "bge-small, cased": lambda: cased(read(bge)),
        "potion-base-4M": partial(read, data / "peers" / "potion-base-4M-int8" / "tokenizer.json"),
        "multilingual-e5-small": partial(
            read, cache_folder() / "teachers" / "multilingual-e5-small" / "tokenizer.json"
        ),
        "albert-30k": partial(read, cache_folder() / "tokenizers" / "albert-30k.json"),
    }


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def cased(plan: dict[str, Any]) -> dict[str, Any]:
    plan["normalizer"]["lowercase"] = False
    return plan


# --- vectors ---


def tables(size: int, dim: int) -> dict[str, Table]:
    """Random rows for `size` tokens in every form. dim: 256 for most; product codes need a multiple of 8."""
    rng = np.random.default_rng(3)
    floats = rng.standard_normal((size, dim)).astype(np.float32)
    bytes_ = rng.integers(-127, 128, (size, dim), np.int8)
    scales = rng.random(size, np.float32) / 100 + 0.001
    mapping = rng.integers(0, 5000, size).astype(np.uint16)
    weights = rng.random(size, np.float32) + 0.1
    return {
        "float32": Table(FloatRows(floats)),
        "float16, weighted": Table(FloatRows(floats.astype(np.float16)), weights),
        "int8, a scale each": Table(Int8Rows(bytes_, scales)),
        "int8, one scale": Table(Int8Rows(bytes_, np.full(size, 0.01, np.float32))),
        "int4": Table(Int4Rows(bytes_ // 19, scales)),
        "centroids": Table(CentroidRows(Int8Rows(bytes_[:5000], scales[:5000]), mapping), weights),
        "product": Table(product(rng, bytes_, scales)),
    }


def product(rng: np.random.Generator, rows: Array, scales: Array) -> ProductRows:
    size, dim = rows.shape
    exact = np.arange(0, size, 97, np.uint32)
    widths = (8,) * (dim // 8)
    codes = rng.integers(0, 256, (size - len(exact), len(widths)), np.uint8)
    blocks_ = rng.random(len(widths), np.float32) / 50 + 0.001
    return ProductRows(codes, rows[:256], blocks_, widths, Int8Rows(rows[exact], scales[exact]), exact)


def twin_of(model: StaticModel) -> StaticModel:
    """The same model without the core."""
    twin = StaticModel(model.parts())
    twin.tokenizer.core = None
    twin._reads_in_core(None)
    return twin


def vector_texts(data: Path, share: int) -> list[str]:
    """Real texts in many scripts, documents of 5 KB, and texts without a known word."""
    source = Source(data, [], [])
    short = [*islice(source.english(), 16_000 // share), *islice(source.multilingual(), 8_000 // share)]
    documents = [" ".join(short[i : i + 50])[:5000] for i in range(0, len(short), 50)]
    return [*short, *documents, "", " ", "\x00", "\U0010ffff", "\u0301", "x" * 101, "a" * 5000, "the " * 3000]


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"normalize": False},
    {"overflow": "split"},
    {"dtype": "float16"},
    {"dtype": "int8"},
    {"dtype": "binary"},
)


def compare_vectors(model: StaticModel, texts: list[str]) -> dict[str, Any]:
    """Core and twin, then the core with itself: alone, in another order, with more threads, with narrower registers."""
    twin, largest, rows_differ = twin_of(model), 0.0, 0
    for options in OPTIONS:
        for dim in model.dims if not options else model.dims[:1]:
            ours = model.encode_counting(texts, dim=dim, **options)[0]
            theirs = twin.encode_counting(texts, dim=dim, **options)[0]
            if ours.dtype == np.float32:
                largest = max(largest, float(np.abs(ours - theirs).max()))
            rows_differ += int((ours != theirs).any(axis=1).sum())
    return {
        "backend": model.backend,
        "texts": len(texts),
        "dims": list(model.dims),
        "largest difference": largest,
        "rows that differ": rows_differ,
        "changed by": changes(model, texts),
    }


def changes(model: StaticModel, texts: list[str]) -> list[str]:
    """What changes a bit of a vector, and should not."""
    expected = model.encode_counting(texts, threads=1)[0]
    order = np.random.default_rng(5).permutation(len(texts))
    back = np.empty_like(expected)
    back[order] = model.encode_counting([texts[i] for i in order])[0]
    found = {f"{threads} threads": model.encode_counting(texts, threads=threads)[0] for threads in (2, 4)}
    found |= {"order": back, "one at a time": np.stack([model.encode_counting(text)[0] for text in texts])}
    core, _ = core_module()
    for isa in core.kernels():
        how = model.table.size, model.document.drop, model.document.sublinear, isa
        other = native_model(model.tokenizer.core, lay_out(model.table), *how)
        found[isa] = np.full_like(expected, 7)
        limit = -1 if model.max_tokens is None else model.max_tokens
        other.encode(texts, found[isa], model.dim, limit, False, True, 0, 1)
    return [name for name, vectors in found.items() if vectors.tobytes() != expected.tobytes()]


def all_vectors(data: Path, share: int) -> dict[str, Any]:
    nano, texts = nestling.load("nano"), vector_texts(data, share)
    models = {"nano": nano, "nano, at most 20 tokens": StaticModel(limited(nano, 20))}
    for dim in (256, 72):
        models |= {
            f"{name}, {dim}-d, {pooling}": nano.with_table(table, pooling=pooling)
            for name, table in tables(nano.table.size, dim).items()
            for pooling in POOLINGS
        }
    results = {}
    for name, model in models.items():
        results[name] = compare_vectors(model, texts)
        print(f"vectors of {name}: {results[name]}", file=sys.stderr)
    return results


def limited(model: StaticModel, tokens: int) -> Any:
    return replace(model.parts(), document=replace(model.document, max_tokens=tokens))


# --- the run ---


def failures(report: dict[str, Any]) -> Iterable[str]:
    for name, result in report["tokenizers"].items():
        if result["mismatches"]:
            yield f"{name}: {result.get('not compared', result['mismatches'])}"
    for name, result in report.get("vectors", {}).items():
        if result["largest difference"] > 1e-6 or result["changed by"] or not result["backend"].startswith("core"):
            yield f"vectors of {name}: {result['largest difference']}, {result['changed by']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--tokenizer")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    share = 20 if arguments.quick else 1
    core, why_not = core_module()
    if core is None:
        sys.exit(why_not)
    known = plans(arguments.data)
    names = [*known, "vectors"] if arguments.tokenizer is None else [arguments.tokenizer]
    if set(names) - {*known, "vectors"}:
        sys.exit(f"{arguments.tokenizer} is none of {', '.join(known)}, vectors")
    report = json.loads(RESULTS.read_text()) if arguments.tokenizer and RESULTS.exists() else {"tokenizers": {}}
    report["command"] = "python benchmarks/exactness.py"
    report["versions"] = {name: version(name) for name in ("nestling", "tokenizers", "numpy")}
    report["versions"] |= {"python": platform.python_version(), "kernels": core.kernels()}
    for name in names:
        if name == "vectors":
            report["vectors"] = all_vectors(arguments.data, share)
            continue
        try:
            plan = known[name]()
        except FileNotFoundError as error:
            report["tokenizers"][name] = {"not compared": f"{error.filename} is not there", "mismatches": 0}
            continue
        report["tokenizers"][name] = compare_ids(name, plan, arguments.data, share)
    wrong = list(failures(report))
    if arguments.quick:
        print(json.dumps(report, indent=1))
    else:
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
