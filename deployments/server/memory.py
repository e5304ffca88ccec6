"""What the server remembers of its replies, so that a user can say something of one: in memory only, and not for long.

Nothing of it is written anywhere before somebody has agreed (feedback.py). It is bounded in number, bytes and time.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cachetools import TTLCache

from deployments.server.errors import ApiError
from deployments.server.protocol import ChatRequest, CompletionRequest
from deployments.server.reading import Reading
from deployments.server.replies import Choice
from deployments.server.served import Served
from deployments.server.settings import ServerSettings
from model.engine import Request
from storage.documents import Message
from storage.feedback import Form

OBJECT_BYTES = 2048  # what a reply takes beside its texts


@dataclass(slots=True)
class Reply:
    """One that was made to its end, and what was said of it. `tenant` is the name of the key that got it."""

    tenant: str
    user: str
    model: str  # the digest
    form: Form
    conversations: Sequence[tuple[Message, ...]]
    answers: Sequence[str]  # as many to each conversation
    samplings: Sequence[Mapping[str, Any]]  # of each answer
    reading: Reading
    said: int = field(default=0)  # how many records there are of it
    voted: bool = field(default=False)

    def conversation(self, place: int) -> tuple[Message, ...]:
        """What the answer at this place follows."""
        return self.conversations[place * len(self.conversations) // len(self.answers)]

    @property
    def size(self) -> int:
        """Bytes in memory, about: a character has four at most."""
        said = sum(len(message.content) for one in self.conversations for message in one)
        return OBJECT_BYTES + 4 * (said + sum(map(len, self.answers)))


class Memory:
    """The last replies, by their ids."""

    def __init__(self, settings: ServerSettings) -> None:
        self._most = settings.remembered_replies
        self._replies: TTLCache[str, Reply] = TTLCache(
            settings.remembered_bytes, settings.remembered_seconds, getsizeof=lambda reply: reply.size
        )

    def remember(self, identity: str, reply: Reply) -> None:
        """Keep a reply in mind, in place of those that nobody has asked for the longest."""
        with suppress(ValueError):  # larger than all that is remembered
            self._replies[identity] = reply
            while len(self._replies) > self._most:
                self._replies.popitem()

    def find(self, identity: str, tenant: str, param: str) -> Reply:
        """The reply of that id that this key got. ApiError for any other, which says nothing of those of other keys."""
        reply = self._replies.get(identity)
        if reply is None or reply.tenant != tenant:
            raise ApiError(
                404,
                f"{param}: no reply {identity!r} is remembered for this key: replies are forgotten after "
                f"{self._replies.ttl:g} s, when many more have come, or when the server was started anew",
                code="reply_not_found",
                param=param,
            )
        return reply


def reply_of(
    served: Served,
    asked: ChatRequest | CompletionRequest,
    tenant: str,
    requests: Sequence[Request],
    choices: Sequence[Choice],
) -> Reply:
    """What is remembered of a request that was answered."""
    if isinstance(asked, ChatRequest):
        conversations = [tuple(Message(one.speaker, one.text) for one in asked.messages)]
    else:
        decode = served.release.tokenizer.decode
        texts = [one if isinstance(one, str) else decode(one, skip_special_tokens=False) for one in asked.prompts]
        conversations = [(Message("user", text),) for text in texts]
    samplings = [
        {
            "temperature": request.choice.temperature,
            "top_p": request.choice.top_p,
            "seed": request.choice.seed,
            "beams": request.beams,
            "max_tokens": request.most,
            "stop": list(asked.stops),
        }
        for request in requests
    ]
    form: Form = "chat" if isinstance(asked, ChatRequest) else "text"
    answers = [choice.text for choice in choices]
    return Reply(tenant, asked.user or "", served.digest, form, conversations, answers, samplings, served.reading)
