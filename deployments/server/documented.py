"""What replies look like, for `/openapi.json`: each field that a reply has, and none that it may lack.

Replies are not made by these models, which would cost a copy of each: tests hold every reply against them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]
Ending = Literal["stop", "length", "content_filter"]
LogProbability = Annotated[float, Field(le=0)]
EVENT_STREAM = "text/event-stream"


class Reply(BaseModel):
    """A reply in which nothing stands that is not said here."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ErrorFields(Reply):
    """What is wrong. `param` is the field of the request, where one is at fault."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
    ]
    param: str | None
    code: str


class ErrorReply(Reply):
    """An error."""

    error: ErrorFields


class CachedTokens(Reply):
    """Of the tokens of the prompt, those that were read before."""

    cached_tokens: Count


class Usage(Reply):
    """Tokens of a request."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: CachedTokens


class Named(Reply):
    """A token; its bytes where half a character is no text."""

    token: str
    bytes: list[Annotated[int, Field(ge=0, le=255)]]
    logprob: LogProbability


class ChatToken(Named):
    """A token that was made, with the likeliest ones in its place."""

    top_logprobs: Annotated[list[Named], Field(max_length=20)]


class ChatLogProbabilities(Reply):
    """Of a chat's tokens."""

    content: list[ChatToken]


class TextLogProbabilities(Reply):
    """Of a text's tokens; `text_offset` is the place of each one's character in the answer."""

    tokens: list[str]
    token_logprobs: list[LogProbability]
    top_logprobs: list[dict[str, LogProbability]]
    text_offset: list[Count]


class Head(Reply):
    """What replies begin with. `system_fingerprint` is the start of the model's digest."""

    id: str
    created: Count
    model: str
    system_fingerprint: Annotated[str, Field(min_length=16, max_length=16)]


class Message(Reply):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Reply):
    """One answer."""

    index: Count
    message: Message
    logprobs: ChatLogProbabilities | None
    finish_reason: Ending


class ChatReply(Head):
    """`/v1/chat/completions`."""

    object: Literal["chat.completion"]
    choices: Annotated[list[ChatChoice], Field(min_length=1)]
    usage: Usage


class Delta(Reply):
    """What a piece adds."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatPiece(Reply):
    """A piece of one answer."""

    index: Count
    delta: Delta
    logprobs: ChatLogProbabilities | None
    finish_reason: Ending | None


class ChatChunk(Head):
    """An event of a stream of `/v1/chat/completions`; the last may have no choices but the usage."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatPiece]
    usage: Usage | None = None


class TextChoice(Reply):
    """One text."""

    index: Count
    text: str
    logprobs: TextLogProbabilities | None
    finish_reason: Ending


class TextReply(Head):
    """`/v1/completions`."""

    object: Literal["text_completion"]
    choices: Annotated[list[TextChoice], Field(min_length=1)]
    usage: Usage


class TextPiece(TextChoice):
    """A piece of one text."""

    finish_reason: Ending | None  # type: ignore[assignment]


class TextChunk(Head):
    """An event of a stream of `/v1/completions`; the last may have no choices but the usage."""

    object: Literal["text_completion"]
    choices: list[TextPiece]
    usage: Usage | None = None


class EmbeddingUsage(Reply):
    """Tokens of texts."""

    prompt_tokens: Count
    total_tokens: Count


class Embedding(Reply):
    """Of one text: numbers, or base64 of float32."""

    object: Literal["embedding"]
    index: Count
    embedding: list[float] | str


class EmbeddingReply(Reply):
    """`/v1/embeddings`."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ModelReply(Reply):
    """A model that is served; one with an adapter names its `parent`, beside which the adapter stands."""

    id: str
    object: Literal["model"]
    created: Count
    owned_by: str
    parent: str | None
    digest: str
    context_length: Count
    memory_bytes: Count


class ModelsReply(Reply):
    """`/v1/models`."""

    object: Literal["list"]
    data: list[ModelReply]


class TokensReply(Reply):
    """`/tokenize`."""

    tokens: list[Count]
    count: Count
    max_model_len: Count


class DetokenizeReply(Reply):
    """`/detokenize`."""

    text: str


class KeptReply(Reply):
    """`/v1/feedback` and `/v1/votes`: the number of the record."""

    object: Literal["feedback", "vote"]
    id: int


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request cannot be carried out: its code says why"},
    "5XX": {"model": ErrorReply, "description": "The server cannot carry it out now"},
}


class Judged(Reply):
    """What is to be said of one text, by category."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, Annotated[float, Field(ge=0, le=1)]]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationReply(Reply):
    """What is to be said of texts, in their order."""

    id: str
    model: str
    results: list[Judged]


def answered(model: type[Reply], *, streams: bool = False) -> dict[int | str, dict[str, Any]]:
    """A route's reply, for FastAPI's `responses`; with `streams` also as events."""
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    events = {EVENT_STREAM: {"schema": event}} if streams else {}
    return {200: {"model": model, "description": "The reply", "content": events}}


def plain(status: int = 200) -> dict[int | str, dict[str, Any]]:
    """A reply in plain text, for FastAPI's `responses`."""
    return {status: {"description": "In words", "content": {"text/plain": {"schema": {"type": "string"}}}}}
