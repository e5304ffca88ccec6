"""Stage teacher: a model whose scores another one learns from, taken over as an initial model is (stage.py).

Comes in: what the stage initial takes. Goes out: `model` and `tokenizer`. Where the recipe starts from no open model
the tokenizer is that of the run: a student must have its teacher's, and one that was learned anew would be another.
"""

from tasks.engine.context import Context, Summary
from tasks.engine.stage import stage
from tasks.initial.config import ImportConfig
from tasks.initial.observe import observe_initial
from tasks.initial.stage import take_model


@stage(
    "teacher",
    parts=("model", "tokenizer"),
    observe=observe_initial,
    libraries=("torch", "tokenizers"),
    about="tasks.initial.about.TEACHER",
)
def take_teacher(config: ImportConfig, *, context: Context) -> Summary:
    """Take the model over that another one learns from. Summary: as of an initial model."""
    return take_model(config, context)


take_tutor = take_teacher.named("tutor")  # the teacher of fine-tuning
take_rewriter = take_teacher.named("rewriter")  # who puts documents into other words
