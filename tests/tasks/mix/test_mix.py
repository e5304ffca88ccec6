"""The stage mix: what pretraining reads has the shares that the recipe wants, and no text is repeated too often."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from document_sets import Rows, source
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_model import LocalContext, artifact

from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.token_order import read_order
from storage.tokens import TokenSet, write_token_meta, write_token_shard
from tasks.engine.context import Summary
from tasks.mix.amounts import amounts
from tasks.mix.config import MixConfig, MixingConfig
from tasks.mix.pool import Pool, whole_documents
from tasks.mix.stage import mix
from tasks.notices import NOTICES
from tasks.tokenize.canaries import CANARY_SHARD

TOKENS = 9  # of a document without its mark
CANARIES = 7


def row(number: int, source: str, split: str = TRAIN, lang: str = "") -> tuple[str, ...]:
    return (f"text {number}", split, source, lang)


def corpus(home: Path, folder: Path, *shards: Rows) -> tuple[Artifact, Artifact]:
    """Clean documents with signals, in which the stated language is the one found; their tokens; and canaries."""
    documents = source(home, *shards)["documents"].path
    (folder / "signals").mkdir(parents=True)
    (folder / "tokens").mkdir()
    write_token_meta(folder / "tokens", 500)
    for number, rows in enumerate(shards):
        table = pq.read_table(documents / f"{number:05d}.parquet", columns=["id", "lang"])
        measured = table.rename_columns(["id", "language"])
        dropped = pa.table({"id": ["of a document that was dropped"], "language": ["xx"]}, schema=measured.schema)
        measured = pa.concat_tables([dropped, measured])
        pq.write_table(measured, folder / "signals" / f"{number:05d}.parquet")
        for split in (TRAIN, HELDOUT):
            chosen = [([10 + place % 400] * TOKENS, 30) for place, (_, own, *_) in enumerate(rows) if own == split]
            if chosen:
                write_token_shard(folder / "tokens", split, number, chosen, 500)
    write_token_shard(folder / "tokens", TRAIN, CANARY_SHARD, [([3] * 4, 4)] * CANARIES, 500)
    return artifact("filter", documents=documents, signals=folder / "signals"), artifact(
        "tokenize", tokens=folder / "tokens"
    )


SHARDS = (  # training documents: 40 of a, 20 of b, 4 of c; those of c are the last
    [row(n, "a", lang="en") for n in range(30)] + [row(n, "b", HELDOUT, "de") for n in range(30, 35)],
    [row(n, "b", lang="de") for n in range(40, 60)],
    [row(n, "a", lang="en") for n in range(60, 70)] + [row(n, "c") for n in range(70, 74)],
)
OWNERS = ["a"] * 30 + ["b"] * 20 + ["a"] * 10 + ["c"] * 4 + ["canary"] * CANARIES


class Mixed:
    """What one mix of the corpus has."""

    def __init__(self, folder: Path, clean: Artifact, tokenized: Artifact, training_tokens: int, **fields: Any) -> None:
        config = MixingConfig(training_tokens=training_tokens, **fields)
        self.summary: Summary = mix.function(config, tokenized, clean, clean, context=LocalContext(folder))
        self.digest = artifact("mix", order=folder / "order", mix=folder / "mix").digest
        self.rows = json.loads((folder / "mix" / "mix.json").read_bytes())
        order = read_order(folder / "order", TokenSet(tokenized["tokens"].path, TRAIN))
        self.shares = [share for share, _ in order]
        self.pieces = [phase.pieces() for _, phase in order]

    def tokens(self, phase: int = 0) -> dict[str, int]:
        """Tokens that are drawn of each source."""
        counts: Counter[str] = Counter()
        for document, _, size in self.pieces[phase].T.tolist():
            counts[OWNERS[document]] += size
        return dict(counts)

    def times(self) -> list[int]:
        """How often each document is begun."""
        pieces = np.concatenate(self.pieces, axis=1)
        return np.bincount(pieces[0][pieces[1] == 0], minlength=len(OWNERS)).tolist()


class World:
    def __init__(self, home: Path, folder: Path) -> None:
        self.clean, self.tokens = corpus(home, folder / "corpus", *SHARDS)
        self.folder, self.made = folder, 0

    def __call__(self, training_tokens: int, **fields: Any) -> Mixed:
        self.made += 1
        return Mixed(self.folder / str(self.made), self.clean, self.tokens, training_tokens, **fields)


@pytest.fixture
def world(home: Path, tmp_path: Path) -> World:
    return World(home, tmp_path)


CANARY_TOKENS = CANARIES * 5


def test_sources_have_the_wanted_shares_to_the_token(world: World) -> None:
    made = world(600, weights={"a": 1, "b": 2, "c": 0})
    assert made.tokens() == {"a": 200, "b": 400, "canary": CANARY_TOKENS}
    assert made.summary["tokens"] == 600 + CANARY_TOKENS and made.summary["phases"] == 1
    times = made.times()
    assert set(times[30:50]) == {2} and sum(times[:30] + times[50:60]) == 20, "each once before any twice"
    assert times[60:64] == [0] * 4 and times[64:] == [1] * CANARIES
    names = made.rows[0]["names"]
    assert names["b"] == {"there": 200, "wanted": 400, "given": 400, "documents": 40}


def test_languages_are_those_that_the_filter_has_found(world: World) -> None:
    made = world(300, by="language", weights={"de": 2, "*": 1}, max_epochs=50)
    assert made.tokens()["b"] == 200
    assert set(made.rows[0]["names"]) == {"de", "en", "und"}
    assert any("not known (und)" in sentence for sentence in made.summary[NOTICES])


def test_groups_are_named_or_are_all_others(world: World) -> None:
    made = world(100, by="group", weights={"3": 1, "*": 1}, max_epochs=20)
    names = made.rows[0]["names"]
    assert names["3"]["given"] == 50
    assert sum(one["given"] for name, one in names.items() if name != "3") == 50


def test_a_source_is_not_repeated_too_often_and_that_is_said(world: World) -> None:
    made = world(400, weights={"c": 1, "*": 1}, max_epochs=3)
    assert made.tokens()["c"] == 120 and made.tokens()["a"] + made.tokens()["b"] == 280
    assert made.summary[NOTICES] == [
        "mix: c is 30.0% of the mix in place of 50.0%: more would repeat its 40 tokens over 3 times "
        "(collect.mix.max_epochs)"
    ]
    short = world(10_000, max_epochs=2)
    assert short.summary["tokens"] == 2 * 640 + CANARY_TOKENS
    assert "there are 1,280 tokens for a mix of 10,000" in short.summary[NOTICES][-1]


def test_amounts_and_passes_come_before_weights(world: World) -> None:
    made = world(700, tokens={"a": 150}, epochs={"c": 1.5}, weights={"*": 1}, max_epochs=4)
    assert {name: made.tokens()[name] for name in "abc"} == {"a": 150, "b": 490, "c": 60}
    whole = world(10_000, tokens={"a": 150, "b": 30}, epochs={"c": 1})
    assert whole.summary["tokens"] == 150 + 30 + 40 + CANARY_TOKENS, "every name has its amount: so long is the mix"
    assert world(10_000, tokens=64).summary["tokens"] == 64 + CANARY_TOKENS


def test_a_temperature_brings_small_sources_nearer(world: World) -> None:
    made = world(600, temperature=2, max_epochs=1000)
    roots = {name: there**0.5 for name, there in {"a": 400, "b": 200, "c": 40}.items()}
    for name, root in roots.items():
        assert made.tokens()[name] == pytest.approx(600 * root / sum(roots.values()), abs=1)


def test_phases_go_on_where_the_one_before_has_ended(world: World) -> None:
    phases = [{"share": 0.75, "weights": {"a": 1, "*": 0}}, {"share": 0.25, "weights": {"a": 1, "c": 1, "*": 0}}]
    made = world(320, phases=phases, max_epochs=1)
    assert made.shares == [0.75, 0.25]
    assert made.tokens(0)["a"] == 240 and made.tokens(1)["a"] == made.tokens(1)["c"] == 40
    assert max(made.times()) == 1
    assert made.tokens(0)["canary"] + made.tokens(1)["canary"] == CANARY_TOKENS
    assert made.tokens(0)["canary"] > made.tokens(1)["canary"]


def test_no_text_is_repeated_too_often_over_all_phases(world: World) -> None:
    made = world(640, phases=[{"share": 0.5, "weights": {"a": 1, "*": 0}}] * 2, max_epochs=1)
    assert made.tokens(0)["a"] == 320 and made.tokens(1)["a"] == 80


def test_equal_recipes_give_equal_bytes_and_another_seed_others(world: World) -> None:
    digests = [world(300, weights={"a": 1, "*": 1}, seed=seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"weights": {"d": 1, "*": 1}}, "collect.mix.d: there is no such source. There are a, b, c"),
        ({"weights": {"a": 1, "b": 1}}, "weights: nothing is said of c: give a weight (0: leave out), or `*` one"),
        ({"by": "language", "weights": {"dee": 1, "*": 1}}, "dee: there is no such language (did you mean 'de'?)"),
        ({"tokens": {"a": 700}, "weights": {"*": 1}}, "ask for 700 tokens, and the whole mix has 600: nothing is left"),
    ],
)
def test_what_cannot_be_is_an_error_that_names_the_field(world: World, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        world(600, **fields)
    assert says in str(caught.value)


def test_documents_of_other_tokens_are_refused(world: World, home: Path, tmp_path: Path) -> None:
    other, _ = corpus(home, tmp_path / "other", *SHARDS[:2])
    with pytest.raises(DataError, match="50 training documents, and tokens of 64"):
        Mixed(tmp_path / "made", other, world.tokens, 100)


def test_many_groups_are_one_unless_they_are_to_be_evened_out(home: Path, tmp_path: Path) -> None:
    shards = [[(f"text {number}", TRAIN) for number in range(1200)]]
    clean, tokens = corpus(home, tmp_path / "corpus", *shards)
    made = Mixed(tmp_path / "made", clean, tokens, 12_000, by="group", weights={"7": 1, "*": 3}, max_epochs=1000)
    assert {name: one["given"] for name, one in made.rows[0]["names"].items()} == {"*": 9000, "7": 3000}
    with pytest.raises(DataError, match="more than 1,000 names of a group, too many to even out"):
        Mixed(tmp_path / "other", clean, tokens, 12_000, by="group", temperature=2)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"weights": {"a": 1}, "epochs": {"a": 2}}, "a is in weights and in epochs"),
        ({"epochs": {"a": 5}}, "epochs.a: 5 is more than max_epochs, 4"),
        ({"weights": {"a": 0}}, "weights: no name has a weight"),
        ({"weights": {"a": 1}, "temperature": 2}, "temperature: every name has a weight"),
        ({"phases": [{"share": 0.5, "weights": {"a": 1}}]}, "their shares add up to 0.5"),
        ({"phases": [{"share": 1, "weights": {"a": 1}}], "weights": {"a": 1}}, "phases: each has its weights"),
        ({"tokens": {"*": 5}}, "tokens: `*` has a weight only"),
        ({"phases": [{"share": 1, "weights": {}}]}, "phases.0.weights: no name has a weight"),
        ({"weights": ["a"]}, "'a' is not a name and its number, such as books=3"),
        ({"weights": ["a=1", "a=2"]}, "a is there twice"),
        ({"weights": ["a=x"]}, "valid number"),
        ({"weights": {"a": -1}}, "greater than or equal to 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        MixConfig(**fields)
    assert says in str(caught.value)


def test_lines_of_a_form_mean_what_a_mapping_does() -> None:
    stated = {"weights": {"a": 0.1, "b=c": 3, "*": 1}, "tokens": {"d": 5}, "epochs": {"e": 2}}
    config = MixConfig(**stated)
    lines = config.model_dump(mode="json")
    assert lines["weights"] == ["a=0.1", "b=c=3.0", "*=1.0"] and lines["tokens"] == ["d=5"]
    assert MixConfig(**lines) == config
    assert MixConfig(tokens=7).model_dump(mode="json")["tokens"] == 7


weights = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "*"]), st.floats(0.01, 100), max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    there=st.lists(st.integers(1, 10**6), min_size=4, max_size=4),
    weights=weights,
    total=st.integers(1, 10**7),
    most=st.floats(0.1, 20),
)
def test_amounts_add_up_and_stay_below_their_limits(
    there: list[int], weights: dict[str, float], total: int, most: float
) -> None:
    """As much as is wanted or all that may be; and two names that no limit holds have the wanted ratio."""
    config = MixingConfig(training_tokens=total, weights=weights, max_epochs=most)
    [found] = amounts(config, ["a", "b", "c", "d"], np.array(there))
    limits = np.floor(np.array(there) * most)
    assert (found.given <= limits).all() and (found.given >= 0).all()
    wanted = found.wanted > 0
    reachable = min(total, limits[wanted].sum())
    assert abs(found.given.sum() - reachable) <= 1
    free = wanted & (found.given < limits)
    scale = found.given[free].sum() / max(found.wanted[free].sum(), 1e-9)
    assert (abs(found.given[free] - found.wanted[free] * scale) <= 4).all()


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8), draws=st.lists(st.integers(0, 60), max_size=6))
def test_a_pool_gives_each_token_once_before_any_twice(sizes: list[int], draws: list[int]) -> None:
    pool = Pool(whole_documents(np.arange(len(sizes)), np.array(sizes)), seed=3)
    seen: Counter[tuple[int, int]] = Counter()
    for wanted in draws:
        pieces = pool.draw(wanted)
        assert pieces[2].sum() == wanted
        for document, first, size in pieces.T.tolist():
            seen.update((document, first + offset) for offset in range(size))
    places = [(document, token) for document, size in enumerate(sizes) for token in range(size)]
    times = [seen[place] for place in places]
    assert max(times) - min(times) <= 1 and sum(times) == sum(draws)


def test_each_pass_over_a_pool_has_an_order_of_its_own() -> None:
    documents = np.arange(50)
    pool = Pool(whole_documents(documents, np.ones(50, np.int64)), seed=1)
    passes = [pool.draw(50)[0].tolist() for _ in range(3)]
    assert all(sorted(one) == documents.tolist() for one in passes)
    assert len({tuple(one) for one in [*passes, documents.tolist()]}) == 4
