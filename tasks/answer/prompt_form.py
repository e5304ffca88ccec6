"""In what form a model takes its prompts: a property of the release, since it is what the model was taught.

- `chat`: the prompt between the marks of the chat form;
- `docstrings`: the same, and the line of a `def` or `class` is said in words first (tasks/collect/declarations.py), as
  the pairs were that it has learned from;
- `plain`: the beginning of a text, which goes on.
"""

from typing import TYPE_CHECKING, Literal

from tasks.answer.chat_form import prompt_ids
from tasks.collect.declarations import prompt_from_declaration
from tasks.tokenize.tokenizer import END_OF_TEXT, token_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PromptForm = Literal["docstrings", "chat", "plain"]


def prompt_text(prompt: str, form: PromptForm) -> str:
    """What the model reads of what a user has typed."""
    return prompt_from_declaration(prompt) if form == "docstrings" else prompt


def starting_ids(tokenizer: "Tokenizer", prompt: str, form: PromptForm) -> list[int]:
    """The ids that a model goes on from."""
    text = prompt_text(prompt, form)
    return [END_OF_TEXT, *token_ids(tokenizer, text)] if form == "plain" else prompt_ids(tokenizer, text)
