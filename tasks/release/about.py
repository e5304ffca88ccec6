"""What the stage release says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.store.artifacts import Artifact
from tasks.engine.about import About, Figures, not_about_documents, settings
from tasks.initial.foreseen import foreseen_shape

EXAMPLE_PROMPTS = {"docstrings": "delete_user(user_id)"}  # by form; of others nobody knows what the model can answer


def _check_formats(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises ConfigError where a format is named that the model cannot have, or whose packages are missing."""
    if recipe.release.formats is None or "tokenizer" not in inputs:
        return
    from tasks.release.formats import chosen_formats
    from tasks.tokenize.tokenizer import load_tokenizer, vocabulary_size

    folder = inputs["tokenizer"]["tokenizer"].path
    shape = foreseen_shape(recipe, vocabulary_size(load_tokenizer(folder)))
    if shape is not None:
        chosen_formats(recipe.release, shape, folder)


def _at_end(artifact: Artifact, summary: Figures) -> list[tuple[str, str]]:
    prompt = EXAMPLE_PROMPTS.get(summary.get("prompt_form", ""), "PROMPT")
    return [("release", str(artifact["release"].path)), ("try", f'llmill generate "{prompt}"')]


RELEASE = About(
    work=None,
    checks=(_check_formats,),
    compared=settings("name", "beams"),
    headline={"parameters": "parameters"},
    at_end=_at_end,
    explain=not_about_documents,
)
