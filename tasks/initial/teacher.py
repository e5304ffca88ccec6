"""Stage teacher: a model whose scores another one learns from, taken over as an initial model is (stage.py).

Comes in: what the stage initial takes, and the tokenizer of the model that learns where that is known already. Goes
out: `model` and `tokenizer`. Where the recipe starts from no open model the tokenizer is that of the run: a student
must have its teacher's, and one that was learned anew would be another.
"""

from pathlib import Path

from storage.errors import ConfigError
from storage.store.artifacts import Artifact
from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.initial.config import ImportConfig
from tasks.initial.observe import observe_initial
from tasks.initial.stage import take_model
from tasks.tokenize.tokenizer import load_tokenizer


@stage(
    "teacher",
    parts=("model", "tokenizer"),
    reads={"student": ("tokenizer",)},
    optional=("student",),
    observe=observe_initial,
    libraries=("torch", "tokenizers"),
    about="tasks.initial.about.TEACHER",
)
def take_teacher(config: ImportConfig, student: Artifact | None = None, *, context: Context) -> Summary:
    """Take the model over that another one learns from. Summary: as of an initial model."""
    summary = take_model(config, context)
    if student is not None:
        check_vocabularies(config.where, context.part("tokenizer"), student["tokenizer"].path)
    return summary


def check_vocabularies(teacher: str, theirs: Path, ours: Path) -> None:
    """Raise ConfigError unless two tokenizers give each token the same id; `teacher` is what messages call theirs."""
    vocabularies = [load_tokenizer(folder).get_vocab() for folder in (theirs, ours)]
    if vocabularies[0] == vocabularies[1]:
        return
    shared = len(vocabularies[0].items() & vocabularies[1].items())
    raise ConfigError(
        f"teacher: {teacher} has a vocabulary of {len(vocabularies[0]):,} tokens, and the model that learns from it "
        f"one of {len(vocabularies[1]):,}, of which {shared:,} are the same: scores over other tokens teach nothing. "
        "Take a teacher with the tokenizer of that model, or start from a model with the teacher's"
    )


finetune_teacher = take_teacher.named("finetune_teacher")
