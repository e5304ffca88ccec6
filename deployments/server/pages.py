"""The page at `/`: a conversation in a browser, from files of this folder alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.responses import Response

from deployments.server.served import Served
from tasks.answer.prompt_form import PromptForm

if TYPE_CHECKING:
    from deployments.server.app import Server

FOLDER = Path(__file__).with_name("page")
SCRIPT = "text/javascript; charset=utf-8"
SCRIPTS = ("page", "api", "feedback", "beside")
FILES = {"/page.css": "text/css; charset=utf-8", **{f"/{name}.js": SCRIPT for name in SCRIPTS}}
OPEN = ("/", *FILES)  # ask for no key: without them nobody could enter one
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
WORDS: dict[PromptForm, dict[str, str]] = {  # what a model is for, by the form of its prompts
    "docstrings": {
        "purpose": "Writes the summary of a function or class from its declaration. Each one stands alone.",
        "label": "A declaration",
        "example": "def add_edge(graph, source, target)",
        "log": "Declarations and their summaries",
    },
    "chat": {
        "purpose": "Answers what you ask; it may be wrong.",
        "label": "Your message",
        "example": "What is a tokenizer?",
        "log": "The conversation",
    },
    "plain": {
        "purpose": "Goes on with a text; it was not taught to answer.",
        "label": "The beginning of a text",
        "example": "The river was quiet, and",
        "log": "Texts and how they go on",
    },
}


def add_page(app: FastAPI, server: "Server") -> None:
    """The page and its files."""

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        html = page_html(server.served, server.beside, server.accounts.asks)
        return Response(html, media_type="text/html; charset=utf-8", headers=HEADERS)

    for path, kind in FILES.items():
        app.add_api_route(path, _file(path, kind), include_in_schema=False)


def _file(path: str, kind: str) -> Callable[[], Response]:
    content = (FOLDER / path.removeprefix("/")).read_bytes()
    return lambda: Response(content, media_type=kind, headers=HEADERS)


def examples_of(served: Served) -> list[str]:
    """What somebody may ask a model at first: what its card shows. A declaration as code has it comes first, since the
    card has them in words."""
    form = served.settings.prompt_form
    usual = WORDS[form]["example"]
    return [usual, *served.examples] if form == "docstrings" else [*served.examples] or [usual]


def page_html(served: Served, beside: Served | None, keys: bool) -> str:
    """The page of a model, and of one that it may be compared with; `keys` says whether one is asked for.

    Two models are compared only where both take their prompts in one form.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string((FOLDER / "page.html").read_text(encoding="utf-8"))
    form = served.settings.prompt_form
    other = beside.name if beside is not None and beside.settings.prompt_form == form else ""
    examples = examples_of(served)
    shown = {"example": examples[0], "examples": json.dumps(examples)}
    facts = {"name": served.name, "beside": other, "form": form, "context": served.context_length, "keys": keys}
    return template.render(**WORDS[form] | shown, **facts)
