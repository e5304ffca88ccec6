"""A curriculum by a score: what pretraining reads is sorted, phases have equal tokens, what has no score comes last."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from document_sets import source
from pydantic import ValidationError
from tiny_model import LocalContext, artifact

from model.job import Source
from model.packed import packed_phases
from storage.documents import HELDOUT, TRAIN, write_table
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.token_order import read_order
from storage.tokens import TokenSet, write_token_meta, write_token_shard
from tasks.mix.config import MixConfig, MixingConfig
from tasks.mix.stage import mix
from tasks.notices import NOTICES
from tasks.tokenize.canaries import CANARY_SHARD

CANARIES = 8
LENGTHS = [5, 90, 20, 70, 10, 60, 40, 30, 80, 50, 15, 25]  # tokens of documents without their mark
SCORES: list[Any] = [3, 1.5, None, 2, 9, "7", True, -4, 6, 5, 0, 8]  # of metadata; a text and a truth are no numbers
TOTAL = sum(LENGTHS) + len(LENGTHS)


class World:
    """Documents in two shards, one held out in each, with signals and metadata; their tokens; and canaries."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder, self.made = folder, 0
        rows = [(f"text {number}", TRAIN, "ab"[number % 2]) for number in range(12)]
        shards = [[*rows[:7], ("held", HELDOUT, "a")], [("out", HELDOUT, "b"), *rows[7:]]]
        documents = source(home, *shards)["documents"].path
        for name in ("documents", "signals", "tokens"):
            (folder / name).mkdir(parents=True)
        write_token_meta(folder / "tokens", 500)
        number = 0
        for shard, texts in enumerate(shards):
            table = pq.read_table(documents / f"{shard:05d}.parquet")
            metadata, words, own = [], [], []
            for _, split, _ in texts:
                trained = split == TRAIN
                score = SCORES[number] if trained else 1
                metadata.append(json.dumps({"file": "x", **({} if score is None else {"score": score})}))
                words.append(None if trained and number == 3 else 100 - number)
                if trained:
                    own.append(([10 + number] * LENGTHS[number], 30))
                number += trained
            column = table.schema.get_field_index("metadata")
            table = table.set_column(column, table.schema.field(column), pa.array(metadata))
            write_table(folder / "documents" / f"{shard:05d}.parquet", table)
            signals = pa.table({"id": table["id"], "language": [""] * len(words), "words": pa.array(words, pa.int64())})
            pq.write_table(signals.take(list(range(len(words)))[::-1]), folder / "signals" / f"{shard:05d}.parquet")
            write_token_shard(folder / "tokens", TRAIN, shard, own, 500)
        write_token_shard(folder / "tokens", TRAIN, CANARY_SHARD, [([3] * 4, 4)] * CANARIES, 500)

    def __call__(self, training_tokens: int = TOTAL, by: str = "length", **fields: Any) -> "Made":
        self.made += 1
        own = {name: fields.pop(name) for name in ("first", "phases") if name in fields}
        return Made(self, self.folder / str(self.made), training_tokens, curriculum={"by": by, **own}, **fields)


class Made:
    def __init__(self, world: World, folder: Path, training_tokens: int, **fields: Any) -> None:
        self.folder = folder
        clean = artifact("filter", documents=world.folder / "documents", signals=world.folder / "signals")
        self.tokens: Artifact = artifact("tokenize", tokens=world.folder / "tokens")
        config = MixingConfig(training_tokens=training_tokens, **fields)
        self.summary = mix.function(config, self.tokens, clean, clean, context=LocalContext(folder))
        self.digest = artifact("mix", order=folder / "order", mix=folder / "mix").digest
        self.rows = json.loads((folder / "mix" / "mix.json").read_bytes())
        order = read_order(folder / "order", TokenSet(world.folder / "tokens", TRAIN))
        self.shares = [share for share, _ in order]
        self.pieces = [phase.pieces() for _, phase in order]

    def documents(self, phase: int) -> list[int]:
        """The documents of a phase, without canaries, each as often as it has a piece."""
        return [number for number in self.pieces[phase][0].tolist() if number < len(LENGTHS)]

    def size(self, phase: int) -> int:
        document, _, tokens = self.pieces[phase]
        return int(tokens[document < len(LENGTHS)].sum())


@pytest.fixture
def world(home: Path, tmp_path: Path) -> World:
    return World(home, tmp_path / "world")


def test_short_documents_come_first_in_phases_of_equal_tokens(world: World) -> None:
    made = world(phases=3)
    assert made.shares == [pytest.approx(1 / 3)] * 3
    sizes = [made.size(phase) for phase in range(3)]
    assert sum(sizes) == TOTAL and max(sizes) - min(sizes) <= 1
    for earlier, later in zip(range(2), range(1, 3), strict=True):
        longest = max(LENGTHS[number] for number in made.documents(earlier))
        assert longest <= min(LENGTHS[number] for number in made.documents(later))
    assert made.documents(0) != sorted(made.documents(0), key=LENGTHS.__getitem__), "shuffled within a phase"
    assert made.rows[0]["scores"][0] == 6.0, "tokens with the mark of the document"
    assert sum(one["given"] for row in made.rows for one in row["names"].values()) == TOTAL
    assert NOTICES in made.summary and made.summary[NOTICES] == []
    canaries = [int((pieces[0] >= len(LENGTHS)).sum()) for pieces in made.pieces]
    assert sum(canaries) == CANARIES and min(canaries) > 0


def test_the_other_way_round_long_documents_come_first(world: World) -> None:
    made = world(phases=2, first="high")
    assert min(LENGTHS[number] for number in made.documents(0)) >= max(LENGTHS[number] for number in made.documents(1))


def test_a_number_of_the_metadata_sorts_and_what_lacks_it_comes_last_and_is_said(world: World) -> None:
    made = world(by="metadata.score", phases=12)
    phases = [sorted(set(made.documents(phase))) for phase in range(12)]
    known = [[SCORES[number] for number in own if number not in (2, 5, 6)] for own in phases]
    ends = [(min(own), max(own)) for own in known if own]
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(ends)) and len(ends) > 5
    firsts = list(dict.fromkeys(number for own in phases for number in own))
    assert firsts[0] == 7 and set(firsts[-3:]) == {2, 5, 6}
    assert made.rows[-1]["scores"] is None
    assert made.summary[NOTICES] == [
        "mix: 3 of 12 training documents have no number metadata.score: they come last, after all that have one "
        "(collect.mix.curriculum)"
    ]


def test_a_signal_of_the_filter_sorts(world: World) -> None:
    """They lie in another order than the documents; a null is no number."""
    made = world(by="signals.words", phases=2)
    assert set(made.documents(0)) | set(made.documents(1)) == set(range(12))
    assert min(made.documents(0)) > 4 and 3 in made.documents(1)
    assert "1 of 12 training documents have no number signals.words" in made.summary[NOTICES][0]


def test_weights_say_how_much_and_the_curriculum_when(world: World) -> None:
    made = world(300, by="length", phases=2, weights={"a": 3, "b": 1}, max_epochs=4)
    given = {name: sum(row["names"][name]["given"] for row in made.rows) for name in "ab"}
    assert given == {"a": 225, "b": 75}
    assert [made.size(phase) for phase in range(2)] == [150, 150]


def test_training_goes_through_the_phases_in_order(world: World) -> None:
    made = world(phases=2)
    source_ = Source("packed", str(made.tokens["tokens"].path), str(made.folder / "order"))
    batches = packed_phases(source_, 8, 2, 1, 20)
    assert [steps for _, steps in batches.phases] == [10, 10]
    short, long = ({number + 10 for number in made.documents(phase)} for phase in range(2))
    marks = {0, 3}
    assert set(np.unique(batches.batch(0).inputs).tolist()) <= short | marks
    assert set(np.unique(batches.batch(19).inputs).tolist()) <= long | marks


def test_equal_recipes_give_equal_bytes(world: World) -> None:
    assert world(phases=3).digest == world(phases=3).digest != world(phases=3, first="high").digest


@pytest.mark.parametrize(
    ("by", "there"),
    [("metadata.quality", "There: metadata.score"), ("signals.quality", "There: signals.words")],
)
def test_a_score_that_no_document_has_is_an_error_with_those_that_there_are(world: World, by: str, there: str) -> None:
    with pytest.raises(DataError, match=f"no training document has the number {by}") as caught:
        world(by=by)
    assert there in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"curriculum": {"by": "score"}}, "by"),
        ({"curriculum": {"phases": 1}}, "greater than or equal to 2"),
        ({"curriculum": {}, "phases": [{"share": 1, "weights": {"a": 1}}]}, "both say when what is read"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        MixConfig(**fields)
