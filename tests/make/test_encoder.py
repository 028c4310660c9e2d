"""Layers of a pretrained encoder: they compute what transformers computes, and start by saying nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel

from nestling.errors import InputError, ModelFileError
from nestling.make.contextual import blended, load_student, moments_of, new_student, save_student, to_model, with_rows
from nestling.make.encoder import PrunedEncoder
from nestling.make.known import known_by, word_vectors
from nestling.make.lessons import bags
from nestling.make.settings import Body
from nestling.make.train import pool
from nestling.model.static import StaticModel
from nestling.shrink.fidelity import sample_texts
from nestling.shrink.transformer import with_small_body
from nestling.teacher import Teacher, load_teacher
from tests.conftest import model_of

BODY = Body(encoder="given", keep=(0, 1), words=32, tokens=36)
TEXTS = [" ".join(text.split()[:12]) for text in sample_texts()[:40]]


@pytest.fixture(scope="module")
def folder(teacher_folders: dict[str, Path]) -> Path:
    return teacher_folders["wordpiece"]


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Teacher:
    return load_teacher(str(folder))


@pytest.fixture(scope="module")
def static() -> StaticModel:
    return model_of("wordpiece")


def pruned(static: StaticModel, encoder: Teacher, body: Body = BODY) -> PrunedEncoder:
    student = new_student(static, body, 0, encoder)
    assert isinstance(student, PrunedEncoder)
    return student


def test_it_starts_as_the_static_model(static: StaticModel, encoder: Teacher) -> None:
    model = to_model(pruned(static, encoder), static, BODY)
    split = model.encode(TEXTS, overflow="split")
    np.testing.assert_allclose(split, static.encode(TEXTS), atol=1e-5)
    assert model.document.inner == static.dim + 32
    np.testing.assert_array_equal(with_small_body(model).encode(TEXTS, overflow="split"), split)


def test_it_may_weigh_alone(static: StaticModel, encoder: Teacher) -> None:
    body = replace(BODY, adds=False)
    student = pruned(static, encoder, body)
    assert student.back is None
    texts = [text for text in TEXTS if static.count_tokens([text])[0] < 30]
    np.testing.assert_allclose(to_model(student, static, body).encode(texts), static.encode(texts), atol=1e-5)
    torch.nn.init.normal_(student.weigh.weight)
    model = to_model(student, static, body)
    one = model.encode([static.tokenizer.pieces[30]])
    np.testing.assert_allclose(np.abs(one), np.abs(static.encode([static.tokenizer.pieces[30]])), atol=1e-4)
    assert np.abs(model.encode(texts) - static.encode(texts)).max() > 0.1


def test_what_is_added_may_count_less(static: StaticModel, encoder: Teacher) -> None:
    student = pruned(static, encoder)
    assert student.back is not None
    torch.nn.init.normal_(student.back.weight)
    with torch.no_grad():
        own, weights = torch.randn(2, 7, student.size.columns), torch.ones(2, 7)
        whole = student.through(own, weights)
        half = blended(student, 0.5).through(own, weights)
        none = blended(student, 0.0).through(own, weights)
    torch.testing.assert_close(half, (whole + none) / 2)
    with pytest.raises(InputError, match="blocks that only weigh"):
        blended(pruned(static, encoder, replace(BODY, adds=False)), 0.5)


def test_layers_are_those_of_transformers(static: StaticModel, encoder: Teacher, folder: Path) -> None:
    theirs = AutoModel.from_pretrained(folder).eval()
    student = pruned(static, encoder)
    x = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    bias = torch.where(mask, 0.0, -1e30)[:, None, None, :]
    with torch.no_grad():
        wanted = theirs.encoder(x, attention_mask=bias).last_hidden_state
        for block in student.blocks:
            x = block(x, mask[:, None, None, :])
    torch.testing.assert_close(x[mask], wanted[mask], rtol=1e-4, atol=1e-4)


def test_words_come_in_as_the_encoder_knows_them(static: StaticModel, encoder: Teacher, folder: Path) -> None:
    """All columns kept, what the first norm sees is the encoder's vector of the word, at its usual length."""
    student = pruned(static, encoder)
    own = AutoModel.from_pretrained(folder).embeddings.word_embeddings.weight.detach().numpy()
    vectors = word_vectors(known_by(encoder), static.tokenizer.pieces)
    assert np.array_equal(vectors[0], own[0])
    rows = torch.from_numpy(student.table()[: static.table.size, static.dim :])
    with torch.no_grad():
        seen = student.up(torch.nn.functional.rms_norm(rows, (32,))).numpy()
    mean = student.up.bias.detach().numpy()
    one, other = seen - mean, vectors - mean
    cosines = np.einsum("ij,ij->i", one, other) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert np.median(cosines) > 0.9999
    assert 0.8 < np.median(np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)) < 1.25


def test_whole_rows_and_what_they_do_not_tell_are_its_words(static: StaticModel, encoder: Teacher) -> None:
    """With all columns of what rows do not tell, what goes into the layers is nearly the word vector; with a half of
    them still more of it than by rows alone."""
    vectors = word_vectors(known_by(encoder), static.tokenizer.pieces)

    def told(words: int) -> float:
        student = pruned(static, encoder, replace(BODY, words=words, whole=True))
        rows = torch.from_numpy(student.table()[: static.table.size])
        assert rows.shape[1] == static.dim + words
        with torch.no_grad():
            seen = student.up(torch.nn.functional.rms_norm(rows, rows.shape[1:], eps=1e-7)).numpy()
        return float(1 - np.square(seen - vectors).sum() / np.square(vectors - vectors.mean(axis=0)).sum())

    assert told(32) > 0.9 > told(16) > 0.5
    body = replace(BODY, whole=True)
    model = to_model(pruned(static, encoder, body), static, body)
    np.testing.assert_allclose(model.encode(TEXTS, overflow="split"), static.encode(TEXTS), atol=1e-5)


def test_layers_of_a_transformer_go_on_as_they_were(static: StaticModel, encoder: Teacher) -> None:
    first = pruned(static, encoder)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for each in first.body():
            each.add_(torch.randn(each.shape), alpha=0.05)
    made = to_model(first, static, BODY)
    texts = [text for text in TEXTS if static.count_tokens([text])[0] < 30]
    again = to_model(new_student(static, BODY, 0, made), static, BODY)
    near = [(each.encode(texts) * made.encode(texts)).sum(axis=1) for each in (again, static)]
    assert near[0].min() > 0.97  # all word vectors have one length now
    assert near[0].mean() > 0.99 > 0.95 > near[1].mean()
    one = new_student(static, replace(BODY, keep=(1,), feed=32), 0, with_small_body(made, 2), TEXTS)
    assert isinstance(one, PrunedEncoder)
    assert len(one.blocks) == 1
    assert one.blocks[0].wide.weight.shape == (32, 32)
    cosines = torch.cosine_similarity(one.blocks[0].attended.weight, first.blocks[1].attended.weight)
    assert cosines.min() > 0.9
    assert not torch.equal(one.blocks[0].attended.weight, first.blocks[1].attended.weight)


def test_blocks_that_are_no_layers_are_refused(static: StaticModel) -> None:
    body = Body(dim=32, layers=1, head=16, tokens=36)
    made = to_model(new_student(static, body, 0), static, body)
    with pytest.raises(ModelFileError, match="are no layers of an encoder"):
        new_student(static, BODY, 0, made)


def test_a_word_that_it_lacks_is_the_mean_of_its_pieces(encoder: Teacher) -> None:
    own = np.random.default_rng(0).standard_normal((2000, 4)).astype(np.float32)
    known = replace(known_by(encoder), vectors=own)
    parts = word_vectors(known, ["th", "##in"])
    there = word_vectors(known, ["thin"])
    whole = word_vectors(known, ["qqqzzz"])
    assert not np.array_equal(parts[0], parts[1])
    assert there.shape == (1, 4)
    ids = known.tokenizer.encode(["qqqzzz"]).ids
    assert len(set(ids)) > 1
    np.testing.assert_allclose(whole[0], own[ids].mean(axis=0), rtol=1e-6)


def test_a_part_of_the_feed_forward_part_says_nearly_what_all_said(static: StaticModel, encoder: Teacher) -> None:
    body = replace(BODY, keep=(1,))
    whole = pruned(static, encoder, body)
    tokens = bags(static, TEXTS)
    said: dict[int, torch.Tensor] = {}
    for feed in (16, 48, 0):
        student = new_student(static, replace(body, feed=feed), 0, encoder, TEXTS)
        assert isinstance(student, PrunedEncoder)
        assert student.blocks[0].wide.weight.shape == (feed or 64, 32)
        student.blocks[0].get_submodule("after_feed").register_forward_hook(
            lambda _, __, out, feed=feed: said.setdefault(feed, out)
        )
        with torch.no_grad():
            pool(student, tokens, np.arange(len(TEXTS)), 30)
        rows = {row.numpy().tobytes() for row in student.blocks[0].wide.weight.detach()}
        assert rows <= {row.numpy().tobytes() for row in whole.blocks[0].wide.weight.detach()}
    errors = {feed: float((out - said[0]).square().mean()) for feed, out in said.items()}
    assert errors[48] < errors[16] / 2
    assert errors[16] < 0.2


def test_it_comes_back_as_it_was_behind_other_rows(static: StaticModel, encoder: Teacher, tmp_path: Path) -> None:
    student = pruned(static, encoder)
    save_student(student, tmp_path / "student.safetensors")
    again = load_student(tmp_path / "student.safetensors")
    assert isinstance(again, PrunedEncoder)
    rows = np.random.default_rng(0).standard_normal((50, student.size.columns)).astype(np.float32)
    other = with_rows(again, rows)
    np.testing.assert_allclose(other.table(), rows, atol=1e-6)
    for name, each in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], each)
        assert name in ("directions", "lengths") or torch.equal(other.state_dict()[name], each)


def test_moments_are_those_of_tokens(static: StaticModel, encoder: Teacher) -> None:
    """A long text beside short ones changes nothing of what these say, which padding would."""
    student = pruned(static, encoder)
    torch.nn.init.normal_(student.weigh.weight)
    short, long = [text.split()[0] for text in TEXTS[:9]], [" ".join(TEXTS[:3])]
    alone, one, both = (moments_of(student, static, BODY, texts) for texts in (short, long, short + long))
    assert set(alone) == {name for name, each in student.named_modules() if isinstance(each, torch.nn.Linear)}
    for name, moment in both.items():
        assert moment[-1, -1] == alone[name][-1, -1] + one[name][-1, -1]
        torch.testing.assert_close(moment, alone[name] + one[name], rtol=1e-2, atol=1e-2 * float(moment.abs().max()))


@pytest.mark.parametrize("asked", [{"tokens": 40}, {"keep": (2,)}, {"keep": ()}, {"feed": 80}])
def test_what_the_encoder_lacks_is_refused(static: StaticModel, encoder: Teacher, asked: dict[str, object]) -> None:
    with pytest.raises(InputError, match="It has layers 0 to 1, knows 39 tokens, and has 64 columns"):
        new_student(static, replace(BODY, **asked), 0, encoder)


def test_rows_may_be_all_that_layers_see(static: StaticModel, encoder: Teacher) -> None:
    body = replace(BODY, words=0, whole=True)
    model = to_model(pruned(static, encoder, body), static, body)
    assert model.document.inner == static.dim
    np.testing.assert_allclose(model.encode(TEXTS, overflow="split"), static.encode(TEXTS), atol=1e-5)
    with pytest.raises(InputError, match="0 of words were asked"):
        pruned(static, encoder, replace(BODY, words=0))


def test_other_networks_are_refused(static: StaticModel, teacher_folders: dict[str, Path], onnx_folder: Path) -> None:
    for folder, kind in ((teacher_folders["bpe"], "roberta"), (onnx_folder, "no network that torch runs")):
        with pytest.raises(ModelFileError, match=kind):
            new_student(static, BODY, 0, load_teacher(str(folder)))
