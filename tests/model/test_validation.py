"""Bits per byte against a distribution made by hand, in validation and in the trainer's own rows.

The model is a table: after token i, token i + d (modulo 4) has the probability 1/2, 1/4, 1/8, 1/8 for d = 0, 1, 2, 3,
so a transition costs exactly 1, 2, 3 or 3 bits and every figure below is a sum of those.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from model.batches import Example, ExampleSet
from model.job import Source, TrainingJob
from model.optimizer import OptimizerSettings
from model.parallel import Workers
from model.schedule import Schedule
from model.shape import Shape
from model.trainer import main
from model.transformer import Block, Transformer, save_model
from model.validation import DocumentValidation, ExampleValidation, open_validation
from storage.errors import DataError
from storage.tokens import TokenSet, write_token_meta, write_token_shard

pytestmark = pytest.mark.usefixtures("one_thread", "untouched_process")

TRANSITION_BITS = (1, 2, 3, 3)
SHAPE = Shape(4, 1, 4, 2, 1, 2, 4, 8, tied_embeddings=False)


def bits(ids: list[int]) -> int:
    """Of every token after the first."""
    return sum(TRANSITION_BITS[(after - before) % 4] for before, after in pairwise(ids))


@pytest.fixture
def table() -> Transformer:
    """Blocks that add nothing; a token's hidden state is its unit vector times 2 (the root of the width)."""
    model = Transformer(SHAPE).requires_grad_(False)
    for block in model.model.layers:
        assert isinstance(block, Block)
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()
    model.model.embed_tokens.weight.copy_(torch.eye(4))
    costs = torch.tensor([[TRANSITION_BITS[(after - before) % 4] for before in range(4)] for after in range(4)])
    model.head.copy_(-costs * math.log(2) / 2)
    return model


def write_tokens(folder: Path, **documents: list[tuple[list[int], int]]) -> TokenSet:
    folder.mkdir()
    write_token_meta(folder, 4)
    for split, some in documents.items():
        write_token_shard(folder, split, 0, some, 4)
    return TokenSet(folder, "heldout")


def test_bits_per_byte_of_documents_by_hand(table: Transformer, tmp_path: Path) -> None:
    """`<|endoftext|>` (0) precedes each document and costs nothing; a document of more than a context costs all its
    transitions once; one without tokens counts neither its bits nor its bytes."""
    documents = [([1, 1, 2], 7), ([3, 2, 0, 0], 5), ([], 1000), ([1, 3] * 15, 61)]
    validation = DocumentValidation(write_tokens(tmp_path / "t", heldout=documents), limit_tokens=1000)
    expected = ((2 + 1 + 2) + (3 + 3 + 3 + 1) + (2 + 3 * 29)) / (7 + 5 + 61)
    assert validation.figures(table, Workers(1))["bits_per_byte"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("limit", "taken"), [(40, 1), (39, 2), (20, 2), (14, 3), (13, 4), (4, 10), (1, 40)])
def test_the_sample_is_evenly_spaced_over_all_documents(
    table: Transformer, tmp_path: Path, limit: int, taken: int
) -> None:
    """Ten documents of 4 tokens, each of its own bytes: every document counts that stands at a multiple of `taken`."""
    documents = [([1, number % 4, 1], 1 << number) for number in range(10)]
    validation = DocumentValidation(write_tokens(tmp_path / "t", heldout=documents), limit)
    chosen = documents[::taken]
    expected = sum(bits([0, *ids]) for ids, _ in chosen) / sum(size for _, size in chosen)
    assert validation.figures(table, Workers(1))["bits_per_byte"] == pytest.approx(expected, rel=1e-6)


def test_bits_per_byte_of_answers_by_hand(table: Transformer, tmp_path: Path) -> None:
    """A prompt costs nothing, the first token of its answer is predicted from the prompt's last."""
    ExampleSet.write(tmp_path / "e", [Example([0, 3, 1], [1, 2], 3), Example([0], [2, 2, 0], 8)])
    validation = ExampleValidation(ExampleSet(tmp_path / "e"))
    assert validation.figures(table, Workers(1))["bits_per_byte"] == pytest.approx(
        ((1 + 2) + (3 + 1 + 3)) / (3 + 8), rel=1e-6
    )


def test_a_source_is_opened_by_its_kind(table: Transformer, tmp_path: Path) -> None:
    write_tokens(tmp_path / "t", train=[([1], 1)], heldout=[([2, 3], 1), ([1], 100), ([1], 100)])
    ExampleSet.write(tmp_path / "e", [Example([0], [1], 1)])
    found = open_validation(Source("packed", str(tmp_path / "t")), limit_tokens=3)  # every third document
    assert found.figures(table, Workers(1))["bits_per_byte"] == pytest.approx(5)
    found = open_validation(Source("examples", str(tmp_path / "e")), limit_tokens=1)
    assert found.figures(table, Workers(1))["bits_per_byte"] == pytest.approx(2)


def test_nothing_held_out_is_said_with_the_field_to_change(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path / "t", train=[([1], 1)], heldout=[([], 5)])
    with pytest.raises(DataError, match=r"no held-out document.*collect\.heldout_fraction"):
        DocumentValidation(tokens, 1000)
    ExampleSet.write(tmp_path / "e", [])
    with pytest.raises(DataError, match=r"no held-out pair.*collect\.heldout_fraction"):
        ExampleValidation(ExampleSet(tmp_path / "e"))


@pytest.mark.parametrize("kind", ["packed", "examples"])
def test_the_trainer_shows_bits_per_byte_of_what_it_trains_on(table: Transformer, tmp_path: Path, kind: str) -> None:
    """One step from the table. Packed: two rows of the context's 8 transitions over 17 tokens with their marks, bytes
    a token of the whole set. Examples: the answers' tokens alone. Before the first step the held-out text costs 5
    bits for 4 bytes."""
    documents = [([1, 1, 2, 0, 3, 3, 3, 2], 30), ([1, 3, 2, 2, 2, 1, 0], 21)]
    write_tokens(tmp_path / "t", train=documents, heldout=[([1, 0], 4)])
    examples = [Example([0, 3, 1], [1, 2], 3), Example([0, 1], [2, 2, 0], 8)]
    ExampleSet.write(tmp_path / "e", examples)
    (tmp_path / "table").mkdir()
    save_model(table, tmp_path / "table")
    if kind == "packed":
        stream = [token for ids, _ in documents for token in (0, *ids)]
        assert len(stream) == 17
        lost, scored, each = bits(stream), 16, (30 + 21) / 17
    else:
        lost, scored, each = (1 + 2) + (2 + 1 + 3), 5, (3 + 8) / 5
    heldout = {"heldout": Source("packed", str(tmp_path / "t"))}
    (tmp_path / "work").mkdir()
    TrainingJob(
        objective="next_token" if kind == "packed" else "answers",
        shape=SHAPE,
        optimizer=OptimizerSettings(matrix_rate=0.001, embedding_rate=0.001),
        schedule=Schedule(1, 0, 0),
        data=Source("packed", str(tmp_path / "t")) if kind == "packed" else Source("examples", str(tmp_path / "e")),
        data_digest="d",
        rows_per_step=2,
        micro_batch_tokens=64,
        seed=1,
        dtype="float32",
        device="cpu",
        threads=1,
        validation=heldout,
        validation_interval=1,
        validation_tokens=100,
        work=str(tmp_path / "work"),
        output=str(tmp_path / "model"),
        checkpoint_interval=10,
        initial=str(tmp_path / "table"),
        validation_before=heldout,
    ).write(tmp_path / "job.json")
    assert main([str(tmp_path / "job.json")]) == 0
    (row,) = map(json.loads, (tmp_path / "work" / "metrics.jsonl").read_text().splitlines())
    assert row["loss"] == pytest.approx(lost * math.log(2) / scored, rel=1e-5)
    assert row["bits_per_byte"] == pytest.approx(lost / scored / each, rel=1e-5)
    result = json.loads((tmp_path / "work" / "result.json").read_text())
    assert result["before"]["heldout"] == pytest.approx(5 / 4, rel=1e-5)
    assert result["after"]["heldout"] == pytest.approx(5 / 4, rel=0.05)
