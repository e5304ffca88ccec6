"""Which open model a recipe starts from."""

import re
from typing import Any, Self

from pydantic import Field, model_validator

from model.shape import Shape
from storage.errors import ConfigError
from tasks.engine.config import LOCATION, StageConfig

_ADDRESS = re.compile(r"(?:hf:/{0,2}|(?:[a-z][a-z0-9+.-]*:)?//|(?:www\.)?(?:huggingface\.co|hf\.co)/)", re.IGNORECASE)
_ON_HUB = re.compile(r"(?:hf:/{0,2}|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)([\w.-]+/[\w.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


class InitialConfig(StageConfig):
    """An open model in Hugging Face's form: a folder, or a name of the hub at a commit.

    A token, where one is needed, is that of the environment (HF_TOKEN); a recipe holds none.
    """

    path: str | None = Field(
        None,
        json_schema_extra=LOCATION,
        description="Folder with config.json, safetensors and tokenizer.json; not with model.",
    )
    model: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,95}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})?)?$",
        description="Model of the Hugging Face hub, as its page names it: OWNER/NAME; not with path.",
    )
    revision: str = Field("", description="Commit of that model, 40 hexadecimal digits: its page has it under History.")
    adapter: str | None = Field(
        None,
        min_length=1,
        json_schema_extra=LOCATION,
        description="Folder of a LoRA adapter in PEFT's form, trained on that model: it is added to the weights.",
    )
    max_bytes: int = Field(2**36, ge=1, le=2**44, description="Most bytes of weights that are fetched from the hub.")

    @model_validator(mode="before")
    @classmethod
    def _written_rightly(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        for name, value in values.items():
            if "token" in str(name).lower() or (isinstance(value, str) and _TOKEN.search(value)):
                raise ValueError("a recipe holds no token: take it out, and set HF_TOKEN in the environment")
            if name in ("path", "model", "adapter") and isinstance(value, str) and _ADDRESS.match(value):
                found = _ON_HUB.match(value) if name != "adapter" else None
                write = f"write model: {found[1]} and its commit as revision" if found else "download it first"
                raise ValueError(f"{name}: {value} is an address: {write}")
        return values

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        self.check_place()
        return self

    def check_place(self) -> None:
        """Raise ValueError unless it is said in one way where the model is."""
        if bool(self.path) == bool(self.model):
            raise ValueError("give path (a folder) or model and revision (of the hub): one of them")
        if self.path and self.revision:
            raise ValueError("revision goes with model: a folder is known by its contents")
        if self.model and not _COMMIT.fullmatch(self.revision):
            given = f"{self.revision!r} may mean another model tomorrow" if self.revision else "it is missing"
            raise ValueError(f"revision: {given}: give the commit, 40 hexadecimal digits")

    def importing(self, field: str, context_length: int | None = None, *, encoder: bool = False) -> "ImportConfig":
        """The config of the stage that takes it over; `field` of the recipe names it."""
        own = {name: getattr(self, name) for name in InitialConfig.model_fields}
        return ImportConfig(**own, field=field, context_length=context_length, encoder=encoder)

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.path or f"{self.model}@{self.revision[:8]}"


class ImportConfig(InitialConfig):
    """The open model as it is taken over."""

    context_length: int | None = Field(
        None, ge=8, description="Tokens that it is to see at once, where that is fewer than it can; null: all."
    )

    encoder: bool = Field(False, description="Whether it is to fill in hidden words, and not to write.")

    field: str = Field("initial", description="Field of the recipe that names it, for messages.")

    def identity(self) -> dict[str, Any]:
        """Without the field: a model that teaches pretraining and fine-tuning is taken over once."""
        return {name: value for name, value in super().identity().items() if name != "field"}

    def check_kind(self, shape: Shape) -> None:
        """Raise ConfigError for a model of this shape that learns another way than the recipe asks for."""
        if self.encoder and shape.parts.causal:
            raise ConfigError(
                f"{self.field}: {self.where} is a {shape.family} model, in which no token sees those after it: hidden "
                "words are filled in by an encoder (eurobert). Set pretrain.objective=next_token, or start from an "
                "encoder"
            )
        if not self.encoder and not shape.parts.causal:
            teaches = self.field.endswith(".teacher")
            instead = (
                "take a teacher" if teaches else "set pretrain.objective=masked_words for it, or start from a model"
            )
            raise ConfigError(
                f"{self.field}: {self.where} is an encoder ({shape.family}), which fills in hidden words and cannot "
                f"write: {instead} that writes"
            )

    def shortened(self, context_length: int) -> int:
        """The context that a model with this one is taken over with."""
        return min(context_length, self.context_length or context_length)
