"""The settings of learning from a teacher: its scores are soft targets beside the text (model/distillation.py)."""

from typing import TYPE_CHECKING, Any

from pydantic import Field

from storage.canonical import digest_of
from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from tasks.engine.config import StageConfig

if TYPE_CHECKING:
    from model.job import SoftTargets


class TeacherConfig(StageConfig):
    """How much of the loss the teacher has, at which temperature, and whether it is the model's own earlier self."""

    weight: float = Field(0.5, gt=0, le=1, description="Share of the soft targets in the loss; the text has the rest.")
    temperature: float = Field(
        2.0, ge=0.1, le=100, description="What both models' scores are divided by: more shows less likely tokens more."
    )
    earlier_self: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the steps after which the own weights of that moment are the teacher; not with a model.",
    )

    @property
    def soft_targets(self) -> "SoftTargets":
        """What the trainer takes."""
        from model.job import SoftTargets

        return SoftTargets(self.weight, self.temperature, self.earlier_self)


def taught(config: TeacherConfig | None, teacher: Artifact | None, data_digest: str) -> dict[str, Any]:
    """The fields of a job that learns from a teacher, of which the digest of its data is one.

    `teacher` is the artifact of another model; none for an earlier self.
    """
    if config is None:
        return {"data_digest": data_digest}
    if config.earlier_self is None and teacher is None:
        raise ConfigError("teacher: there is no model to learn from; give its path, or earlier_self")
    fields: dict[str, Any] = {"soft_targets": config.soft_targets, "data_digest": data_digest}
    if teacher is not None:
        weights = teacher["model"]
        fields |= {"teacher": str(weights.path), "data_digest": digest_of([weights.digest, data_digest])}
    return fields


def check_vocabularies(teacher: Artifact | None, student: Artifact | None) -> None:
    """Raise ConfigError unless the tokenizers of both give each token the same id; nothing where one is not there."""
    from tasks.tokenize.tokenizer import load_tokenizer

    if teacher is None or student is None or teacher["tokenizer"].digest == student["tokenizer"].digest:
        return
    theirs, ours = (load_tokenizer(one["tokenizer"].path).get_vocab() for one in (teacher, student))
    if theirs == ours:
        return
    shared = len(theirs.items() & ours.items())
    raise ConfigError(
        f"teacher: it has a vocabulary of {len(theirs):,} tokens, and the model that learns from it one of "
        f"{len(ours):,}, of which {shared:,} are the same: scores over other tokens teach nothing. Take a teacher with "
        "the tokenizer of that model, or start from a model with the teacher's"
    )
