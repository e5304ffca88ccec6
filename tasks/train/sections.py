"""The sections `pretrain` and `finetune` of a recipe: the settings of their stages, and the models to start
and to learn from.

Which models these are belongs to the stages initial and teacher: others with the same contents train nothing again.
"""

from typing import Any

from pydantic import Field

from tasks.engine.config import StageConfig
from tasks.initial.config import ImportConfig, InitialConfig
from tasks.train.finetune import FinetuneConfig
from tasks.train.pretrain import PretrainConfig
from tasks.train.teacher import TeacherConfig


class TeacherSection(InitialConfig, TeacherConfig):
    """The model to learn from, in the form of an open model, or the model's own earlier self; and how much of it."""

    def check_place(self) -> None:
        if self.earlier_self is None and not (self.path or self.model):
            raise ValueError("give path (a folder), model and revision (of the hub), or earlier_self: one of them")
        if self.earlier_self is None:
            super().check_place()
        elif self.path or self.model or self.revision or self.adapter:
            raise ValueError(
                "earlier_self: the model's own weights are the teacher; leave out path, model, revision and adapter"
            )

    @property
    def settings(self) -> TeacherConfig:
        """Without the place of the model: another one with the same contents trains nothing again."""
        return TeacherConfig(**_own(self, TeacherConfig))


class PretrainSection(PretrainConfig):
    """Pretraining, the open model that it goes on from, and the one that it learns from."""

    initial: InitialConfig | None = Field(
        None, title="Initial model", description="Open model whose pretraining goes on; null: random weights."
    )

    teacher: TeacherSection | None = Field(
        None, title="Teacher", description="Model whose scores are soft targets beside the text; null: the text alone."
    )

    @property
    def other_teacher(self) -> ImportConfig | None:
        """The config of the stage that takes the teacher over, where that is another model."""
        return _other(self.teacher, "pretrain.teacher")

    @property
    def decides_shape(self) -> bool:
        """Only the recipe knows: fine-tuning can bring a model too."""
        return False

    @property
    def training(self) -> PretrainConfig:
        """The config of the stage pretrain; its fields are checked already, by the recipe."""
        return PretrainConfig.model_construct(**_own(self, PretrainConfig) | _settings(self.teacher))


class FinetuneSection(FinetuneConfig):
    """Fine-tuning, the open model that it starts from, and the one that it learns from."""

    initial: InitialConfig | None = Field(
        None, title="Initial model", description="Open model that is fine-tuned, without pretraining; null: our own."
    )

    teacher: TeacherSection | None = Field(
        None, title="Teacher", description="Model whose scores are soft targets beside the answers; null: none."
    )

    @property
    def other_teacher(self) -> ImportConfig | None:
        """The config of the stage that takes the teacher over, where that is another model."""
        return _other(self.teacher, "finetune.teacher")

    @property
    def training(self) -> FinetuneConfig:
        """The config of the stage finetune."""
        return FinetuneConfig(**_own(self, FinetuneConfig) | _settings(self.teacher))


def _own(section: StageConfig, config: type[StageConfig]) -> dict[str, Any]:
    return {name: getattr(section, name) for name in config.model_fields}


def _settings(teacher: TeacherSection | None) -> dict[str, Any]:
    return {"teacher": teacher.settings if teacher else None}


def _other(teacher: TeacherSection | None, field: str) -> ImportConfig | None:
    return teacher.importing(field) if teacher and teacher.earlier_self is None else None
