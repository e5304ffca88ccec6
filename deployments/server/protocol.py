"""Bodies of requests as OpenAI's API has them. What this server does not do is refused by name, never ignored.

A field that is null counts as absent, and so does one that asks for nothing (a penalty of 0, no tools): clients send
such fields unasked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_STOPS, STOP_CHARACTERS, MOST_LIKELIEST = 4, 256, 20
NOTHING: Mapping[str, Any] = {  # fields of others, and the value of each that asks for nothing
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logit_bias": {},
    "tools": [],
    "functions": [],
    "response_format": {"type": "text"},
    "store": False,
    "metadata": {},
    "modalities": ["text"],
    "echo": False,
    "best_of": 1,
    "suffix": "",
}
# A list of a million wrong items is one fault: the first of them ends it.
Count = Annotated[int, Field(ge=1, lt=2**63)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(fail_fast=True)]
Texts = Annotated[list[str], Field(fail_fast=True)]
StopString = Annotated[str, Field(min_length=1, max_length=STOP_CHARACTERS)]


class Body(BaseModel):
    """A body in which a field without a meaning here is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_what_asks_for_nothing(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        own = cls.model_fields

        def says_something(name: str, value: Any) -> bool:
            return value is not None and (name in own or name not in NOTHING or value != NOTHING[name])

        return {name: value for name, value in given.items() if says_something(name, value)}


class StreamOptions(Body):
    """What a stream says beside the answer."""

    include_usage: bool = False


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(fail_fast=True)]
    name: str | None = None

    @property
    def speaker(self) -> str:
        """Its role, as models know it."""
        return "system" if self.role == "developer" else self.role

    @property
    def text(self) -> str:
        """The whole content."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Generation(Body):
    """What requests for answers have in common.

    Without `temperature`, `top_p`, `seed` and several answers the model is asked as its release says: by its own
    search, else for the likeliest token; with one of the others alone the temperature is 1.
    """

    model: str = ""
    n: Count = 1
    max_tokens: Count | None = None
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: StopString | Annotated[list[StopString], Field(fail_fast=True)] = Field(default_factory=list)
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=256)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.stops) > MOST_STOPS:
            raise ValueError(f"stop: {len(self.stops)} texts; {MOST_STOPS} at most")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn, not the likeliest taken."""
        asked = self.top_p is not None or self.seed is not None or self.n > 1
        return asked if self.temperature is None else self.temperature > 0

    @property
    def drawn_temperature(self) -> float:
        """The temperature in force; 0 takes the likeliest."""
        return (self.temperature or 1.0) if self.draws else 0.0

    @property
    def most_tokens(self) -> int | None:
        """How long an answer may be; None: as long as the context."""
        return self.max_tokens


class ChatRequest(Generation):
    """`/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(fail_fast=True)] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MOST_LIKELIEST)

    @model_validator(mode="after")
    def _check_chat(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens: says another number than max_completion_tokens; give one of them")
        return self

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def likeliest(self) -> int | None:
        """Alternatives of each token; None: no log-probabilities."""
        return self.top_logprobs if self.logprobs else None


class CompletionRequest(Generation):
    """`/v1/completions`: texts, or their token ids, that go on."""

    prompt: str | Texts | Tokens | Annotated[list[Tokens], Field(fail_fast=True)]
    logprobs: int | None = Field(None, ge=0, le=MOST_LIKELIEST)

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each of them alone."""
        return each_alone(self.prompt)


class EmbeddingRequest(Body):
    """`/v1/embeddings`."""

    model: str = ""
    input: str | Texts | Tokens | Annotated[list[Tokens], Field(fail_fast=True)]
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = Field(None, max_length=256)

    @property
    def texts(self) -> list[str | list[int]]:
        """Each text alone, some as token ids."""
        return each_alone(self.input)


def each_alone(given: "str | list[str] | list[int] | list[list[int]]") -> list[str | list[int]]:
    """One or several texts, or their ids, as a list of them."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [[one for one in given if isinstance(one, int)]]
    return [one for one in given if not isinstance(one, int)]


class TokenizeRequest(Body):
    """`/tokenize`: a text, or a conversation as the model reads it."""

    model: str = ""
    text: str | None = None
    messages: Annotated[list[ChatMessage], Field(fail_fast=True)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.text is None) == (self.messages is None):
            raise ValueError("text: give it or messages, one of them")
        return self


class DetokenizeRequest(Body):
    """`/detokenize`."""

    model: str = ""
    tokens: Tokens
