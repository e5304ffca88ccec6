"""What the stages initial and teacher say about themselves."""

from pathlib import Path
from typing import Any

from tasks.answer.template_form import find_template
from tasks.engine.about import About, not_about_documents
from tasks.initial.files import known_shape
from tasks.wording import amount, figure


def _notices(recipe: Any, will: str) -> list[str]:
    """Which model a run starts from, as far as it was seen without reading the weights."""
    config = recipe.importing
    added = f", with the adapter {config.adapter}" if config.adapter else ""
    if config.path is None:
        return [f"initial: {config.model} of the hub, at commit {config.revision[:12]}{added}"]
    shape = known_shape(Path(config.path))
    config.check_kind(shape)
    template = find_template(Path(config.path))
    chat = f"chat template in {template.place.name}" if template else "no chat template"
    return [
        f"initial: {shape.family} of {amount(shape.parameters)} parameters, vocabulary of "
        f"{figure(shape.vocabulary_size)}, context of {figure(shape.context_length)}, {chat}: {config.path}{added}"
    ]


def _compared(config: Any) -> dict[str, Any]:
    adapter = {"adapter": Path(config.adapter).name} if config.adapter else {}
    return {"model": config.model or Path(str(config.path)).name, **adapter}


INITIAL = About(
    title="Initial model",
    work=None,
    notices=_notices,
    compared=_compared,
    headline={"parameters": "parameters"},
    explain=not_about_documents,
)
TEACHER = About(title="Teacher", work=None, compared=_compared, explain=not_about_documents)
