"""What a server allows: numbers that keep one user from taking all, and the machine from being filled."""

from pydantic import BaseModel, ConfigDict, Field


class ServerSettings(BaseModel):
    """Limits of one server. A request beyond one of them is refused with the number in the message."""

    model_config = ConfigDict(extra="forbid")

    rows: int = Field(32, ge=1, le=1024, description="Requests that are answered at once.")
    max_waiting: int = Field(128, ge=1, le=100_000, description="Requests that may wait for a row; one more gets 429.")
    cache_bytes: int = Field(
        2 << 30, ge=1 << 20, le=1 << 42, description="Memory for what is read, in bytes; long contexts get fewer rows."
    )
    max_adapters: int = Field(16, ge=1, le=1024, description="Adapters that may stand beside the model.")
    max_answers_per_key: int = Field(16, ge=1, le=1024, description="Answers that one key may have under way at once.")
    body_seconds: float = Field(30, gt=0, le=3600, description="Seconds for a request's head, or its body, to arrive.")
    send_seconds: float = Field(30, gt=0, le=3600, description="Seconds for a client to take a piece of an answer.")
    max_connections: int = Field(512, ge=1, le=100_000, description="Open connections; one more gets 503.")
    request_seconds: float = Field(300, gt=0, le=86_400, description="Seconds after which a request is ended.")
    stop_seconds: float = Field(
        30, ge=0, le=3600, description="Seconds that requests get to end when the server stops."
    )
    stuck_seconds: float = Field(60, gt=0, le=3600, description="Seconds without a token, while busy, until not ready.")
    max_body_bytes: int = Field(1 << 20, ge=1024, le=1 << 30, description="Bytes of a request's body.")
    max_messages: int = Field(1000, ge=1, le=100_000, description="Messages of a conversation.")
    max_choices: int = Field(16, ge=1, le=1024, description="Answers to one request (`n`), over all its prompts.")
    max_texts: int = Field(64, ge=1, le=10_000, description="Texts of one request for embeddings.")
    look_seconds: float = Field(5, gt=0, le=3600, description="Seconds between two looks for another champion.")
    remembered_replies: int = Field(
        10_000, ge=0, le=10_000_000, description="Replies kept in memory, so that feedback can name them."
    )
    remembered_bytes: int = Field(64 << 20, ge=0, le=1 << 40, description="Memory for those replies, in bytes.")
    remembered_seconds: float = Field(
        3600, gt=0, le=604_800, description="Seconds after which a reply is forgotten, whatever is said of it then."
    )
    max_correction_characters: int = Field(20_000, ge=1, le=1 << 20, description="Characters of a correction.")
    max_records_per_reply: int = Field(16, ge=1, le=10_000, description="How often something is kept of one reply.")
    retry_seconds: float = Field(
        30,
        gt=0,
        le=3600,
        description="Seconds until a champion that could not be loaded is tried again; twice as long each time.",
    )
