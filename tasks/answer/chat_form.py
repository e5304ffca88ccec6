"""Chat forms: messages in, token ids out, so that no text that a user gives can become a control token.

A model that is trained here from nothing has its own form (`OwnForm`), put together from ids; an open model has that of
its chat template (tasks/answer/template_form.py). `load_chat_form` tells which of them a folder's tokenizer has.

    <|endoftext|><|user|> prompt <|assistant|> answer <|end|>     and for each further turn the same from <|user|> on

is the own form; a system message stands before the user's that follows it, with an empty line between.
`chat_template.jinja` says so for libraries that work on strings; a test holds the two together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from storage.documents import Message
from storage.errors import DataError
from tasks.tokenize.control import OWN, ControlTokens
from tasks.tokenize.tokenizer import ASSISTANT, END, END_OF_TEXT, SPECIAL_TOKENS, USER, text_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")
MARK = "\ufdd0"  # a Unicode noncharacter, which no text holds: in marked text it stands before each control token


class Piece(NamedTuple):
    """Ids of a stretch of a conversation, and whether a model learns to say it."""

    ids: list[int]
    learned: bool


class ChatForm(Protocol):
    """How a model takes the turns of a conversation. DataError for one that the form does not allow."""

    @property
    def tokenizer(self) -> "Tokenizer": ...

    @property
    def control(self) -> ControlTokens: ...

    @property
    def end(self) -> int:
        """The control token that ends an answer."""
        ...

    def pieces(self, conversations: Sequence[Sequence[Message]]) -> list[list[Piece]]:
        """Each conversation up to its last answer. What the assistant says is learned, with the one mark that ends
        it; all else is not."""
        ...

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """The ids of each conversation up to where the next answer begins."""
        ...

    def marked(self, messages: Sequence[Message]) -> str:
        """A conversation up to where the next answer begins, as text with MARK before each control token: for
        libraries that handle prompts as text."""
        ...

    def marked_ids(self, text: str) -> list[int]:
        """The ids of marked text, to whose end other text may have been added."""
        ...


@dataclass(frozen=True, slots=True)
class OwnForm:
    """The form of models that are trained here from nothing."""

    tokenizer: "Tokenizer"
    control: ControlTokens = OWN
    end: int = END

    def pieces(self, conversations: Sequence[Sequence[Message]]) -> list[list[Piece]]:
        turns = [without_system(messages) for messages in conversations]
        encoded = iter(text_ids(self.tokenizer, [turn.content for each in turns for turn in each]))
        return [_own_pieces(each, encoded) for each in turns]

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        asked = [(*messages, Message("assistant", "")) for messages in conversations]
        return [[token for piece in pieces for token in piece.ids][:-1] for pieces in self.pieces(asked)]

    def marked(self, messages: Sequence[Message]) -> str:
        end_of_text, user, assistant, end = (f"{MARK}{token}" for token in SPECIAL_TOKENS)
        said = [
            f"{user}{turn.content}" if turn.role == "user" else f"{assistant}{turn.content}{end}"
            for turn in without_system([Message(role, content.replace(MARK, "")) for role, content in messages])
        ]
        return "".join((end_of_text, *said, assistant))

    def marked_ids(self, text: str) -> list[int]:
        begin, *parts = text.split(MARK)
        ids = text_ids(self.tokenizer, [begin])[0]
        for part in parts:
            number = next((n for n, token in enumerate(SPECIAL_TOKENS) if part.startswith(token)), None)
            rest = part if number is None else part.removeprefix(SPECIAL_TOKENS[number])
            ids += [] if number is None else [number]
            ids += text_ids(self.tokenizer, [rest])[0] if rest else []
        return ids


def without_system(messages: Sequence[Message]) -> list[Message]:
    """Messages without those of the system: what they say stands before the user's next one. DataError for a role that
    nobody knows."""
    turns, before = [], ""
    for role, content in messages:
        if role == "system":
            before += f"{content}\n\n"
        elif role in ("user", "assistant"):
            turns.append(Message(role, before + content if role == "user" else content))
            before = "" if role == "user" else before
        else:
            raise DataError(f"a message has the role {role!r}; known are system, user and assistant")
    return [*turns, Message("user", before.removesuffix("\n\n"))] if before else turns


def _own_pieces(turns: Sequence[Message], encoded: Iterator[list[int]]) -> list[Piece]:
    pieces, asked = [], [END_OF_TEXT]
    for turn in turns:
        ids = next(encoded)
        if turn.role == "user":
            asked += [USER, *ids]
        else:
            pieces += [Piece([*asked, ASSISTANT], False), Piece([*ids, END], True)]
            asked = []
    return pieces


def prompt_ids(form: ChatForm, prompt: str) -> list[int]:
    """A prompt up to where the answer begins."""
    return form.prompts([[Message("user", prompt)]])[0]


@dataclass
class Conversation:
    """Turns of a chat that fit into a model's context together with an answer of `room` tokens.

    Without a `form` the model knows no turns: each message is the beginning of a text by itself, after `start`.
    """

    tokenizer: "Tokenizer"
    control: ControlTokens
    form: ChatForm | None
    context_length: int
    room: int
    turns: list[tuple[str, str]] = field(default_factory=list)  # prompts and their answers

    def ask(self, prompt: str) -> tuple[list[int], int]:
        """The ids that the answer follows, and how many of the oldest turns had to be forgotten for it.

        A prompt that fits but leaves less than `room` is taken alone; DataError for one that does not fit.
        """
        alone = self._ids([], prompt)
        if len(alone) >= self.context_length:
            tokens = len(text_ids(self.tokenizer, [prompt])[0])
            most = tokens - (len(alone) - self.context_length + 1)
            raise DataError(f"this message has {tokens} tokens; the model takes {most} at most: shorten it")
        forgotten = 0
        while self.turns:
            ids = self._ids(self.turns, prompt)
            if len(ids) + self.room <= self.context_length:
                return ids, forgotten
            del self.turns[0]
            forgotten += 1
        return alone, forgotten

    def answered(self, prompt: str, answer: str) -> None:
        """Keep a turn: the prompt and what was answered."""
        if self.form is not None:
            self.turns.append((prompt, answer))

    def _ids(self, turns: Sequence[tuple[str, str]], prompt: str) -> list[int]:
        if self.form is None:
            return [self.control.start, *text_ids(self.tokenizer, [prompt])[0]]
        said = [message for turn in turns for message in map(Message, ("user", "assistant"), turn)]
        return self.form.prompts([[*said, Message("user", prompt)]])[0]
