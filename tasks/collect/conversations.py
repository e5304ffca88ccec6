"""Conversations as instruction data have them -> one question and its answer.

Read are OpenAI's form (`[{"role", "content"}]`), ShareGPT's (`[{"from", "value"}]`), either as JSON in a text too, and
dialogues in a text (`\\n\\nHuman: ...\\n\\nAssistant: ...`). The model's chat form holds one exchange, so of a
conversation the first question and its answer are taken, what a system message says before the question; later turns
refer to what is before them. What no pair can hold is reported by its kind, never dropped in silence: `KINDS`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Kind = Literal["several_turns", "tool_calls", "other_content", "rejected_answers"]
KINDS: dict[Kind, str] = dict(
    zip(
        get_args(Kind),
        (
            "the conversation has several turns",
            "the exchange holds a tool call, which a pair of texts cannot hold",
            "the exchange holds something other than text (an image, reasoning apart from the answer)",
            "the answer is marked as a rejected one",
        ),
        strict=True,
    )
)

_ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), "assistant"),
    **dict.fromkeys(
        ("tool", "function", "function_call", "function_response", "tool_call", "tool_response", "observation"), "tool"
    ),
}
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says; `kind` says why it is not text, where it is not."""

    role: str
    text: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer, and whether the conversation goes on."""

    prompt: str
    answer: str
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no pair; a `kind` is what a source can leave out."""

    reason: str
    kind: Kind | None = None


def is_dialogue(text: str) -> bool:
    """Whether a text is a whole dialogue, not what one side says."""
    return _SPEAKER.match(text) is not None and _SPEAKER.findall(text)[:2] == ["Human", "Assistant"]


def turns_of(value: Any) -> list[Turn] | None:
    """The turns of a conversation in any of the forms; None for what is not a conversation."""
    if isinstance(value, str):
        if is_dialogue(value):
            return list(_turns_of_dialogue(value))
        try:
            value = json.loads(value) if value.lstrip().startswith("[") else None
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, Sequence) or not value or not all(isinstance(turn, Mapping) for turn in value):
        return None
    return [turn_of(turn) for turn in value]


def turn_of(turn: Mapping[str, Any]) -> Turn:
    """One message of OpenAI's or ShareGPT's form."""
    role = _ROLES.get(str(turn.get("role", turn.get("from", ""))).lower(), "")
    if role == "tool" or turn.get("tool_calls") or turn.get("function_call"):
        return Turn("assistant" if role == "assistant" else "tool", "", "tool_calls")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, str):
        return Turn(role, content)
    texts = []
    for part in content if isinstance(content, Sequence) else [None]:
        sort = str(part.get("type")) if isinstance(part, Mapping) else ""
        text = part.get("text", part.get("value")) if isinstance(part, Mapping) and sort == "text" else part
        if not isinstance(text, str):
            return Turn(role, "", "tool_calls" if sort.startswith("tool") else "other_content")
        texts.append(text)
    return Turn(role, "\n\n".join(texts))


def first_exchange(turns: Sequence[Turn]) -> Exchange | Refused:
    """The first question of a conversation and its answer."""
    said: dict[str, list[Turn]] = {"system": [], "user": [], "assistant": []}
    order = tuple(said)
    place = used = 0
    for turn in turns:
        role = "assistant" if turn.role == "tool" else turn.role
        if role not in said:
            return Refused("a turn of the conversation has no role that is known (system, user, assistant, tool)")
        if order.index(role) < place:
            break
        place = order.index(role)
        said[role].append(turn)
        used += 1
    if not said["user"] or not said["assistant"]:
        return Refused("the conversation does not begin with a question that is followed by an answer")
    for turn in (turn for role in order for turn in said[role]):
        if turn.kind is not None:
            return Refused(KINDS[turn.kind], turn.kind)
    prompt = joined(*(turn.text for turn in (*said["system"], *said["user"])))
    return Exchange(prompt, joined(*(turn.text for turn in said["assistant"])), used < len(turns))


def joined(*texts: str) -> str:
    """Texts one below the other with a blank line between, without those that are blank."""
    return "\n\n".join(text for text in texts if text.strip())


def _turns_of_dialogue(dialogue: str) -> Iterator[Turn]:
    _, *rest = _SPEAKER.split(dialogue)
    for speaker, text in zip(rest[::2], rest[1::2], strict=True):
        yield Turn(_ROLES[speaker.lower()], text.strip())
