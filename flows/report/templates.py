"""The templates of the pages, compiled once, with what they may call, and the style that they share."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from flows.report import charts
from flows.report.wording import baseline_name, rough, score_figure
from storage.addresses import redacted
from tasks.evaluate.score import MODEL_NAMES
from tasks.wording import amount, as_per_cent, duration, figure

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent


@cache
def template(name: str) -> "jinja2.Template":
    """A template by its path in this folder; all is escaped. Compiling the report takes half a second."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "duration": duration, "amount": amount, "per_cent": as_per_cent}
    environment.filters |= {"rough": rough, "score": score_figure, "baseline": baseline_name, "redacted": redacted}
    environment.filters |= {"yaml": lambda value: yaml.safe_dump(value, allow_unicode=True, width=100)}
    environment.globals |= {"stacked_bar": charts.stacked_bar, "sign": charts.sign, "models": MODEL_NAMES}
    return environment.get_template(name)


def style() -> dict[str, str]:
    """The style sheet, and its hash for the content security policy: no other style, and no script at all, may run."""
    text = (FOLDER / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"style": text, "style_hash": f"sha256-{digest}"}
