"""How a model reads texts, without the model: it may be served no more when somebody says what it should have said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storage.documents import Message
from tasks.answer.chat_form import ChatForm
from tasks.answer.prompt_form import PromptForm, plain_ids, prompt_text
from tasks.answer.release import Release
from tasks.tokenize.control import ControlTokens
from tasks.tokenize.tokenizer import text_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Reading:
    """What makes token ids of conversations and texts."""

    tokenizer: "Tokenizer"
    control: ControlTokens
    chat: ChatForm | None
    form: PromptForm

    def conversation(self, messages: Sequence[Message]) -> list[int]:
        """The ids that an answer follows; DataError for what the chat form does not allow."""
        if self.chat is None:
            raise ValueError("a model without a chat form answers no conversation")
        (ids,) = self.chat.prompts([[self._asked(message) for message in messages]])
        return ids

    def beginning(self, text: str) -> list[int]:
        """The ids of a text that goes on."""
        return plain_ids(self.tokenizer, self.control, text)

    def text(self, text: str) -> list[int]:
        """The ids of a text and nothing else."""
        return text_ids(self.tokenizer, [text])[0]

    def _asked(self, message: Message) -> Message:
        if message.role != "user":
            return message
        return Message(message.role, prompt_text(message.content, self.form))


def reading_of(release: Release, form: PromptForm) -> Reading:
    """That of a release."""
    return Reading(release.tokenizer, release.control, release.chat, form)
