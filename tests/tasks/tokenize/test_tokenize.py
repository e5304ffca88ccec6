"""The stage tokenize: every document in its split, in order, and files that a new shard leaves alone."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from document_sets import Rows, source, training
from pydantic import ValidationError

from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError
from storage.store.artifacts import Artifact
from storage.tokens import TokenSet, read_token_meta
from tasks.engine.builder import builder
from tasks.engine.context import Execution, Summary
from tasks.engine.stage import engine_in_force
from tasks.tokenize.canaries import draw_canaries, read_planted
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, load_tokenizer, train_tokenizer

TEXT = "the cat and the dog sat on the mat, and the rat ran at the cat. " * 20
NO_CANARIES = TokenizeConfig(canaries=0)
CANARIES = TokenizeConfig(canaries=2, canary_repeats=(1, 3), canary_share=0.5)


def build(
    home: Path, *shards: Rows, workers: int = 1, config: TokenizeConfig = NO_CANARIES
) -> tuple[Artifact, Artifact, Summary]:
    """Tokens, tokenizer and the summary of tokenize; the vocabulary comes from one fixed text."""
    learned = source(home, training(TEXT))
    documents = source(home, *shards)
    with builder(home, Execution(workers=workers)) as engine, engine_in_force(engine):
        tokenizer = train_tokenizer(TokenizerConfig(vocabulary_size=275), learned)
        tokens = tokenize(config, documents, tokenizer)
        assert isinstance(tokens, Artifact) and isinstance(tokenizer, Artifact)
        return tokens, tokenizer, engine.results[-1].summary


def test_each_split_holds_its_documents_in_order(home: Path) -> None:
    texts = ["the cat", "", "a <|endoftext|> dog é", "the end"]
    splits = [TRAIN, TRAIN, HELDOUT, TRAIN]
    rows = list(zip(texts, splits, strict=True))
    tokens, tokenizer, summary = build(home, rows[:3], rows[3:])
    vocabulary = load_tokenizer(tokenizer["tokenizer"].path)
    for split in (TRAIN, HELDOUT):
        wanted = [text for text, other in rows if other == split]
        found = list(TokenSet(tokens["tokens"].path, split).iterate_documents())
        assert [vocabulary.decode(ids[1:].tolist(), skip_special_tokens=False) for ids, _ in found] == wanted
        assert [size for _, size in found] == [len(text.encode()) for text in wanted]
        assert all(ids[0] == 0 and not (ids[1:] < 4).any() for ids, _ in found)
    assert read_token_meta(tokens["tokens"].path).vocabulary_size == 275
    assert (summary["train_documents"], summary["heldout_documents"]) == (3, 1)
    assert summary["train_bytes"] == 14
    text_tokens = summary["train_tokens"] - 3
    assert summary["train_bytes_per_token"] == round(14 / text_tokens, 3)


def test_files_carry_the_number_of_their_shard_and_gaps_stay(home: Path) -> None:
    shards = [[("a cat", HELDOUT)], [("a dog", TRAIN)], [("a rat", TRAIN), ("a mat", HELDOUT)]]
    tokens, _, _ = build(home, *shards)
    names = [file.name for file in tokens["tokens"].files]
    assert sorted(name for name in names if name.endswith(".tokens.npy")) == [
        "heldout-00000.tokens.npy",
        "heldout-00002.tokens.npy",
        "train-00001.tokens.npy",
        "train-00002.tokens.npy",
    ]
    before = {file.name: file.digest for file in tokens["tokens"].files}
    more, _, _ = build(home, *shards, [("a new cat", TRAIN)])
    after = {file.name: file.digest for file in more["tokens"].files}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"train-00003.tokens.npy", "train-00003.documents.npy"}


def test_nothing_to_train_on_is_an_error_for_the_user(home: Path) -> None:
    with pytest.raises(DataError, match="none of 1 documents is for training"):
        build(home, [("a cat", HELDOUT)])


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    shards = [training(TEXT), [("a cat", HELDOUT)], training("a dog", "a rat")]
    digests = []
    for workers in (1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        digests.append(build(home, *shards, workers=workers, config=CANARIES)[0].digest)
    assert digests[0] == digests[1]


def test_canaries_are_planted_as_often_as_the_record_says_and_twins_never(home: Path) -> None:
    tokens, tokenizer, summary = build(home, training(TEXT, TEXT), config=CANARIES)
    planted = read_planted(tokens["canaries"])
    assert [canary.repeats for canary in planted.canaries] == [0, 0, 0, 0, 1, 1, 3, 3]
    assert len({canary.ids for canary in planted.canaries}) == 8
    found = Counter(tuple(ids[1:].tolist()) for ids, _ in TokenSet(tokens["tokens"].path, TRAIN).iterate_documents())
    assert [found[canary.ids] for canary in planted.canaries] == [0, 0, 0, 0, 1, 1, 3, 3]
    assert found.total() == summary["train_documents"] + 8 == 10
    assert (summary["canaries"], summary["canary_tokens"]) == (4, 8 * 13)
    text = load_tokenizer(tokenizer["tokenizer"].path).decode(planted.canaries[0].ids)
    assert text.isalpha() and len(text) == 12, "a vocabulary with few words gives letters"


def test_new_documents_leave_the_shard_of_canaries_alone(home: Path) -> None:
    before, _, _ = build(home, training(TEXT, TEXT), config=CANARIES)
    after, _, _ = build(home, training(TEXT, TEXT), training("a new cat"), config=CANARIES)
    kept = {file.name: file.digest for file in after["tokens"].files}
    assert kept.items() >= {file.name: file.digest for file in before["tokens"].files}.items()
    assert before["canaries"].digest == after["canaries"].digest


def test_another_seed_gives_other_canaries(home: Path) -> None:
    words = range(100, 200)
    assert not set(draw_canaries(words, 4, (1, 2), 1)) & set(draw_canaries(words, 4, (1, 2), 2))


@pytest.mark.parametrize("settings", [{"canaries": 0}, {"canary_share": 0.01}])
def test_no_canary_where_none_is_wanted_or_the_text_is_too_little(home: Path, settings: dict[str, Any]) -> None:
    config = TokenizeConfig(**{**CANARIES.model_dump(), **settings})
    tokens, _, summary = build(home, training(TEXT), config=config)
    assert read_planted(tokens["canaries"]).canaries == ()
    assert TokenSet(tokens["tokens"].path, TRAIN).documents == 1
    assert (summary["canaries"], summary["canary_tokens"]) == (0, 0)


def test_repeats_stand_once() -> None:
    with pytest.raises(ValidationError, match="listed twice"):
        TokenizeConfig(canary_repeats=(4, 4))
