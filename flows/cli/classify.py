"""`llmill classify`: of what class texts are, by the newest classifier."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.cli.options import add_json_option, between, home_store
from storage.errors import DataError
from storage.files import is_utf8
from tasks.wording import clipped

MAX_LINE_BYTES = 1 << 20
TEXTS_AT_ONCE = 256
_TEXT_COLUMNS = 50


def add_commands(commands: Any) -> None:
    """Declare the command of this module."""
    classify = commands.add_parser("classify", help="of what class a text is, by the newest classifier")
    classify.add_argument("texts", nargs="+", metavar="TEXT", help="a text; - takes each line of stdin for one")
    classify.add_argument(
        "--model", metavar="REF", default="latest/classify", help="default: latest/classify; or a classifier's folder"
    )
    classify.add_argument("--threads", type=between(1, 1024, int), default=1, help="CPU threads; default: 1")
    add_json_option(classify)
    classify.set_defaults(command=_classify)


def _classify(options: argparse.Namespace) -> int:
    from tasks.classify.answer import open_classifier

    for text in options.texts:
        if not is_utf8(text):
            raise DataError("a text on the command line is not UTF-8; give it on stdin in UTF-8, with -")
    classifier = open_classifier(_folder(options), options.threads)
    batch: list[str] = []
    for text in _texts(options.texts):
        batch.append(text)
        if len(batch) == TEXTS_AT_ONCE:
            _show(classifier, batch, options.json)
            batch = []
    _show(classifier, batch, options.json)
    return 0


def _show(classifier: Any, texts: list[str], as_json: bool) -> None:
    for text, found in zip(texts, classifier(texts), strict=True):
        if as_json:
            print(json.dumps({"text": text, **found}, ensure_ascii=False), flush=True)
        else:
            print(f"{found['label']}  {found['probability']:.4f}  {clipped(text, _TEXT_COLUMNS)}", flush=True)


def _texts(arguments: list[str]) -> Iterator[str]:
    """The texts themselves, and for `-` the lines of stdin."""
    for argument in arguments:
        if argument != "-":
            yield argument
            continue
        number = 0
        while line := sys.stdin.buffer.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"line {number} of stdin is longer than {MAX_LINE_BYTES:,} bytes")
            try:
                text = line.decode().removesuffix("\n")
            except UnicodeDecodeError as error:
                raise DataError(f"line {number} of stdin is not UTF-8 ({error})") from None
            if text.strip():
                yield text


def _folder(options: argparse.Namespace) -> Path:
    from flows.inspect.references import find_part

    folder = Path(options.model).expanduser()
    return folder if folder.is_dir() else find_part(home_store(), options.model, "model").path
