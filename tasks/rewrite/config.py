"""What the stage rewrite is told: which documents, by whom, in which words, and how much it may cost."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from tasks.augment.config import Kind
from tasks.initial.config import ImportConfig, InitialConfig

PLACE = "{text}"  # in the prompt: where the document stands
WAVE = 32  # documents that are asked for before the budget is looked at again
NOT_IDENTITY = ("address", "at_once", "timeout_seconds", "attempts", "teacher", "instead")  # they change no answer


class Rewrite(Kind):
    """Documents in the words of another model: a release or an open model, or a server that speaks OpenAI's API."""

    address: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="A server with OpenAI's API, such as http://127.0.0.1:8000/v1, up to what stands before "
        "/chat/completions; its key: LLMILL_TEACHER_KEY.",
    )
    model: str = Field("", max_length=200, description="What the server at the address calls its model.")
    teacher: InitialConfig | None = Field(
        None, title="Teacher", description="A release or an open model that is asked on this machine; not with address."
    )
    prompt: str = Field(
        "Say this text in other words, with its meaning, in its language, at its length: {text}",
        max_length=20_000,
        description="What the model is asked; {text} stands for the document.",
    )
    temperature: float = Field(0.7, ge=0, le=2, description="How freely words are chosen; 0: the likeliest.")
    most_answer_tokens: int = Field(512, ge=1, le=1 << 17, description="Tokens of an answer, at most.")
    most_characters: int = Field(
        4000, ge=1, le=1 << 20, description="Characters of a document that is asked for, at most."
    )
    most_apart: float = Field(
        5.0, gt=1, le=1000, description="An answer that is so many times shorter or longer than its source is left out."
    )
    most_requests: int = Field(1000, ge=1, le=10_000_000, description="Documents that are asked for, at most.")
    most_tokens: int = Field(
        1_000_000, ge=1, le=10**12, description="Tokens of prompts and answers together, at most; known ones count."
    )
    at_once: int = Field(4, ge=1, le=WAVE, description="Requests that are under way at a time.")
    timeout_seconds: float = Field(120.0, ge=0.1, le=3600, description="How long an answer may take.")
    attempts: int = Field(4, ge=1, le=20, description="How often a busy or silent server is asked for one answer.")

    @field_validator("address", mode="before")
    @classmethod
    def _holds_no_key(cls, address: Any) -> Any:
        if isinstance(address, str) and any(mark in address for mark in "@?#"):
            raise ValueError(
                "write it without user, query and fragment (@, ?, #): a key is given in LLMILL_TEACHER_KEY"
            )
        return address

    @model_validator(mode="after")
    def _asks_somebody(self) -> Self:
        if bool(self.address) == bool(self.teacher):
            raise ValueError("give address and model (a server), or teacher (a release or an open model): one of them")
        if self.address and not self.model:
            raise ValueError("model: what does the server at the address call its model?")
        if PLACE not in self.prompt:
            raise ValueError(f"prompt: it needs {PLACE}, where the document stands")
        return self


class RewriteConfig(Rewrite):
    """The config of the stage."""

    seed: int = Field(1337, ge=0, le=2**32 - 1, description="Seed of what is chosen.")

    def identity(self) -> dict[str, Any]:
        """Without what changes no answer: the place of the server, and how it is asked. Of a teacher the artifact
        counts."""
        return {name: value for name, value in super().identity().items() if name not in NOT_IDENTITY}

    @property
    def importing(self) -> ImportConfig | None:
        """The config of the stage that takes the teacher over."""
        return self.teacher.importing("augment.rewrite.teacher") if self.teacher else None
