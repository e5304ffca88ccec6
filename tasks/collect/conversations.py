"""Conversations as instruction data have them -> messages of a system, a user, an assistant and its tools, all text.

Read are OpenAI's form (`[{"role", "content"}]`), ShareGPT's (`[{"from", "value"}]`), either as JSON in a text too, and
dialogues in a text (`\\n\\nHuman: ...\\n\\nAssistant: ...`). A call of a tool becomes a line of JSON with `name` and
`arguments`, what the model thinks stands between `<think>` and `</think>`. An image or a sound is no text: Unfit.

A conversation is a system line or none, then a question and its answer in turn; between a call and the answer stands
what the tool gave back. What is built otherwise is Unfit, with the place: nothing is left out of it in silence.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storage.documents import ASSISTANT, SYSTEM, TOOL, USER, Message

_ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model", "bot"), ASSISTANT),
    **dict.fromkeys(("function_call", "tool_call"), ASSISTANT),
    **dict.fromkeys(("tool", "function", "function_response", "tool_response", "observation"), TOOL),
}
_THOUGHTS = ("reasoning", "thinking", "thought")  # kinds of a content's parts
_SPEAKER = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")
_FOLLOWS = {SYSTEM: (USER,), USER: (ASSISTANT,), ASSISTANT: (USER, TOOL), TOOL: (ASSISTANT,)}


class Unfit(Exception):
    """Why a record is none of its form: the place in it and what is wrong there, for the quarantine."""


def is_dialogue(text: str) -> bool:
    """Whether a text is a whole dialogue, not what one side says."""
    return _SPEAKER.match(text) is not None and _SPEAKER.findall(text)[:2] == ["Human", "Assistant"]


def messages_of(value: Any, place: str) -> list[Message] | None:
    """The messages of a conversation in any of the forms; None for what is none. Unfit for one that is no text.

    `place` is the field that holds it.
    """
    if isinstance(value, str):
        if is_dialogue(value):
            return list(_of_dialogue(value))
        value = _parsed(value) if value.lstrip().startswith(("[", "{")) else None
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or not value or not all(isinstance(turn, Mapping) for turn in value):
        return None
    return [_message(turn, f"{place}.{number}") for number, turn in enumerate(value)]


def checked(messages: Sequence[Message], place: str) -> list[Message]:
    """The messages in one order: at most one system line, then questions and answers in turn. Unfit otherwise.

    Results of several tools one after another become one message.
    """
    lines = [message.content for message in messages if message.role == SYSTEM]
    begins = next((number for number, message in enumerate(messages) if message.role != SYSTEM), len(messages))
    if len(lines) > begins:
        raise Unfit(f"{place}: a system line stands behind the first turn")
    system = joined(*lines)
    found = [Message(SYSTEM, system)] if system else []
    before = SYSTEM
    for number, message in enumerate(messages[begins:], begins):
        if not message.content.strip():
            raise Unfit(f"{place}.{number}: the turn is empty")
        if message.role == before == TOOL:
            found[-1] = Message(TOOL, f"{found[-1].content}\n{message.content}")
            continue
        if message.role not in _FOLLOWS[before]:
            raise Unfit(f"{place}.{number}: {_misplaced(message.role, before)}")
        found.append(message)
        before = message.role
    return found


def joined(*texts: str) -> str:
    """Texts one below the other with a blank line between, without those that are blank."""
    return "\n\n".join(text for text in texts if text.strip())


def as_text(value: Any) -> str:
    """A JSON value, such as the description of tools, as text: as it is where it is one, else on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _misplaced(role: str, before: str) -> str:
    if role == before:
        return f"two turns of the {role} in a row"
    if before == SYSTEM:
        return f"the first turn is the {role}'s, not the user's"
    return f"a turn of the {role} follows one of the {before}"


def _message(turn: Mapping[str, Any], place: str) -> Message:
    """One message of OpenAI's or ShareGPT's form."""
    said = turn.get("role", turn.get("from"))
    if said is None:
        raise Unfit(f"{place}: the turn has no role (role or from)")
    role = _ROLES.get(str(said).lower())
    if role is None:
        raise Unfit(f"{place}: the role {str(said)[:40]!r} is not known (system, user, assistant, tool)")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, Mapping) or not isinstance(content, str | Sequence | None):
        content = as_text(content) if role == TOOL else [content]
    texts = [content] if isinstance(content, str) else [_part(part, place) for part in content or ()]
    calls = turn.get("tool_calls") or [turn.get("function_call")]
    texts += [_call(call, place) for call in calls if call]
    thought = turn.get("reasoning_content")
    return Message(role, joined(_thought(thought) if isinstance(thought, str) else "", *texts))


def _part(part: Any, place: str) -> str:
    """One part of a content that is a list: a text, a thought, a call of a tool or what it gave back."""
    sort = str(part.get("type")) if isinstance(part, Mapping) else ""
    value = part.get("value", part.get(sort, part.get("content"))) if isinstance(part, Mapping) else part
    if sort.startswith("tool") or sort.startswith("function"):
        return as_text(value)
    if not isinstance(value, str):
        what = f"a part of the type {sort[:40]!r}" if sort else f"a {type(part).__name__}"
        raise Unfit(f"{place}: the content holds {what}, which is not text")
    if sort not in ("", "text", *_THOUGHTS):
        raise Unfit(f"{place}: the content holds a part of the type {sort[:40]!r}, which is not text")
    return _thought(value) if sort in _THOUGHTS else value


def _thought(text: str) -> str:
    return f"<think>\n{text.strip()}\n</think>" if text.strip() else ""


def _call(call: Any, place: str) -> str:
    """A call of a tool as a line of JSON."""
    call = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise Unfit(f"{place}: the call of a tool has no name")
    arguments = call.get("arguments", {})
    parsed = _parsed(arguments) if isinstance(arguments, str) else arguments
    return as_text({"name": call["name"], "arguments": arguments if parsed is None else parsed})


def _parsed(text: str) -> Any:
    """The JSON value in a text; None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_dialogue(dialogue: str) -> Iterator[Message]:
    _, *rest = _SPEAKER.split(dialogue)
    for speaker, text in zip(rest[::2], rest[1::2], strict=True):
        yield Message(_ROLES[speaker.lower()], text.strip())
