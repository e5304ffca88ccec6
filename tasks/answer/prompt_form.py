"""In what form a model takes its prompts: a property of the release, since it is what the model was taught.

- `chat`: the prompt between the marks of the chat form;
- `docstrings`: the same, and the line of a `def` or `class` is said in words first (tasks/collect/declarations.py), as
  the pairs were that it has learned from;
- `plain`: the beginning of a text, which goes on.
"""

from typing import TYPE_CHECKING, Literal

from tasks.answer.chat_form import ChatForm, prompt_ids
from tasks.collect.declarations import prompt_from_declaration
from tasks.tokenize.control import ControlTokens
from tasks.tokenize.tokenizer import text_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PromptForm = Literal["docstrings", "chat", "plain"]


def prompt_text(prompt: str, form: PromptForm) -> str:
    """What the model reads of what a user has typed."""
    return prompt_from_declaration(prompt) if form == "docstrings" else prompt


def plain_ids(tokenizer: "Tokenizer", control: ControlTokens, text: str) -> list[int]:
    """The ids of the beginning of a text, which a model goes on from."""
    return [control.start, *text_ids(tokenizer, [text])[0]]


def starting_ids(chat: ChatForm, prompt: str, form: PromptForm) -> list[int]:
    """The ids that a model goes on from, which takes its chats in the form `chat`."""
    text = prompt_text(prompt, form)
    return plain_ids(chat.tokenizer, chat.control, text) if form == "plain" else prompt_ids(chat, text)
