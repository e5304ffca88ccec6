"""Streaming: the pieces are whole characters and together the decoded answer."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_models import write_llama_2
from support import cost_in_loops
from tiny_model import write_model, write_tokenizer
from tokenizers import Tokenizer, decoders, models

import model.generate
from model.parallel import one_thread
from storage.errors import ConfigError, DataError
from tasks.answer.chat_form import OwnForm
from tasks.answer.prompt_form import starting_ids
from tasks.answer.release import ReleaseSettings, load_release, release_settings
from tasks.answer.stream import BROKEN, Answer, Sampling, StopStrings, TextStream
from tasks.answer.token_bytes import BYTE_LEVEL, token_bytes, token_name
from tasks.tokenize.tokenizer import load_tokenizer


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("release")
    write_tokenizer(root / "tokenizer")
    write_model(root / "release", seed=3)
    shutil.copyfile(root / "tokenizer" / "tokenizer.json", root / "release" / "tokenizer.json")
    return root / "release"


def answer(release: Path, *, raw: bool = False, **settings: object) -> Answer:
    chosen = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 0.9, "seed": 5} | settings
    model, tokenizer = load_release(release)
    ids = starting_ids(OwnForm(tokenizer), "The quiet castle", "plain" if raw else "chat")
    return Answer(model, tokenizer, ids, Sampling(**chosen))  # type: ignore[arg-type]


def made(release: Path, **settings: object) -> str:
    return "".join(answer(release, **settings))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_text_and_another_seed_another(release: Path) -> None:
    assert made(release) == made(release)
    assert made(release) != made(release, seed=6)
    assert made(release, temperature=0.0) == made(release, temperature=0.0, seed=6)


def test_raw_goes_on_from_the_text_and_chat_from_the_form(release: Path) -> None:
    tokenizer = load_tokenizer(release)
    text = tokenizer.encode("The quiet castle").ids
    assert starting_ids(OwnForm(tokenizer), "The quiet castle", "plain") == [0, *text]
    assert starting_ids(OwnForm(tokenizer), "The quiet castle", "chat") == [0, 1, *text, 2]
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
    pieces = list(Answer(None, tokenizer, [0]))  # type: ignore[arg-type]
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert all("\ufffd" not in piece for piece in pieces[:-1]) or "\ufffd" in text


def test_bytes_that_are_no_character_end_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tokenizer like Llama 2's says bytes by themselves, and begins a text otherwise than it goes on."""
    tokenizer = load_tokenizer(write_llama_2(tmp_path))
    said = ["<0xE6>", "▁the", "<0xE6>", "<0x97>", "<0xA5>", "▁", "▁the", "<0xC3>"]
    known = tokenizer.get_vocab()
    ids = [known[piece] for piece in said]

    def scripted(*_: object) -> Iterator[int]:
        yield from ids

    monkeypatch.setattr(model.generate, "generate", scripted)
    pieces = list(Answer(None, tokenizer, [1]))  # type: ignore[arg-type]
    assert pieces == ["\ufffd the", "日", " ", " the", "\ufffd"]
    assert "".join(pieces) == tokenizer.decode(ids)


def test_special_tokens_are_never_printed_and_end_the_answer(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def scripted(_model: object, _ids: object, *settings: object) -> Iterator[int]:
        seen["stop"] = settings[-1]
        yield from [1, *tokenizer.encode("fine").ids, 2]

    tokenizer = load_tokenizer(release)
    monkeypatch.setattr(model.generate, "generate", scripted)
    assert "".join(Answer(None, tokenizer, [0])) == "fine"  # type: ignore[arg-type]
    assert set(seen["stop"]) == {0, 3}  # type: ignore[call-overload]


def test_an_answer_says_why_it_ended(release: Path) -> None:
    long = answer(release, max_new_tokens=5)
    "".join(long)
    assert (len(long.tokens), long.finish) == (5, "length")
    full = answer(release, max_new_tokens=500, temperature=0.0)
    "".join(full)
    assert full.finish == "length" and 12 < len(full.tokens) < 64, "the context is full"
    text = made(release)
    stopped = answer(release, stop=(text[4:7],))
    assert "".join(stopped) == text[: text.index(text[4:7])] and stopped.finish == "stop"


def test_beams_find_an_answer_that_is_no_less_likely(release: Path) -> None:
    """And give it as a greedy answer is given: token ids, text, why it ended."""
    from model.likelihood import score_continuations

    model, tokenizer = load_release(release)
    greedy, searched = (answer(release, temperature=0.0, beams=beams) for beams in (1, 8))
    text = "".join(searched)
    assert text == tokenizer.decode(searched.tokens) and "".join(greedy) != text and searched.finish == "length"
    ids = starting_ids(OwnForm(tokenizer), "The quiet castle", "chat")
    scores = [nats for nats, _ in score_continuations(model, [(ids, greedy.tokens), (ids, searched.tokens)])]
    assert scores[1] > scores[0]


def test_a_release_says_how_it_looks_for_answers(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    assert release_settings(tmp_path) == ReleaseSettings()
    for text, found in (
        ('{"do_sample": false}', ReleaseSettings()),
        ('{"num_beams": 6, "no_repeat_in_answer": 2}', ReleaseSettings(num_beams=6, no_repeat_in_answer=2)),
    ):
        path.write_text(text)
        assert release_settings(tmp_path) == found
    for text, complaint in (
        ("[]", "not JSON"),
        ("no JSON", "not JSON"),
        ('{"num_beams": 0}', "num_beams: .* greater than or equal to 1"),
        ('{"num_beams": "6"}', "num_beams: .* integer"),
        ('{"num_beams": 1000}', "num_beams: .* less than or equal to 64"),
        ('{"prompt_form": "signatures"}', "prompt_form: .* 'docstrings', 'chat' or 'plain'"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=rf"generation_config\.json: {complaint}"):
            release_settings(tmp_path)


def test_a_folder_that_names_no_form_is_asked_as_it_was_taught(tmp_path: Path) -> None:
    """In chat form where it has a template, wherever that stands; else as a text that goes on."""
    assert release_settings(tmp_path).prompt_form == "plain"
    (tmp_path / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    assert release_settings(tmp_path).prompt_form == "plain"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert release_settings(tmp_path).prompt_form == "chat"
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "chat_template.jinja").touch()
    (tmp_path / "generation_config.json").write_text('{"num_beams": 2}')
    assert release_settings(tmp_path) == ReleaseSettings(num_beams=2, prompt_form="chat")
    (tmp_path / "generation_config.json").write_text('{"prompt_form": "docstrings"}')
    assert release_settings(tmp_path).prompt_form == "docstrings"


def test_declarations_are_put_into_words_for_a_model_of_docstrings_alone(release: Path) -> None:
    tokenizer = load_tokenizer(release)
    for typed, words in (("Paris(France)", "class paris ( france )"), ("def f(a): ...", "def f ( a )")):
        in_words, as_typed = (tokenizer.encode(text).ids for text in (words, typed))
        assert starting_ids(OwnForm(tokenizer), typed, "docstrings") == [0, 1, *in_words, 2]
        assert starting_ids(OwnForm(tokenizer), typed, "chat") == [0, 1, *as_typed, 2]
        assert starting_ids(OwnForm(tokenizer), typed, "plain") == [0, *as_typed]


def test_the_models_own_end_is_a_stop(release: Path, tmp_path: Path) -> None:
    """A model whose every next token is `<|end|>`."""
    import torch

    from model.transformer import load_model, save_model

    shutil.copytree(release, tmp_path, dirs_exist_ok=True)
    silent = load_model(release)
    with torch.no_grad():
        for name, parameter in silent.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                parameter.zero_()
        silent.model.embed_tokens.weight[:] = -1.0
        silent.model.embed_tokens.weight[2] = 1.0  # the prompt's last token: all others are its opposites
        silent.model.embed_tokens.weight[3] = 3.0
    save_model(silent, tmp_path)
    ended = answer(tmp_path, temperature=0.0)
    assert ("".join(ended), ended.tokens, ended.finish) == ("", [], "stop")


TEXT = st.text(alphabet="ab\u00e9\n", max_size=30)


@given(TEXT, st.lists(st.text(alphabet="ab\u00e9\n", min_size=1, max_size=4), max_size=3), st.data())
def test_a_stop_string_never_shows_however_the_text_is_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    """The reference looks at the whole text: the stop that is complete first ends it, the longest of equals."""
    ends = [(text.find(stop) + len(stop), -len(stop)) for stop in stops if stop in text]
    end, negative = min(ends, default=(len(text), 0))
    expected = text[: end + negative]
    filtered, shown, position = StopStrings(stops), "", 0
    while position < len(text) and not filtered.found:
        size = data.draw(st.integers(1, 5))
        shown += filtered.add(text[position : position + size])
        assert expected.startswith(shown), "nothing is shown that must be taken back"
        position += size
    assert filtered.found == bool(ends)
    assert shown + (filtered.rest() if not filtered.found else "") == expected


def test_folders_that_are_not_a_release_or_a_damaged_one(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config.json, tokenizer.json, model.safetensors"):
        load_release(tmp_path)
    with pytest.raises(DataError, match=r"no model.int8.safetensors; add int8 to release.formats"):
        load_release(release, int8=True)
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in copy.iterdir()}
    (copy / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    load_release(copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(DataError, match=r"model.safetensors: damaged"):
        load_release(copy)
    (copy / "SHA256SUMS").unlink()
    (copy / "model.safetensors").write_bytes(data[:2000])
    with pytest.raises(DataError, match="not a model folder that can be read"):
        load_release(copy)


def test_a_tokenizer_of_another_model_is_refused(release: Path, tmp_path: Path) -> None:
    shutil.copytree(release, tmp_path, dirs_exist_ok=True)
    write_model(tmp_path, vocabulary_size=300)
    with pytest.raises(DataError, match="do not belong together"):
        load_release(tmp_path)
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    with pytest.raises(ConfigError, match="models of the type 'mamba' are not known"):
        load_release(tmp_path)


BYTES_LEARNED = 256  # tokens of a byte-level vocabulary that are one byte each


def byte_tokenizer() -> Tokenizer:
    """Each byte is a token; the last token shows nothing."""
    tokenizer = Tokenizer(models.BPE(dict(BYTE_LEVEL), []))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|mark|>"])
    return tokenizer


@given(st.lists(st.one_of(st.binary(max_size=20), st.text(alphabet="aé中😀", max_size=6).map(str.encode)), max_size=8))
def test_pieces_are_together_the_text_of_any_bytes(parts: list[bytes]) -> None:
    tokenizer, ids = byte_tokenizer(), list(b"".join(parts))
    text = TextStream(tokenizer)
    assert "".join(text.add(one) for one in ids) + text.rest() == tokenizer.decode(ids)


@pytest.mark.parametrize("token", [0x80, 0xE4, BYTES_LEARNED])
def test_what_makes_no_text_costs_as_much_at_the_end_as_at_the_beginning(token: int) -> None:
    text, tokenizer = TextStream(byte_tokenizer()), byte_tokenizer()
    plain = TextStream(tokenizer)
    shown = ""

    def broken() -> None:
        nonlocal shown
        shown += "".join(text.add(token) for _ in range(2000))

    def whole() -> None:
        for _ in range(2000):
            plain.add(ord("a"))

    broken()
    assert cost_in_loops(broken) < 20 * cost_in_loops(whole)
    assert set(shown) <= {BROKEN} and (token == BYTES_LEARNED or len(shown) > 7900), "and it is shown as it comes"


def test_a_token_has_its_own_bytes_in_each_kind_of_vocabulary(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    assert [token_bytes(tokenizer, byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert token_bytes(tokenizer, BYTES_LEARNED) == b"<|mark|>" and token_bytes(tokenizer, 9999) == b""
    pieces = load_tokenizer(write_llama_2(tmp_path / "llama"))
    assert [token_bytes(pieces, 3 + byte) for byte in (0x41, 0xE4)] == [b"A", b"\xe4"]
    assert token_name("\udce4\udcb8") == "bytes:\\xe4\\xb8" and token_name("中") == "中"
