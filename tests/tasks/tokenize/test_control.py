"""Control tokens are a property of the tokenizer: by name or by id, in whichever file of a model says them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from storage.errors import DataError
from tasks.tokenize.control import ControlTokens, read_control
from tasks.tokenize.tokenizer import TokenizerConfig, learn, save_tokenizer


def write(folder: Path, **files: Any) -> Path:
    """A tokenizer with three control tokens, and other files of a model beside it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<s>", "</s>", "<|turn|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


BEGIN, END, TURN = 256, 257, 258


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"tokenizer_config": {"bos_token": "<s>", "eos_token": {"content": "</s>"}}},
            ControlTokens(BEGIN, (END, BEGIN), BEGIN),
        ),
        (
            {"tokenizer_config": {"bos_token": None, "eos_token": "<|turn|>", "pad_token": "</s>"}},
            ControlTokens(TURN, (TURN,), END),
        ),
        (
            {"tokenizer_config": {"eos_token": "</s>"}, "generation_config": {"eos_token_id": [END, TURN]}},
            ControlTokens(END, (END, TURN), END),
        ),
        ({"config": {"bos_token_id": BEGIN, "eos_token_id": END}}, ControlTokens(BEGIN, (END, BEGIN), BEGIN)),
        # what a library states by itself is no control token here
        (
            {"tokenizer_config": {"bos_token": "<s>"}, "config": {"bos_token_id": 1, "eos_token_id": 2}},
            ControlTokens(BEGIN, (BEGIN,), BEGIN),
        ),
    ],
    ids=["by name", "only an end", "several ends", "by id", "defaults of a library"],
)
def test_the_files_of_a_model_say_them(files: dict[str, Any], found: ControlTokens, tmp_path: Path) -> None:
    assert read_control(write(tmp_path, **files)) == found


def test_without_any_word_of_them_the_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which token begins or ends a text.*tokenizer_config\.json"):
        read_control(write(tmp_path, config={"eos_token_id": 3}))
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match=r"tokenizer_config\.json: holds no JSON object"):
        read_control(tmp_path)


def test_a_tokenizer_that_is_trained_here_needs_no_other_file(tmp_path: Path) -> None:
    save_tokenizer(learn(TokenizerConfig(vocabulary_size=262), ["one two three"] * 20), tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_control(tmp_path) == ControlTokens(0, (3, 0), 0)
