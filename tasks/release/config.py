"""What a recipe can say about a release."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tasks.answer.prompt_form import PromptForm
from tasks.answer.release import MAX_BEAMS
from tasks.engine.config import StageConfig

Format = Literal["gguf-f16", "gguf-q8_0", "int8", "onnx"]


def _once_each(formats: tuple[Format, ...] | None) -> tuple[Format, ...] | None:
    if formats is not None and len(set(formats)) != len(formats):
        raise ValueError("names a format twice")
    return formats


class ReleaseConfig(StageConfig):
    """Name, words, samples and file formats of a release."""

    name: str = Field(
        "llmill-model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$", description="Name of the model, also in MLflow."
    )
    description: str = Field("", max_length=2_000, description="What the model is, in a sentence or two, for its card.")
    license: str = Field(
        "other",
        pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$",
        description="Licence of the weights, as the Hugging Face hub names it.",
    )
    samples: int = Field(6, ge=0, le=16, description="Held-out prompts that the model answers on its card.")
    max_new_tokens: int = Field(
        48, ge=1, le=1 << 14, description="Most tokens of a sample, and of an answer by default."
    )
    beams: int = Field(
        1, ge=1, le=MAX_BEAMS, description="Beams of the search for the likeliest answer, by default; 1: greedy."
    )
    no_repeat: int = Field(
        0, ge=0, le=64, description="Tokens in a row that a searched answer never says twice; 0: it may."
    )
    prompt_form: PromptForm | None = Field(
        None,
        description="How the model is asked: docstrings (declarations are put into words), chat, or plain (the text "
        "goes on); empty: docstrings where all pairs are made of docstrings, else chat.",
    )
    formats: Annotated[tuple[Format, ...] | None, AfterValidator(_once_each)] = Field(
        None,
        description="Files beside the safetensors: GGUF for llama.cpp, int8 for CPUs, ONNX (takes half a minute); "
        "empty: GGUF and int8, as far as the model can have them.",
    )
    loss_bytes: int = Field(
        20_000, ge=1_000, le=10**9, description="Bytes of held-out text on which the loss of each format is measured."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where loss is measured; auto: a GPU if there.")
