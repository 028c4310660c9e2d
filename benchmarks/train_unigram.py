"""An ALBERT-type Unigram tokenizer of 30,000 pieces, to hold the core against.

    python benchmarks/train_unigram.py [--data DIR]

Trains on the first texts of corpus/english.parquet, with the charsmap of multilingual-e5-small, and writes
~/.cache/nestling/tokenizers/albert-30k.json.
"""

import argparse
import base64
import json
from pathlib import Path

import pyarrow.parquet as pq
from tokenizers import Regex, Tokenizer, models, trainers
from tokenizers import normalizers as norm
from tokenizers import pre_tokenizers as split

from nestling.make.recipe import cache_folder, data_folder

TEXTS, PIECES = 150_000, 30_000
SPECIAL = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder())
    texts = pq.read_table(parser.parse_args().data / "corpus/english.parquet", columns=["text"])["text"]
    teacher = json.loads((cache_folder() / "teachers/multilingual-e5-small/tokenizer.json").read_text("utf-8"))
    charsmap = base64.b64decode(teacher["normalizer"]["normalizers"][0]["precompiled_charsmap"])
    tokenizer = Tokenizer(models.Unigram())
    quotes = [norm.Replace("``", '"'), norm.Replace("''", '"')]
    fold = [norm.NFKD(), norm.StripAccents(), norm.Lowercase()]
    tokenizer.normalizer = norm.Sequence(
        [*quotes, *fold, norm.Precompiled(charsmap), norm.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = split.Sequence([split.WhitespaceSplit(), split.Metaspace(prepend_scheme="always")])
    trainer = trainers.UnigramTrainer(vocab_size=PIECES, special_tokens=SPECIAL, unk_token="<unk>")
    tokenizer.train_from_iterator(texts[:TEXTS].to_pylist(), trainer)
    path = cache_folder() / "tokenizers" / "albert-30k.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    print(f"{path}: {tokenizer.get_vocab_size():,} pieces")


if __name__ == "__main__":
    main()
