"""The forms of instruction data: which fields of a record are the question and which the answer.

| form | fields |
|---|---|
| plain | `prompt`, `question` or `instruction`; `answer`, `output`, `completion`, `response` or `chosen` |
| Alpaca, Dolly | the same with `input` or `context` behind the prompt, `system` before it, `history` of earlier turns |
| messages, ShareGPT | a conversation in `messages`, `conversations` or `conversation` (conversations.py) |
| preferences | `chosen` is the answer, or the whole dialogue; `rejected` is not read |

A source that names its fields is read by these alone. What a record holds beyond them is counted by name, so that
nothing is lost unseen.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from tasks.collect.conversations import (
    KINDS,
    Exchange,
    Kind,
    Refused,
    Turn,
    first_exchange,
    is_dialogue,
    joined,
    turn_of,
    turns_of,
)
from tasks.collect.encodings import AUTO
from tasks.collect.readers import field_of
from tasks.engine.config import StageConfig

NONE = "none"
PROMPTS = ("prompt", "instruction", "question")
INPUTS = ("input", "context")
ANSWERS = ("answer", "output", "completion", "response", "chosen")
CONVERSATIONS = ("messages", "conversations", "conversation")
_NESTED = (*CONVERSATIONS, "chosen", "history")
_LABELS = ("label", "kto_tag")  # of preference data: whether the answer is one to learn
_ABOUT = frozenset({"id", "source", "dataset", "lang", "language", "license", "licence", "url", "title"})


class PairForm(StageConfig):
    """Which fields of a record make a pair, and what is left out."""

    prompt_field: str = Field(description="Field with the prompt, or auto.")
    input_field: str = Field(description="Field with what is put behind the prompt, auto or none.")
    answer_field: str = Field(description="Field with the answer, or auto.")
    conversation_field: str = Field(description="Field with a whole conversation, or auto.")
    leave_out: tuple[Kind, ...] = Field(description="Kinds of records that are left out.")

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that may be asked for."""
        named = (self.prompt_field, self.input_field, self.answer_field, self.conversation_field)
        return tuple(name for name in (*named, *_NESTED) if name not in (AUTO, NONE))


class Missing(Exception):
    """A field that a record lacks: `args` are its name, or the names that it could have."""


def exchange_of(fields: Mapping[str, Any], form: PairForm) -> tuple[Exchange | Refused, tuple[str, ...]]:
    """The pair of a record, or why there is none, and the fields that were read. Raises Missing."""
    found, read = _exchange(fields, form)
    if isinstance(found, Exchange) and found.goes_on and "several_turns" in form.leave_out:
        return Refused(KINDS["several_turns"], "several_turns"), read
    return found, read


def unread(fields: Mapping[str, Any], read: tuple[str, ...]) -> Iterator[str]:
    """Fields that hold something and were not read, except those that say where a record is from."""
    used = {part for name in read for part in (name, name.partition(".")[0])}
    for name, value in fields.items():
        known = name in used or name in _ABOUT or name.lower().endswith("id")
        if not known and value and not isinstance(value, bool | int | float):
            yield name


def _exchange(fields: Mapping[str, Any], form: PairForm) -> tuple[Exchange | Refused, tuple[str, ...]]:
    by_field = form.prompt_field != AUTO or form.answer_field != AUTO
    if form.conversation_field != AUTO:
        return _conversation(fields, form.conversation_field)
    if not by_field:
        for name in CONVERSATIONS:
            if turns_of(fields.get(name)):
                return _conversation(fields, name)
        if not any(name in fields for name in PROMPTS) and turns_of(fields.get("chosen")):
            return _conversation(fields, "chosen")
    return _pair(fields, form)


def _conversation(fields: Mapping[str, Any], name: str) -> tuple[Exchange | Refused, tuple[str, ...]]:
    read: tuple[str, ...] = (name, *_LABELS)
    turns = turns_of(_value(fields, name))
    if turns is None:
        return Refused(f"field {name!r} is not a conversation: a list of messages with role and content"), read
    if any(fields.get(label) is False for label in _LABELS):
        return Refused(KINDS["rejected_answers"], "rejected_answers"), read
    chosen = fields.get("chosen")
    if turns[-1].role == "user" and chosen and name != "chosen":  # a preference: the conversation, then two answers
        turns = [*turns, turn_of(chosen if isinstance(chosen, Mapping) else {"role": "assistant", "content": chosen})]
        read = (*read, "chosen")
    return first_exchange(turns), read


def _pair(fields: Mapping[str, Any], form: PairForm) -> tuple[Exchange | Refused, tuple[str, ...]]:
    prompt_name = _name(fields, form.prompt_field, PROMPTS)
    answer_name = _name(fields, form.answer_field, tuple(name for name in ANSWERS if name != prompt_name))
    texts = []
    for name in (prompt_name, answer_name):
        text = _value(fields, name)
        if not isinstance(text, str):
            kind = "null" if text is None else type(text).__name__
            return Refused(f"field {name!r} is not text but {kind}"), ()
        if is_dialogue(text):
            advice = "name it as conversation_field and leave prompt_field and answer_field out"
            return Refused(f"field {name!r} is a whole dialogue (Human: ... Assistant: ...): {advice}"), ()
        texts.append(text)
    prompt, answer = texts
    read = [prompt_name, answer_name]
    candidates = INPUTS if form.input_field == AUTO else (form.input_field,)
    for name in candidates if form.input_field != NONE else ():
        more = _optional(fields, name) if name not in read else ""
        if more.strip():
            read.append(name)
            prompt = prompt if more in prompt else joined(prompt, more)
    if "system" not in read:
        read.append("system")
        prompt = joined(_optional(fields, "system"), prompt)
    history = fields.get("history")
    if isinstance(history, list) and history and all(_is_exchange(turn) for turn in history):
        said = [Turn(role, text) for turn in history for role, text in zip(("user", "assistant"), turn, strict=True)]
        return first_exchange([*said, Turn("user", prompt), Turn("assistant", answer)]), (*read, "history")
    return Exchange(prompt, answer), tuple(read)


def _is_exchange(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def _name(fields: Mapping[str, Any], stated: str, known: tuple[str, ...]) -> str:
    if stated != AUTO:
        return stated
    name = next((name for name in known if name in fields), None)
    if name is None:
        raise Missing(*known)
    return name


def _value(fields: Mapping[str, Any], name: str) -> Any:
    try:
        return field_of(fields, name)
    except KeyError:
        raise Missing(name) from None


def _optional(fields: Mapping[str, Any], name: str) -> str:
    """The text of a field that a record may lack; empty for none."""
    try:
        text = field_of(fields, name)
    except KeyError:
        return ""
    return text if isinstance(text, str) else ""
