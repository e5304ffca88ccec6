"""The files of an open model that are read: weights in safetensors, JSON, tokenizer and chat template. No others.

Without torch, so that a plan can look at a folder. What cannot be used is refused here as far as that shows without
reading the weights.
"""

from collections.abc import Iterable
from pathlib import Path

from model.adapter_config import CONFIG as ADAPTER_CONFIG
from model.adapter_config import adapter_files, read_adapter_config
from model.huggingface import INDEX, read_shape, weight_files
from model.shape import WEIGHTS, Shape
from storage.errors import ConfigError, DataError
from tasks.answer.template_form import CHAT_TEMPLATE_FILE
from tasks.tokenize.control import GENERATION_CONFIG, MODEL_CONFIG, TOKENIZER, TOKENIZER_CONFIG

TOKENIZER_FILES = (TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", CHAT_TEMPLATE_FILE)
TEXT_FILES = (MODEL_CONFIG, GENERATION_CONFIG, *TOKENIZER_FILES, INDEX)
MAX_TEXT_BYTES = 1 << 27  # of each file but weights: the largest vocabularies take a quarter of it
OTHER_TOKENIZERS = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "tekken.json")


def model_files(folder: Path) -> list[str]:
    """The names of the files that are read of a model's folder; DataError that names what is missing or unknown."""
    if not folder.is_dir():
        hint = f"; a model of the hub is named by model and revision, not {folder.name!r} by path"
        raise DataError(f"{folder}: no such folder{hint}" if not folder.exists() else f"{folder}: is no folder")
    names = [name for name in TEXT_FILES if (folder / name).is_file()]
    if MODEL_CONFIG not in names and (folder / ADAPTER_CONFIG).is_file():
        raise DataError(
            f"{folder}: is an adapter and no model: give the model that it was trained on as path (or model and "
            "revision), and this folder as adapter"
        )
    if MODEL_CONFIG not in names:
        raise DataError(f"{folder}: has no {MODEL_CONFIG}, so it is not a model in Hugging Face's form")
    check_tokenizer_file(str(folder), [path.name for path in folder.iterdir()])
    for name in names:
        if (folder / name).stat().st_size > MAX_TEXT_BYTES:
            raise DataError(f"{folder / name}: larger than {MAX_TEXT_BYTES:,} bytes; this is not a {name}")
    known_shape(folder)
    weights = weight_files(folder)
    return [name for name in names if name != INDEX or WEIGHTS not in weights] + weights


def known_adapter(folder: Path) -> list[str]:
    """The names of the files that are read of an adapter's folder; ConfigError or DataError for one that is not known
    here, as far as that shows without its tensors."""
    names = adapter_files(folder)
    read_adapter_config(folder)
    return names


def known_shape(folder: Path) -> Shape:
    """The shape of a model's folder; DataError that names it for one that is not known here."""
    try:
        return read_shape(folder)
    except ConfigError as error:
        raise DataError(f"{folder}/{error}") from None


def check_tokenizer_file(where: str, names: Iterable[str]) -> None:
    """Raise DataError unless there is a tokenizer in the form that is read."""
    there = set(names)
    if TOKENIZER in there:
        return
    other = next((name for name in OTHER_TOKENIZERS if name in there), None)
    if other is None:
        raise DataError(f"{where}: has no {TOKENIZER}; put the tokenizer of this model beside its weights")
    raise DataError(
        f"{where}: its tokenizer is a {other}, and a {TOKENIZER} is needed: transformers writes one with "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )
