"""A release on disk, as it is asked: its model, its tokenizer, the form of its prompts and how it looks for an answer.

The last two stand in `generation_config.json`. What does not name the form of its prompts (an older release, a model of
others) is asked in chat form where it has a chat template, else as a text that goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, ValidationError

from model.huggingface import read_shape
from model.shape import INT8_WEIGHTS, WEIGHTS
from storage.canonical import digest_file
from storage.errors import DataError
from tasks.answer.chat_form import ChatForm
from tasks.answer.prompt_form import PromptForm, plain_ids, starting_ids
from tasks.answer.template_form import CHAT_TEMPLATE_FILE, find_template, load_chat_form
from tasks.tokenize.control import GENERATION_CONFIG, ControlTokens, read_control

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from model.transformer import Transformer

SUMS = "SHA256SUMS"
MAX_BEAMS = 64
SMALL_MODEL = 100_000_000  # parameters; a smaller one gains nothing from threads that meet at each operation


class ReleaseSettings(BaseModel):
    """How a release is asked where nobody says otherwise: fields of its generation_config.json."""

    num_beams: int = Field(1, ge=1, le=MAX_BEAMS, strict=True)
    no_repeat_in_answer: int = Field(0, ge=0, strict=True)  # a name of ours: transformers' counts the prompt too
    prompt_form: PromptForm = "plain"


@dataclass(frozen=True, slots=True)
class Release:
    """A release that is ready to answer."""

    model: "Transformer"
    tokenizer: "Tokenizer"
    control: ControlTokens
    chat: ChatForm | None  # None: it has no chat template

    def starting_ids(self, prompt: str, form: PromptForm) -> list[int]:
        """The ids that it goes on from; DataError where it has no chat form to ask it in."""
        if form == "plain":
            return plain_ids(self.tokenizer, self.control, prompt)
        return starting_ids(self.chat_form(), prompt, form)

    def chat_form(self) -> ChatForm:
        """How it takes the turns of a conversation; DataError where it has no chat template."""
        if self.chat is None:
            raise DataError(f"the release has no {CHAT_TEMPLATE_FILE}, so it cannot be asked in chat form")
        return self.chat

    @property
    def context_length(self) -> int:
        return self.model.shape.context_length


def release_settings(folder: Path) -> ReleaseSettings:
    """What the folder says of itself; DataError where that makes no sense."""
    path = folder / GENERATION_CONFIG
    check_sums(folder, [GENERATION_CONFIG])
    try:
        settings = ReleaseSettings.model_validate_json(path.read_bytes()) if path.is_file() else ReleaseSettings()
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(f"{path}: {'.'.join(map(str, first['loc'])) or 'not JSON'}: {first['msg']}") from None
    if "prompt_form" not in settings.model_fields_set and find_template(folder) is not None:
        return settings.model_copy(update={"prompt_form": "chat"})
    return settings


def open_release(folder: Path, *, int8: bool = False, adapter: Path | None = None) -> Release:
    """A release for a program that does nothing else: torch's threads are those that its model gains by.

    `adapter` is the folder of one that was trained on it, by which it answers; not in eight bits.
    """
    from model.decoding import lay_out_for_decoding

    model, tokenizer = load_release(folder, int8=int8)
    lay_out_for_decoding(model)
    if adapter is not None:
        from model.adapter_rows import Adapters

        adapters = Adapters(model, folder)
        adapters.add(adapter.name, adapter)
        adapters.choose([adapter.name])
    if model.shape.parameters < SMALL_MODEL:
        import torch

        torch.set_num_threads(1)
    return Release(model, tokenizer, read_control(folder), load_chat_form(folder))


def release_without_weights(folder: Path) -> Release:
    """A release whose weights somebody else has: its model has a shape alone, and cannot be asked.

    DataError as `load_release` raises it.
    """
    import torch

    from model.transformer import Transformer
    from tasks.tokenize.tokenizer import load_tokenizer

    check_writes(folder)
    names = ("config.json", "tokenizer.json")
    _check_files(folder, names)
    shape, tokenizer = read_shape(folder), load_tokenizer(folder)
    check_vocabulary(folder, tokenizer, shape.vocabulary_size)
    with torch.device("meta"):
        model = Transformer(shape)
    return Release(model, tokenizer, read_control(folder), load_chat_form(folder))


def load_release(folder: Path, *, int8: bool = False) -> tuple["Transformer", "Tokenizer"]:
    """Model and tokenizer of a release, or of any folder with `config.json`, `tokenizer.json` and weights.

    Raises DataError where a file is missing, damaged (by the folder's SHA256SUMS), or does not fit the others.
    """
    if int8 and not (folder / INT8_WEIGHTS).is_file():
        raise DataError(f"{folder}: has no {INT8_WEIGHTS}; add int8 to release.formats of the recipe and run it again")
    check_writes(folder)
    names = ("config.json", "tokenizer.json", INT8_WEIGHTS if int8 else WEIGHTS)
    _check_files(folder, names)

    from model.int8 import load_int8
    from model.transformer import load_model
    from tasks.tokenize.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    model = load_int8(folder) if int8 else load_model(folder)
    check_vocabulary(folder, tokenizer, model.shape.vocabulary_size)
    return model, tokenizer


def _check_files(folder: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder}: is not a release: it has no {', '.join(missing)}")
    check_sums(folder, names)


def check_writes(folder: Path) -> None:
    """Raise DataError for a model that cannot be asked to write: an encoder, or one that tells classes apart."""
    shape = read_shape(folder) if (folder / "config.json").is_file() else None
    if shape is None or (shape.parts.causal and not shape.classes):
        return
    what = "tells classes of texts apart" if shape.classes else "is an encoder, which fills in hidden words"
    hint = (
        "ask it with `llmill classify`" if shape.classes else "it is a start for classes: see `classify` of the recipe"
    )
    raise DataError(f"{folder}: this model {what} and writes none: {hint}")


def check_vocabulary(folder: Path, tokenizer: "Tokenizer", size: int) -> None:
    """Raise DataError unless a model of so many ids has one for each token."""
    from tasks.tokenize.tokenizer import vocabulary_size

    tokens = vocabulary_size(tokenizer)
    if tokens > size:
        raise DataError(
            f"{folder}: its tokenizer has {tokens:,} tokens, its model {size:,}; they do not belong together"
        )


def check_sums(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError if a file is not what the folder's SHA256SUMS says; a folder without one is taken as it is."""
    path = folder / SUMS
    if not path.is_file():
        return
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in path.read_text().splitlines())}
    for name in names:
        if name in sums and digest_file(folder / name) != sums[name]:
            raise DataError(f"{folder / name}: damaged, or changed since the release was made ({SUMS}); copy it again")
