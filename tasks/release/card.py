"""The model card: every figure on it is one that was measured, beside its interval and its baselines.

It names what the release was made from by digest, which leads to the build records; what those say of times and
machines would make equal releases unequal.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.shape import Shape
from storage.store.artifacts import Artifact
from tasks.evaluate.score import Score
from tasks.release.adapters import Adapters
from tasks.release.config import ReleaseConfig
from tasks.wording import amount, figure, signed

INITIAL = "initial"  # in training.json: where an open model came from
TEMPLATE = Path(__file__).resolve().parent / "model_card.md.jinja"


def model_card(
    config: ReleaseConfig,
    shape: Shape,
    training: list[dict[str, Any]],
    scores: Sequence[Score],
    corpus: dict[str, dict[str, Any]],
    samples: list[dict[str, str]],
    formats: list[dict[str, Any]],
    adapters: Adapters,
    made_from: Sequence[Artifact],
) -> str:
    """README.md of a release, Markdown with the hub's YAML header."""
    import jinja2
    import jinja2.sandbox

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"figure": measured, "cell": cell, "fenced": fenced, "amount": amount, "signed": signed}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        config=config,
        shape=shape,
        origin=next((phase for phase in training if phase["stage"] == INITIAL), None),
        training=[phase for phase in training if phase["stage"] != INITIAL],
        scores=scores,
        corpus=corpus,
        samples=samples,
        formats=formats,
        adapters=adapters,
        made_from=made_from,
        below=[score for score in scores if score.below_baseline],
    )


def measured(value: float | None) -> str:
    """A figure of a table; a dash where nothing was measured."""
    return "–" if value is None else figure(value)


def cell(text: str) -> str:
    """Text that cannot break out of a table cell or a line."""
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").strip()


def fenced(text: str) -> str:
    """Text as a code block whose fence is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"
