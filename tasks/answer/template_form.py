"""The chat form of an open model: its own chat template (Jinja), rendered in a sandbox.

A template is text from others: it runs in jinja2's sandbox, without the date (equal inputs give equal ids) and without
anything else of this machine. Contents never become control tokens: where one spells a control token, a noncharacter is
put inside it before the template is rendered, so that only the template's own control tokens are found in the text, and
taken out again before it is encoded. For all other contents the ids are those of transformers' `apply_chat_template`.
Cost: about .2 ms a conversation.
"""

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storage.documents import Message
from storage.errors import DataError
from tasks.answer.chat_form import MARK, ChatForm, OwnForm, Piece, without_system
from tasks.tokenize.control import TOKENIZER_CONFIG, is_own, read_control, read_object, special_tokens, token_text
from tasks.tokenize.tokenizer import load_tokenizer, text_ids

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

CHAT_TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_CHARACTERS = 1 << 20
_SPLIT = "\ufdd1"  # put into what only spells a control token


class TemplateError(Exception):
    """What a template itself raises."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template, and the file that it stands in."""

    text: str
    place: Path


def load_chat_form(folder: Path) -> ChatForm | None:
    """The chat form of a folder with a tokenizer; None where it has no chat template. DataError for a template that
    cannot be used."""
    tokenizer = load_tokenizer(folder)
    if is_own(tokenizer):
        return OwnForm(tokenizer)
    template = find_template(folder)
    return None if template is None else TemplateForm(folder, template)


def needed_chat_form(folder: Path) -> ChatForm:
    """`load_chat_form`, and DataError where there is no chat template."""
    form = load_chat_form(folder)
    if form is None:
        raise DataError(f"{folder}: has no {CHAT_TEMPLATE_FILE}, so there is no form for prompts and answers")
    return form


def find_template(folder: Path) -> ChatTemplate | None:
    """A folder's chat template: a file, or a field of the tokenizer's settings, as older models have it."""
    path = folder / CHAT_TEMPLATE_FILE
    if path.is_file():
        try:
            text: Any = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not text that can be read ({error})") from error
    else:
        path = folder / TOKENIZER_CONFIG
        text = read_object(path).get("chat_template")
        if isinstance(text, list):  # several by name
            text = {one.get("name"): one.get("template") for one in text if isinstance(one, dict)}.get("default")
        if text is None:
            return None
    if not isinstance(text, str) or len(text) > MAX_TEMPLATE_CHARACTERS:
        raise DataError(f"{path}: the chat template is no text of {MAX_TEMPLATE_CHARACTERS:,} characters at most")
    return ChatTemplate(text, path)


class TemplateForm:
    """The form that a chat template gives."""

    def __init__(self, folder: Path, template: ChatTemplate) -> None:
        self.tokenizer = load_tokenizer(folder)
        self.control = read_control(folder)
        self._place = template.place
        self._ids = {token: number for number, token in special_tokens(self.tokenizer).items()}
        longest = sorted(self._ids, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest)))
        self._control = re.compile(f"{MARK}({self._special.pattern})")
        self._named = _named_tokens(folder)
        self._template = self._compiled(template.text)
        self._whole = _finding_control(self.tokenizer.to_str())
        self._takes_system = self._allows([Message("system", "a"), Message("user", "b")])
        self.end = self._end()

    def pieces(self, conversations: Sequence[Sequence[Message]]) -> list[list[Piece]]:
        cut = [self._cut(messages) for messages in conversations]
        prefixes = iter(self._encoded([text[:end] for text, ends in cut for end in ends]))
        made = []
        for text, ends in cut:
            before: list[int] = []
            pieces, start = [], 0
            for number, end in enumerate(ends):
                whole = next(prefixes)
                ids = whole[len(before) :] if whole[: len(before)] == before else self.marked_ids(text[start:end])
                learned = bool(number % 2)
                pieces.append(Piece([*ids, self.end] if learned and ids[-1:] != [self.end] else ids, learned))
                before, start = whole, end
            made.append(pieces)
        return made

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        return self._encoded([self.marked(messages) for messages in conversations])

    def marked(self, messages: Sequence[Message]) -> str:
        return self._rendered(messages, answering=True)

    def marked_ids(self, text: str) -> list[int]:
        return self._encoded([text])[0]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of marked texts: as one string each, or control token by control token where other text spells some."""
        plain = [text.replace(MARK, "") for text in texts]
        spelled = [len(self._special.findall(one)) != text.count(MARK) for one, text in zip(plain, texts, strict=True)]
        whole = self._whole.encode_batch_fast(plain, add_special_tokens=False)
        return [
            self._apart(text) if apart else list(encoding.ids)
            for text, apart, encoding in zip(texts, spelled, whole, strict=True)
        ]

    def _apart(self, text: str) -> list[int]:
        ids: list[int] = []
        for number, part in enumerate(self._control.split(text)):
            if number % 2:
                ids.append(self._ids[part])
            elif part:
                ids += text_ids(self.tokenizer, [part.replace(MARK, "")])[0]
        return ids

    def _cut(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """A marked conversation, and where its stretches end: not learned and learned ones in turn.

        A turn that the template shows otherwise once others follow is not learned: its model never says it so. Where
        it shows the last one otherwise than it asks for it, the answer follows what it asks with.
        """
        text = self._rendered(messages, answering=False)
        ends: list[int] = []
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            head = self._rendered(messages[:number], answering=True)
            if text.startswith(head) and (not ends or len(head) > ends[-1]):
                found = self._control.search(text, len(head))
                ends += [len(head), found.end() if found else len(text)]
            elif number == len(messages) - 1:
                text, ends = head + message.content.replace(MARK, ""), [len(head)]
                ends.append(len(text))
        return text, ends

    def _rendered(self, messages: Sequence[Message], *, answering: bool) -> str:
        """A conversation as marked text."""
        shown = [Message(role, self._broken(content)) for role, content in messages]
        if not self._takes_system:
            shown = without_system(shown)
        text = self._render(shown, answering=answering)
        return self._special.sub(lambda found: MARK + found[0], text).replace(_SPLIT, "")

    def _broken(self, content: str) -> str:
        """A content that spells no control token."""
        content = content.replace(MARK, "").replace(_SPLIT, "")
        return self._special.sub(lambda found: found[0][0] + _SPLIT + found[0][1:], content)

    def _render(self, messages: Sequence[Message], *, answering: bool) -> str:
        given = [message._asdict() for message in messages]
        try:
            return self._template.render(messages=given, add_generation_prompt=answering, **self._named)
        except Exception as error:  # a template may raise anything
            raise DataError(f"{self._place}: {_said(error)}") from error

    def _compiled(self, template: str) -> "Template":
        try:
            return _environment().from_string(template)
        except Exception as error:
            raise DataError(f"{self._place}: not a template that can be read: {_said(error)}") from error

    def _allows(self, messages: Sequence[Message]) -> bool:
        try:
            self._render(messages, answering=True)
        except DataError:
            return False
        return True

    def _end(self) -> int:
        """The control token that ends an answer; DataError for a template that does not show what is said."""
        text = self._rendered([Message("user", "ask"), Message("assistant", "reply")], answering=False)
        asked, _, after = text.partition("reply")
        if "ask" not in asked or asked == text:
            raise DataError(f"{self._place}: the template does not show what user and assistant say")
        found = self._control.match(after.lstrip())
        return self._ids[found[1]] if found else self.control.ends[0]


def _named_tokens(folder: Path) -> dict[str, str]:
    """What templates know tokens by: `bos_token` and the like."""
    settings = read_object(folder / TOKENIZER_CONFIG)
    return {
        name: token_text(value) for name, value in settings.items() if name.endswith("_token") and token_text(value)
    }


@functools.lru_cache(maxsize=1)
def _finding_control(tokenizer: str) -> "Tokenizer":
    """A tokenizer that finds control tokens in text; the one for users' texts never does."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(tokenizer)


@functools.cache
def _environment() -> Any:
    """Jinja as transformers has it for chat templates, without the date."""
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks what the assistant says; we know that from the messages."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _as_json
    environment.globals["raise_exception"] = _raise
    return environment


def _as_json(value: Any, indent: int | None = None, **others: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _said(error: Exception) -> str:
    """What is wrong with a template, in words."""
    import jinja2.exceptions

    text = " ".join(str(error).split())[:200]
    if isinstance(error, TemplateError):
        return f"the template refuses these messages: {text}"
    if isinstance(error, jinja2.exceptions.SecurityError):
        return f"the template needs what is not allowed here: {text}"
    if isinstance(error, jinja2.exceptions.UndefinedError) and "strftime_now" in text:
        return "the template needs the date (strftime_now), and equal data could not give equal ids: write it out"
    return f"{type(error).__name__}: {text}"
