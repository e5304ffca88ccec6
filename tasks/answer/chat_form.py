"""Chat form, built from token ids: no text that a user gives can become a control token.

`<|endoftext|><|user|>` prompt `<|assistant|>` answer `<|end|>`, and for each further turn the same from `<|user|>` on.
`chat_template.jinja` says so for libraries that work on strings; a test holds the two together.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import DataError
from tasks.tokenize.tokenizer import ASSISTANT, END, END_OF_TEXT, USER, encode

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def prompt_ids(tokenizer: "Tokenizer", prompt: str) -> list[int]:
    """A prompt up to where the answer begins."""
    return chat_prompt(text_ids(tokenizer, [prompt])[0])


def chat_prompt(ids: list[int]) -> list[int]:
    """The ids of a prompt's text between their marks."""
    return [END_OF_TEXT, USER, *ids, ASSISTANT]


@dataclass
class Conversation:
    """Turns of a chat that fit into a model's context together with an answer of `room` tokens.

    With a `plain` model, which knows no turns, each message is the beginning of a text by itself.
    """

    context_length: int
    room: int
    plain: bool = False
    turns: list[list[int]] = field(default_factory=list)  # each from <|user|> to <|end|>

    def ask(self, prompt: list[int]) -> tuple[list[int], int]:
        """The ids that the answer follows, and how many of the oldest turns had to be forgotten for it.

        A prompt that fits but leaves less than `room` is taken alone; DataError for one that does not fit.
        """
        begin, *asked = self._begun(prompt)
        most = self.context_length - 1 - len(self._begun([]))
        if len(prompt) > most:
            raise DataError(f"this message has {len(prompt)} tokens; the model takes {most} at most: shorten it")
        forgotten = 0
        while self.turns and 1 + sum(map(len, self.turns)) + len(asked) + self.room > self.context_length:
            del self.turns[0]
            forgotten += 1
        return [begin, *(identity for turn in self.turns for identity in turn), *asked], forgotten

    def answered(self, prompt: list[int], answer: list[int]) -> None:
        """Keep a turn: the prompt's ids and what was answered."""
        if not self.plain:
            self.turns.append([*chat_prompt(prompt)[1:], *chat_answer(answer)])

    def _begun(self, prompt: list[int]) -> list[int]:
        return [END_OF_TEXT, *prompt] if self.plain else chat_prompt(prompt)


def chat_answer(ids: list[int]) -> list[int]:
    """The ids of an answer's text and the mark that ends it."""
    return [*ids, END]


def text_ids(tokenizer: "Tokenizer", texts: list[str]) -> list[list[int]]:
    """Ids of texts as ordinary text: `<|end|>` in them is six characters or so, never the mark."""
    tokenizer.encode_special_tokens = True
    return [list(map(int, ids)) for ids, _ in encode(tokenizer, texts)]
