"""The settings of the stages of a recipe: what each table may say, and what it means. Nothing here needs torch."""

from dataclasses import dataclass
from typing import Literal

from nestling.model.blocks import STRIP

TASKS = ("QRY", "DOC", "SYM")  # rows of a transformer's table behind those of the tokenizer
Pooling = Literal["tokens", "sentence"]
LOOK_POOLINGS: tuple[Pooling, ...] = ("tokens", "sentence")
LOOK_DTYPES = ("float16", "int8")


def columns_fit(inner: int, dim: int, head: int, *others: int) -> bool:
    """Whether a transformer can have these columns: in its table, within, in a head, and elsewhere."""
    return head > 0 and dim % head == 0 and not any(each % STRIP for each in (inner, dim, head, *others))


@dataclass(frozen=True)
class Vocabulary:
    """pieces: of a Unigram tokenizer that is trained on the corpus; 0 for the teacher's own tokenizer. words: whole
    words of the corpus to add, at most. least: how often one must occur. prune: pieces that occur less often, once the
    words are there, are left out; their text falls back to smaller pieces. general: tokens of general text that are
    counted as if they had been read too: the teacher's own pieces, by their place in its vocabulary."""

    pieces: int = 0
    words: int = 20_000
    least: int = 10
    prune: int = 0
    general: int = 0


@dataclass(frozen=True)
class Distillation:
    """dim: columns of the result. a: of the frequency weights. whiten: each sentence axis is scaled by its variance
    to the power -whiten / 2 (0 leaves it, 1 makes all equal). skip: leading sentence axes to leave out.
    sentences: texts for the axes. held_out: first texts of the corpus, kept away from all that is learnt.
    pooling: of the model, "mean", or "sublinear", where repeated tokens count less."""

    dim: int = 256
    a: float = 3e-4
    whiten: float = 0.5
    skip: int = 0
    sentences: int = 200_000
    held_out: int = 4_000
    pooling: str = "mean"


@dataclass(frozen=True)
class Looks:
    """Who looks at the texts and how. others: teachers besides the recipe's own. prompts: what goes before a text, a
    prompt for each teacher, the recipe's own first; none at all where left out. query: goes before what asks, the
    anchors of pairs, for the recipe's own teacher, where a student learns tasks. poolings: "sentence", "tokens" or
    both. texts: of the corpus, 0 for all. max_tokens: of a text for a teacher. dtype: of the cached vectors."""

    others: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    query: str = ""
    poolings: tuple[str, ...] = ("sentence", "tokens")
    texts: int = 0
    max_tokens: int = 256
    dtype: str = "float16"


@dataclass(frozen=True)
class Aim:
    """dim: columns of the targets. whiten: each axis is scaled by its power to the -whiten / 2. sample: texts that
    means and axes are taken from. groups: of texts that are alike; 0 for none."""

    dim: int = 256
    whiten: float = 0.3
    sample: int = 200_000
    groups: int = 0


@dataclass(frozen=True)
class Body:
    """What makes a transformer of a static model. dim: columns of the blocks. layers: blocks. head: columns of an
    attention head. inner: columns of the table, 0 for the static model's. static: whether there is a static path.
    warm: whether the table starts as the static model's. tokens: the longest text, when the model runs. dev: an STS
    file that is scored while it learns. encoder: a pretrained encoder whose layers the blocks are, instead; then keep:
    which, counted from 0; feed: columns of their feed-forward parts, 0 for all; words: columns of the table for its
    word vectors; whole: whether the layers see whole rows, of which these say what the others do not; adds: whether
    they add vectors of their own to what they weigh. encoder may be a transformer that was made so."""

    dim: int = 128
    layers: int = 2
    head: int = 64
    inner: int = 0
    static: bool = True
    warm: bool = True
    tokens: int = 1024
    dev: str = ""
    encoder: str = ""
    keep: tuple[int, ...] = ()
    feed: int = 0
    words: int = 64
    whole: bool = False
    adds: bool = True


@dataclass(frozen=True)
class Training:
    """One way to train. The losses are those of losses.py.

    epochs: over the texts (over the pairs, where these count). batch: texts (or pairs) a step. rate: of Adam, rising
    over the first twentieth of the steps, falling to 0 over the others, for rows of unit length; 0 leaves the rows of a
    transformer as they are. epsilon: of Adam,
    large, so that a token that is seldom seen is not thrown about when it is. seed: of the order of texts, in the
    first run. body_rate: of what is no row of a table, in a transformer. cosine, mse, contrastive, relational:
    weights of the losses. temperature: of the latter two. dims: the prefixes that all losses are taken on besides the
    whole; prefixes: their share of the loss. longest: tokens of a text that a step looks at, the first; 0 for all.
    dropout: share of tokens left out. near: how many texts of a group come together in a step. pairs: weight of the
    contrastive loss between the sides of a pair, where a recipe has [pairs]; pair_temperature: of that; margin: a text
    nearer to an anchor, by the teacher, than its own positive less this is no negative. ema: decay a step of the
    averaged table that is kept; 0 for none. checks: how often the held-out loss is taken; patience: checks without
    gain before it ends, where no pairs count. tasks: share of texts that have the token of their task before them, in a
    transformer. compiled: whether torch compiles the blocks, which needs a C++ compiler. seeds: how many runs from one
    start, whose tables are averaged. own: in [again], the share of the student's own vectors in its targets.
    """

    epochs: float = 1.0
    batch: int = 1024
    rate: float = 3e-3
    body_rate: float = 1e-3
    epsilon: float = 1e-4
    cosine: float = 1.0
    mse: float = 0.0
    contrastive: float = 0.0
    relational: float = 1.0
    temperature: float = 0.1
    dims: tuple[int, ...] = ()
    prefixes: float = 0.4
    longest: int = 0
    dropout: float = 0.0
    near: int = 0
    pairs: float = 0.0
    pair_temperature: float = 0.05
    margin: float = 0.05
    ema: float = 0.0
    checks: int = 10
    patience: int = 3
    tasks: float = 0.0
    compiled: bool = False
    seeds: int = 1
    own: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Repairing:
    """rounds: how often code books are trained, codes being assigned anew in between."""

    rounds: int = 2
