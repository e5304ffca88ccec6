"""Chat form, built from token ids: no text that a user gives can become a control token.

`<|endoftext|><|user|>` prompt `<|assistant|>` answer `<|end|>`. `chat_template.jinja` says the same for libraries
that work on strings; a test holds the two together.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.tokenizer import ASSISTANT, END, END_OF_TEXT, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def prompt_ids(tokenizer: "Tokenizer", prompt: str) -> list[int]:
    """A prompt up to where the answer begins."""
    return prompt_form(text_ids(tokenizer, [prompt])[0])


def prompt_form(ids: list[int]) -> list[int]:
    """The ids of a prompt's text between their marks."""
    return [END_OF_TEXT, USER, *ids, ASSISTANT]


def answer_form(ids: list[int]) -> list[int]:
    """The ids of an answer's text and the mark that ends it."""
    return [*ids, END]


def text_ids(tokenizer: "Tokenizer", texts: list[str]) -> list[list[int]]:
    """Ids of texts as ordinary text: `<|end|>` in them is six characters or so, never the mark."""
    tokenizer.encode_special_tokens = True
    return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
