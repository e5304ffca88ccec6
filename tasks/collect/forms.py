"""The forms of instruction data, told apart by their fields, and the rows that a record of each becomes.

| form | fields | rows |
|---|---|---|
| alpaca | `instruction` (`input` or `context` behind it, `system`, `history` before it); `output` or the like | pairs |
| prompt and completion | `prompt` or `question`; `answer`, `completion`, `output` or `response` | pairs |
| messages, sharegpt | `messages`, `conversations` or `conversation` (conversations.py); `tools` | pairs |
| preference | `chosen` and `rejected`: answers, or conversations that differ by their last answer | preferences |
| kto | one of the first four forms with a `label` true or false | pairs; preferences (pairs.py) |
| labels | `text` (or `sentence`, `tweet`, ...) and `label` (or `class`, `category`, ...) | labels |

A null counts as no field. A source that states its fields is read by these alone. What a record holds beyond them is
counted by name, so that nothing is lost unseen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from storage.documents import ASSISTANT, LABELS, PAIRS, PREFERENCES, SYSTEM, USER, Message
from tasks.collect.conversations import Unfit, as_text, checked, is_dialogue, joined, messages_of
from tasks.collect.discover import RECORD_FORMATS, TEXT_FORMATS
from tasks.collect.encodings import AUTO
from tasks.collect.readers import field_of
from tasks.engine.config import StageConfig

NONE = "none"
DISLIKED = "disliked"  # answers that become the rejected side of a preference where one was liked

ALPACA, PROMPT, MESSAGES, SHAREGPT = "alpaca", "prompt and completion", "messages", "sharegpt"
PREFERENCE, KTO = "preference", "kto"
PARTS_OF = {PREFERENCE: (PREFERENCES,), KTO: (PAIRS, PREFERENCES), LABELS: (LABELS,)}  # of all other forms: pairs

PROMPTS = ("prompt", "instruction", "question")
INPUTS = ("input", "context")
ANSWERS = ("answer", "output", "completion", "response")
CONVERSATIONS = ("messages", "conversations", "conversation")
JUDGEMENTS = ("label", "kto_tag")
TEXTS = ("text", "sentence", "content", "tweet", "msg", "message", "review", "comment")
CLASSES = ("label", "labels", "class", "category", "target", "sentiment")
_CHOSEN, _REJECTED = "chosen", "rejected"
_NESTED = (*CONVERSATIONS, _CHOSEN, _REJECTED, "prompt", "completion", "history", "tools", "instances")
_ABOUT = frozenset({"id", "source", "dataset", "lang", "language", "license", "licence", "url", "title"})
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class StatedFields(StageConfig):
    """The fields that a source names itself; auto where the usual names count."""

    prompt_field: str = Field(description="Field with the prompt, or auto.")
    input_field: str = Field(description="Field with what is put behind the prompt, auto or none.")
    answer_field: str = Field(description="Field with the answer, or auto.")
    conversation_field: str = Field(description="Field with a whole conversation, or auto.")
    text_field: str = Field(description="Field with the text of a label, or auto.")
    label_field: str = Field(description="Field with the label of a text, or auto.")
    label_folders: bool = Field(description="Whether a text file has the name of its folder as its label.")

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the files that are read."""
        return (*RECORD_FORMATS, *(TEXT_FORMATS if self.label_folders else ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that may be asked for, the text of a text file first."""
        text = "text" if self.text_field == AUTO else self.text_field
        named = (self.prompt_field, self.input_field, self.answer_field, self.conversation_field, self.label_field)
        return tuple(name for name in (text, *named, *_NESTED) if name not in (AUTO, NONE))


@dataclass(frozen=True, slots=True)
class Row:
    """What a record becomes: the messages that an answer follows, the answer and perhaps a rejected one."""

    part: str
    asked: tuple[Message, ...]
    answer: str
    rejected: str = ""


@dataclass(slots=True)
class Read:
    """The rows of a record, the fields that were read, and whether a last question without an answer was left out."""

    rows: list[Row] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    unanswered: bool = False


class Missing(Exception):
    """Fields of which a record lacks all: `args` are their names."""


def form_of(fields: Mapping[str, Any], stated: StatedFields) -> str:
    """The form of a record. Missing, or Unfit with what it lacks, for one that has none."""
    present = {name for name, value in fields.items() if value is not None}
    if stated.label_folders or stated.text_field != AUTO or stated.label_field != AUTO:
        return LABELS
    if {_CHOSEN, _REJECTED} <= present and stated.answer_field == AUTO:
        return PREFERENCE
    if stated.conversation_field != AUTO:
        return MESSAGES
    if stated.prompt_field != AUTO or stated.answer_field != AUTO:
        return PROMPT
    conversation = next((name for name in CONVERSATIONS if name in present), None)
    prompt = next((name for name in PROMPTS if name in present), None)
    answered = "instances" in present or any(name in present for name in ANSWERS)
    if conversation or (prompt and answered):
        if any(name in present for name in JUDGEMENTS):
            return KTO
        if conversation:
            return SHAREGPT if _is_sharegpt(fields[conversation]) else MESSAGES
        return ALPACA if prompt == "instruction" else PROMPT
    if any(name in present for name in TEXTS) and any(name in present for name in CLASSES):
        return LABELS
    raise _formless(present, prompt)


def read_form(fields: Mapping[str, Any], form: str, stated: StatedFields) -> Read:
    """The rows of a record of a form. Unfit or Missing where it is not as its form says."""
    if form == LABELS:
        return _labels(fields, stated)
    if form == PREFERENCE:
        return _preference(fields, stated)
    read = Read()
    asked = _asked(fields, stated, read)
    instances = fields.get("instances")
    if asked is None:
        messages = _whole_conversation(fields, stated, read)
        read.rows = [Row(PAIRS, tuple(messages[:-1]), messages[-1].content)]
    elif isinstance(instances, list) and stated.prompt_field == stated.answer_field == AUTO:
        read.fields.append("instances")
        read.rows = list(_instances(instances, asked))
    else:
        name = _name(fields, stated.answer_field, ANSWERS, taken=read.fields)
        read.fields.append(name)
        more, answer = _side(_value(fields, name), name)
        read.rows = [Row(PAIRS, tuple(checked([*asked, *more], name)), answer)]
    if form == KTO:
        name = next(name for name in JUDGEMENTS if fields.get(name) is not None)
        read.fields.append(name)
        if not _is_liked(fields[name], name):
            read.rows = [Row(DISLIKED, row.asked, row.answer) for row in read.rows]
    return read


def unread(fields: Mapping[str, Any], read: Sequence[str]) -> Iterator[str]:
    """Fields that hold something and were not read, except those that say where a record is from."""
    used = {part for name in read for part in (name, name.partition(".")[0])}
    for name, value in fields.items():
        known = name in used or name in _ABOUT or name.lower().endswith("id")
        if not known and value and not isinstance(value, bool | int | float):
            yield name


# A record without a form ----------------------------------------------------------------------------------------


def _formless(present: set[str], prompt: str | None) -> Exception:
    if _CHOSEN in present or _REJECTED in present:
        has, lacks = (_CHOSEN, _REJECTED) if _CHOSEN in present else (_REJECTED, _CHOSEN)
        return Unfit(f"fits no form of instruction data: field {has!r} without {lacks!r}")
    if prompt:
        return Unfit(f"fits no form of instruction data: field {prompt!r} without an answer ({', '.join(ANSWERS)})")
    return Missing(*PROMPTS, *CONVERSATIONS, _CHOSEN, "text")


def _is_sharegpt(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and "from" in first


# What a record holds --------------------------------------------------------------------------------------------


def _asked(fields: Mapping[str, Any], stated: StatedFields, read: Read) -> list[Message] | None:
    """The messages before the answer of a record with a prompt; None for one that is a conversation."""
    by_field = stated.prompt_field != AUTO or stated.answer_field != AUTO
    has_conversation = any(fields.get(name) is not None for name in CONVERSATIONS)
    if stated.conversation_field != AUTO or (has_conversation and not by_field):
        return None
    name = _name(fields, stated.prompt_field, PROMPTS)
    value = _value(fields, name)
    read.fields.append(name)
    messages = _prompt_messages(value, name)
    if messages is not None:
        return _with_system(fields, messages, read)
    prompt = _text(value, name)
    candidates = INPUTS if stated.input_field == AUTO else (stated.input_field,)
    for more_name in candidates if stated.input_field != NONE else ():
        more = _optional(fields, more_name) if more_name not in read.fields else ""
        if more.strip():
            read.fields.append(more_name)
            prompt = prompt if more in prompt else joined(prompt, more)
    before: list[Message] = []
    history = fields.get("history")
    if isinstance(history, list) and history and all(_is_exchange(turn) for turn in history):
        read.fields.append("history")
        before = [Message(role, text) for turn in history for role, text in zip((USER, ASSISTANT), turn, strict=True)]
    return _with_system(fields, [*before, Message(USER, prompt)], read)


def _prompt_messages(value: Any, name: str) -> list[Message] | None:
    """The messages of a prompt that is a conversation without its last answer; None for a text."""
    messages = (
        messages_of(value, name) if isinstance(value, list) or (isinstance(value, str) and is_dialogue(value)) else None
    )
    if messages and messages[-1].role == ASSISTANT and not messages[-1].content:  # `Assistant:`, as the last words
        return messages[:-1]
    return messages if messages and messages[-1].role != ASSISTANT else None


def _whole_conversation(fields: Mapping[str, Any], stated: StatedFields, read: Read) -> list[Message]:
    """The messages of a conversation, the last of them an answer; Unfit where nothing is answered."""
    messages, name = _conversation(fields, stated, read)
    while messages and messages[-1].role != ASSISTANT:
        messages, read.unanswered = messages[:-1], True
    if not messages:
        raise Unfit(f"{name}: no turn is answered")
    return messages


def _conversation(fields: Mapping[str, Any], stated: StatedFields, read: Read) -> tuple[list[Message], str]:
    name = stated.conversation_field
    if name == AUTO:
        name = next(name for name in CONVERSATIONS if fields.get(name) is not None)
    messages = messages_of(_value(fields, name), name)
    if messages is None:
        raise Unfit(f"field {name!r} is not a conversation: a list of messages with role and content")
    read.fields.append(name)
    return checked(_with_system(fields, messages, read), name), name


def _with_system(fields: Mapping[str, Any], messages: list[Message], read: Read) -> list[Message]:
    """The messages behind what the record says beside them: a system line, and the tools that may be called."""
    tools = fields.get("tools")
    read.fields += ["system", "tools"]
    own = next((number for number, message in enumerate(messages) if message.role != SYSTEM), len(messages))
    system, described = _optional(fields, "system"), as_text(tools) if tools else ""
    lines = [system, *(message.content for message in messages[:own]), described]
    return [*(Message(SYSTEM, line) for line in lines if line.strip()), *messages[own:]]


def _preference(fields: Mapping[str, Any], stated: StatedFields) -> Read:
    """A prompt with two answers; where there is none, the beginning that both conversations have in common."""
    read = Read(fields=[_CHOSEN, _REJECTED])
    before: list[Message] = []
    talks = any(fields.get(name) is not None for name in CONVERSATIONS)
    if stated.conversation_field != AUTO or (talks and stated.prompt_field == AUTO):
        before = _conversation(fields, stated, read)[0]
    elif stated.prompt_field != AUTO or any(fields.get(name) is not None for name in PROMPTS):
        before = _asked(fields, stated, read) or []
        read.fields += ANSWERS  # of data for both: the answer to learn is the chosen one
    (chosen_before, chosen), (rejected_before, rejected) = (_side(fields[name], name) for name in (_CHOSEN, _REJECTED))
    if chosen_before != rejected_before:
        raise Unfit("chosen and rejected do not differ by their last answer alone")
    if chosen_before:  # most repeat the prompt, some go on from it
        told = {message.content.strip() for message in chosen_before}
        more = [message for message in before if message.content.strip() not in told]
        before = [*(before if any(message.role != SYSTEM for message in more) else more), *chosen_before]
    if not before:
        raise Unfit("there is no prompt: chosen and rejected are answers alone")
    if chosen.strip() == rejected.strip():
        raise Unfit("chosen and rejected are the same")
    read.rows = [Row(PREFERENCES, _ends_with_question(checked(before, _CHOSEN), _CHOSEN), chosen, rejected)]
    return read


def _side(value: Any, name: str) -> tuple[list[Message], str]:
    """One of the answers, and the messages before it where it is a conversation."""
    if isinstance(value, str) and not is_dialogue(value):
        return [], value
    messages = messages_of(value, name)
    if messages is None:
        return [], _text(value, name)
    if messages[-1].role != ASSISTANT:
        raise Unfit(f"{name}: the last turn is the {messages[-1].role}'s, not an answer")
    return messages[:-1], messages[-1].content


def _ends_with_question(messages: list[Message], place: str) -> tuple[Message, ...]:
    if messages[-1].role in (ASSISTANT, SYSTEM):
        raise Unfit(f"{place}: the answer follows a turn of the {messages[-1].role}, not a question")
    return tuple(messages)


def _instances(instances: list[Any], asked: list[Message]) -> Iterator[Row]:
    """The pairs of an instruction with several inputs and outputs."""
    for number, instance in enumerate(instances):
        if not isinstance(instance, Mapping):
            raise Unfit(f"instances.{number}: not an object with input and output")
        answer = _text(instance.get("output"), f"instances.{number}.output")
        prompt = joined(asked[-1].content, _optional(instance, "input"))
        yield Row(PAIRS, tuple(checked([*asked[:-1], Message(USER, prompt)], "instances")), answer)


def _labels(fields: Mapping[str, Any], stated: StatedFields) -> Read:
    text_name = _name(fields, stated.text_field, TEXTS)
    label_name = _name(fields, stated.label_field, CLASSES, taken=[text_name])
    value = _value(fields, label_name)
    label = str(value).strip() if isinstance(value, str | int) else ""
    if not label:
        kind = "empty" if isinstance(value, str) else f"{_kind(value)}, not a word or a whole number"
        raise Unfit(f"the label, field {label_name!r}, is {kind}")
    text = _text(_value(fields, text_name), text_name)
    return Read([Row(LABELS, (Message(USER, text),), label)], [text_name, label_name])


def _is_liked(value: Any, name: str) -> bool:
    said = str(value).strip().lower() if isinstance(value, str | bool | int) else ""
    if said not in (*_TRUE, *_FALSE):
        shown = repr(value)[:40]
        raise Unfit(f"field {name!r} is {shown}, neither true nor false: whether the answer was liked (kto)")
    return said in _TRUE


def _is_exchange(turn: Any) -> bool:
    return isinstance(turn, list) and len(turn) == 2 and all(isinstance(text, str) for text in turn)


def _name(fields: Mapping[str, Any], stated: str, known: tuple[str, ...], taken: Sequence[str] = ()) -> str:
    if stated != AUTO:
        return stated
    name = next((name for name in known if fields.get(name) is not None and name not in taken), None)
    if name is None:
        raise Missing(*known)
    return name


def _value(fields: Mapping[str, Any], name: str) -> Any:
    try:
        return field_of(fields, name)
    except KeyError:
        raise Missing(name) from None


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Unfit(f"field {name!r} is not text but {_kind(value)}")
    if is_dialogue(value):
        raise Unfit(f"field {name!r} is a whole dialogue (Human: ... Assistant: ...): name it as conversation_field")
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _optional(fields: Mapping[str, Any], name: str) -> str:
    """The text of a field that a record may lack; empty for none."""
    try:
        text = field_of(fields, name)
    except KeyError:
        return ""
    return text if isinstance(text, str) else ""
