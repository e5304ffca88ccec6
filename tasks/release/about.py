"""What the stage release says about itself."""

from collections.abc import Mapping
from typing import Any

from storage.store.artifacts import Artifact
from tasks.engine.about import About, Figures, not_about_documents, settings

EXAMPLE_PROMPTS = {"docstrings": "delete_user(user_id)"}  # by form; of others nobody knows what the model can answer


def _check_onnx(recipe: Any, inputs: Mapping[str, Artifact]) -> None:
    """Raises ConfigError where ONNX is wanted and its packages are missing, or the model is too large for it."""
    if "onnx" not in recipe.release.formats or "tokenizer" not in inputs:
        return
    from tasks.release.onnx import check_onnx
    from tasks.tokenize.tokenizer import load_tokenizer

    vocabulary = load_tokenizer(inputs["tokenizer"]["tokenizer"].path).get_vocab_size()
    check_onnx(recipe.pretrain.shape(vocabulary).parameters)


def _at_end(artifact: Artifact, summary: Figures) -> list[tuple[str, str]]:
    prompt = EXAMPLE_PROMPTS.get(summary.get("prompt_form", ""), "PROMPT")
    return [("release", str(artifact["release"].path)), ("try", f'llmill generate "{prompt}"')]


RELEASE = About(
    work=None,
    checks=(_check_onnx,),
    compared=settings("name", "beams"),
    headline={"parameters": "parameters"},
    at_end=_at_end,
    explain=not_about_documents,
)
