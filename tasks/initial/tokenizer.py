"""The tokenizer and the chat form of an open model, as they are used from here on.

Its files come along as they are. Its control tokens are written by id into `generation_config.json`, with the one that
ends an answer in its chat form. A model without a chat template gets one: our own form where its weights have unused
rows for the three marks, else a plain form whose marks are text.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tasks.answer.chat_form import CHAT_TEMPLATE
from tasks.answer.release import check_vocabulary
from tasks.answer.template_form import CHAT_TEMPLATE_FILE, find_template, load_chat_form, needed_chat_form
from tasks.initial.files import TOKENIZER_FILES
from tasks.tokenize.control import (
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    ControlTokens,
    is_own,
    read_control,
    read_object,
)
from tasks.tokenize.tokenizer import SPECIAL_TOKENS, load_tokenizer, vocabulary_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Taken = Literal["its own template", "added marks", "text marks", "none"]

CHAT_MARKS = SPECIAL_TOKENS[1:]
TEXT_MARKS = ("### User:\\n", "\\n\\n### Assistant:\\n")  # as Jinja writes them; what ends a text ends an answer


def take_tokenizer(source: Path, target: Path, rows: int, *, writes: bool = True) -> Taken:
    """Write the tokenizer of a model with so many rows of embeddings; says where its chat form comes from. A model that
    does not write needs none.

    DataError where the tokenizer does not fit the weights or its template cannot be used.
    """
    tokenizer = load_tokenizer(source)
    check_vocabulary(source, tokenizer, rows)
    control, template = read_control(source), find_template(source) if writes else None
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    _write_control(target, control)
    if is_own(tokenizer):
        return "its own template"
    _write_settings(source, target, tokenizer, control)
    if not writes:
        return "none"
    taken: Taken = "its own template"
    if template is not None:
        load_chat_form(source)  # its errors name the user's files
        text = template.text
    elif rows - vocabulary_size(tokenizer) >= len(CHAT_MARKS):
        taken, text = "added marks", _own_template(tokenizer, control, CHAT_MARKS)
        _add_marks(source, target)
    else:
        end = str(tokenizer.id_to_token(control.ends[0]))
        taken, text = "text marks", _own_template(tokenizer, control, (*TEXT_MARKS, end))
    (target / CHAT_TEMPLATE_FILE).write_text(text, encoding="utf-8")
    end_of_answer = needed_chat_form(target).end
    if end_of_answer not in control.ends:
        _write_control(target, ControlTokens(control.start, (end_of_answer, *control.ends), control.pad))
    return taken


def _write_settings(source: Path, target: Path, tokenizer: "Tokenizer", control: ControlTokens) -> None:
    """`tokenizer_config.json` as it came, without the chat template, which stands in a file of its own; with the tokens
    that begin and end a text where it names no end."""
    settings = read_object(source / TOKENIZER_CONFIG)
    settings.pop("chat_template", None)
    if settings.get("eos_token") is None:
        settings["eos_token"] = tokenizer.id_to_token(control.ends[0])
        settings.setdefault("bos_token", tokenizer.id_to_token(control.start))
    settings.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
    (target / TOKENIZER_CONFIG).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _own_template(tokenizer: "Tokenizer", control: ControlTokens, marks: tuple[str, ...]) -> str:
    """Our chat template with other marks."""
    text = CHAT_TEMPLATE.read_text(encoding="utf-8")
    start = str(tokenizer.id_to_token(control.start))
    for ours, theirs in zip(SPECIAL_TOKENS, (start, *marks), strict=True):
        text = text.replace(f"'{ours}'", "'" + theirs.replace("'", "\\'") + "'")
    return text


def _add_marks(source: Path, target: Path) -> None:
    """Give the marks of our chat form the first ids that the vocabulary leaves unused."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(source / TOKENIZER))
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in CHAT_MARKS])
    (target / TOKENIZER).write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")


def _write_control(folder: Path, control: ControlTokens) -> None:
    ids = {"bos_token_id": control.start, "eos_token_id": list(control.ends), "pad_token_id": control.pad}
    (folder / GENERATION_CONFIG).write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
