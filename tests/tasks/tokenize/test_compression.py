"""Bytes per token beside another tokenizer's: counted on the same held-out text, by source and by language."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from document_sets import Rows, source
from tokenizers import Tokenizer, models, pre_tokenizers

from storage.documents import HELDOUT, TRAIN
from storage.errors import DataError
from storage.store.artifacts import Artifact
from tasks.engine.builder import builder
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force
from tasks.tokenize import compression
from tasks.tokenize.compression import MAX_TOKENIZER_BYTES, CompressionConfig, compare_compression
from tasks.tokenize.tokenizer import TokenizerConfig, learn, load_tokenizer, save_tokenizer, train_tokenizer

GERMAN = "Die Straße führt über Äcker und Wiesen, und die Leute grüßen. "
CHINESE = "春天来了，山上的花都开了。"
THAI = "น้ำใสๆ ไหลผ่านหมู่บ้าน "
HINDI = "हिन्दी में लिखा हुआ वाक्य। "
SHARDS: tuple[Rows, ...] = (
    [(GERMAN * 20, TRAIN, "books", "de"), (GERMAN * 3, HELDOUT, "books", "de"), (THAI, HELDOUT, "web", "th")],
    [(CHINESE * 2, HELDOUT, "web", "zh"), (HINDI, HELDOUT, "books", ""), ("", HELDOUT, "web", "en")],
    [(THAI * 4, HELDOUT, "web", "th"), (CHINESE, TRAIN, "books", "zh")],
)
WHOLE = {("books", "de"): GERMAN * 3, ("web", "th"): THAI * 5, ("web", "zh"): CHINESE * 2, ("books", "und"): HINDI}


def compare(home: Path, path: Path, *shards: Rows) -> tuple[Artifact, Artifact, StageResult]:
    """What the stage made, the run's tokenizer, and how it came about."""
    given = source(home, *(shards or SHARDS))
    with builder(home) as engine, engine_in_force(engine):
        tokenizer = train_tokenizer(TokenizerConfig(vocabulary_size=275), given)
        artifact = compare_compression(CompressionConfig(path=str(path)), given, tokenizer)
    assert isinstance(artifact, Artifact) and isinstance(tokenizer, Artifact)
    return artifact, tokenizer, engine.results[-1]


def found_in(artifact: Artifact) -> dict[str, Any]:
    return dict(json.loads((artifact["compression"] / "compression.json").read_bytes()))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder with a tokenizer that has seen Chinese and Thai, whose file asks to cut texts after two tokens."""
    folder = tmp_path / "far-east"
    folder.mkdir()
    tokenizer = learn(TokenizerConfig(vocabulary_size=300), [(CHINESE + THAI) * 9])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    save_tokenizer(tokenizer, folder)
    return folder


def test_both_count_the_same_held_out_text_by_source_and_language(home: Path, other: Path) -> None:
    artifact, tokenizer, result = compare(home, other)
    found = found_in(artifact)
    assert found["other"] == "far-east"
    assert [(row["source"], row["language"]) for row in found["rows"]] == sorted(WHOLE)
    theirs = Tokenizer.from_file(str(other / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    texts = {**WHOLE, ("web", "th"): None}
    for row in found["rows"]:
        text = texts[row["source"], row["language"]]
        parts = [THAI, THAI * 4] if text is None else [text]  # of the two shards
        assert row["bytes"] == sum(len(part.encode()) for part in parts)
        for name, encoder in (("tokens", load_tokenizer(tokenizer["tokenizer"].path)), ("other_tokens", theirs)):
            assert row[name] == sum(len(encoder.encode(part).ids) for part in parts), name
    totals = {name: sum(row[name] for row in found["rows"]) for name in ("bytes", "tokens", "other_tokens")}
    assert result.summary == {
        "compared_documents": 5,
        "compared_bytes": totals["bytes"],
        "bytes_per_token": round(totals["bytes"] / totals["tokens"], 3),
        "other_bytes_per_token": round(totals["bytes"] / totals["other_tokens"], 3),
    }


def test_of_each_source_and_language_so_much_is_read(home: Path, other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "SAMPLE_CHARACTERS", len(THAI) + 3)
    artifact, _, _ = compare(home, other)
    sizes = {(row["source"], row["language"]): row["bytes"] for row in found_in(artifact)["rows"]}
    read = {owner: text[: len(THAI) + 3] for owner, text in WHOLE.items()}
    assert sizes == {owner: len(text.encode()) for owner, text in read.items()}


def test_it_is_known_by_contents_and_name_alone(home: Path, other: Path, tmp_path: Path) -> None:
    first, _, built = compare(home, other)
    moved = tmp_path / "elsewhere" / "far-east.json"
    moved.parent.mkdir()
    moved.write_bytes((other / "tokenizer.json").read_bytes())
    same, _, reused = compare(home, moved)
    assert (built.outcome, reused.outcome) == ("built", "reused") and same.digest == first.digest
    (other / "tokenizer.json").write_text(learn(TokenizerConfig(vocabulary_size=270), [GERMAN * 9]).to_str())
    changed, _, again = compare(home, other / "tokenizer.json")
    assert again.outcome == "built" and found_in(changed)["other"] == "far-east"
    assert found_in(changed)["rows"] != found_in(first)["rows"]


def test_without_held_out_text_there_is_nothing_to_compare(home: Path, other: Path) -> None:
    artifact, _, result = compare(home, other, [(GERMAN * 20, TRAIN)])
    assert found_in(artifact)["rows"] == [] and result.summary["other_bytes_per_token"] == 0.0


@pytest.mark.parametrize("kind", ["wordpiece", "bytes"])
def test_tokenizers_of_other_kinds_are_taken(home: Path, tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "Die": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "bytes":
        tokenizer = Tokenizer(
            models.BPE({letter: n for n, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, [])
        )
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    path = tmp_path / f"{kind}.json"
    tokenizer.save(str(path))
    found = found_in(compare(home, path)[0])
    assert found["other"] == kind
    assert all((row["other_tokens"] == row["bytes"]) == (kind == "bytes") for row in found["rows"])


def test_what_is_no_tokenizer_is_an_error_that_names_the_file(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    empty = Tokenizer(models.BPE({}, [])).to_str()
    no_word = Tokenizer(models.WordLevel({"a": 0}, unk_token="?")).to_str()
    wrong = [(b"{}", "not a tokenizer"), (b"\xff\xfe\x00", "cannot be read"), (b"[" * 9999, "not a tokenizer")]
    wrong += [(empty.encode(), "makes no token"), (no_word.encode(), "cannot encode")]
    for contents, said in wrong:
        path.write_bytes(contents)
        with pytest.raises(DataError, match=rf"tokenize\.compare_with: .*other\.json: .*{said}"):
            compare(home, path)
    for missing in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DataError, match=r"no such file; name a tokenizer\.json, or a folder with one"):
            compare(home, missing)
    os.truncate(path, MAX_TOKENIZER_BYTES + 1)
    with pytest.raises(DataError, match=r"other\.json: larger than 134,217,728 bytes"):
        compare(home, path)
