"""Streaming: the pieces are whole characters and together the decoded answer."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import write_model, write_tokenizer

import model.generate
from tasks.generation import generate_text, starting_ids, stream_text
from tasks.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release")
    write_tokenizer(root / "tokenizer")
    write_model(root / "release", seed=3)
    shutil.copyfile(root / "tokenizer" / "tokenizer.json", root / "release" / "tokenizer.json")
    return root / "release"


def made(release: Path, **settings: object) -> str:
    wanted = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 5, "raw": False} | settings
    return "".join(generate_text(release, "The quiet castle", **wanted))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(release: Path) -> None:
    assert made(release) == made(release)
    assert made(release) != made(release, seed=6)
    assert made(release, temperature=0.0) == made(release, temperature=0.0, seed=6)


def test_raw_goes_on_from_the_text_and_chat_from_the_form(release: Path) -> None:
    tokenizer = load_tokenizer(release)
    text = tokenizer.encode("The quiet castle").ids
    assert starting_ids(tokenizer, "The quiet castle", raw=True) == [0, *text]
    assert starting_ids(tokenizer, "The quiet castle", raw=False) == [0, 1, *text, 2]
    assert made(release, raw=True, temperature=0.0) != made(release, raw=False, temperature=0.0)


@pytest.mark.parametrize("text", ["naïve €5 🙂 café", "a\ufffdb", "日本語 text", ""])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_pieces_are_whole_characters_and_add_up(
    release: Path, monkeypatch: pytest.MonkeyPatch, text: str, cut: int
) -> None:
    """Even where the answer is cut inside a character: then the rest is the replacement character, as in `decode`."""
    tokenizer = load_tokenizer(release)
    ids = tokenizer.encode(text).ids
    ids = ids[: len(ids) - cut]

    def scripted(*_: object) -> Iterator[int]:
        yield from ids

    monkeypatch.setattr(model.generate, "generate", scripted)
    settings = {"max_new_tokens": 99, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    pieces = list(stream_text(None, tokenizer, [0], **settings))  # type: ignore[arg-type]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert all("\ufffd" not in piece for piece in pieces[:-1]) or "\ufffd" in text


def test_special_tokens_are_never_printed_and_end_the_answer(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def scripted(_model: object, _ids: object, *settings: object) -> Iterator[int]:
        seen["stop"] = settings[-1]
        yield from [1, *tokenizer.encode("fine").ids, 2]

    tokenizer = load_tokenizer(release)
    monkeypatch.setattr(model.generate, "generate", scripted)
    settings = {"max_new_tokens": 9, "temperature": 0.0, "top_p": 1.0, "seed": 0}
    assert "".join(stream_text(None, tokenizer, [0], **settings)) == "fine"  # type: ignore[arg-type]
    assert set(seen["stop"]) == {0, 3}  # type: ignore[call-overload]
