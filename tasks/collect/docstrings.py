"""The `docstrings` source: Python files -> a document of prose a module, and declaration -> summary pairs.

A document is the prose of all docstrings of one module, in order of the source. The unit was measured on four packages
by the share of the words that are in documents of 50 words and more, which is what quality filters ask for: 97 % with
modules, 85 % with classes (methods included), 48 % with single definitions, whose median is 15 words.

A pair is made of each function, method and class with a docstring: the prompt is its declaration in words
(`declarations.py`), the answer the first sentence. Private ones count too: they are half as many again, and with them a
model of 0.9M parameters reads its prompt better (held-out answers 1.661 instead of 1.675 bits per byte).
The syntax tree alone is read; nothing is imported.

Cost: about 5 MB of source a CPU-second, most of it in `ast.parse`.
"""

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pydantic import Field

from storage.documents import HELDOUT, TRAIN, Document, Pair, document_id
from storage.fingerprint import many_small_objects
from tasks.collect.config import STANDARD_LIBRARY
from tasks.collect.declarations import declaration_prompt
from tasks.collect.output import JobOutput, Splits
from tasks.collect.prose import first_sentence, plain_paragraphs, prose, reads_like_prose
from tasks.collect.records import BadRecord
from tasks.engine.config import StageConfig
from tasks.engine.context import Summary

SOURCE = "docstrings"
MIN_ANSWER_WORDS, MAX_ANSWER_WORDS = 3, 40
# A module with fewer docstrings than one in so much source is not worth the parsing: over five large packages, 26 % of
# the time for 9 % of the prose.
SPARSE_BYTES = 4096

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Documented = tuple[str, str]  # (prompt, docstring)


class DocstringsJob(StageConfig):
    """A slice of the modules of one package."""

    package: str = Field(description="Name of the package.")
    license: str = Field(description="Licence of the package.")
    heldout: bool = Field(description="The whole package is held out.")
    names: tuple[str, ...] = Field(description="Modules as `package/path`, in order; also the roles of the inputs.")
    splits: Splits = Field(description="What is held out of the standard library.")
    documents_per_shard: int = Field(description="Documents in a shard, at most.")


def read_docstrings(job: DocstringsJob, inputs: dict[str, Path], out: Path) -> Summary:
    """Read one slice. A module is `read`; without prose it is `dropped`."""
    seen: set[str] = set()  # paragraphs so far: inherited docstrings and sync/async twins repeat them word for word
    with JobOutput(out, SOURCE, job.documents_per_shard) as output, many_small_objects(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarnings of other people's files
        for name in job.names:
            output.counts["read"] += 1
            try:
                definitions = list(_documented(inputs[name].read_bytes()))
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                line = getattr(error, "lineno", None) or 1
                output.bad(name, BadRecord(line, f"not readable ({type(error).__name__})"))
                continue
            _read_module(job, name, definitions, seen, output)
    return output.summary()


def _read_module(
    job: DocstringsJob, name: str, definitions: list[_Documented], seen: set[str], output: JobOutput
) -> None:
    """Keep a module's document and pairs."""
    path = name.partition("/")[2]
    group = group_of(job.package, path)
    split = HELDOUT if job.heldout else TRAIN  # a package is held out by name alone: a draw could take torch
    if job.package == STANDARD_LIBRARY and split == TRAIN:
        split = job.splits.of(group)
    kept = []
    for prompt, docstring in definitions:
        plain = plain_paragraphs(docstring)
        for text in prose(plain):
            if text not in seen:
                seen.add(text)
                kept.append(text)
        if prompt and (answer := first_sentence(plain)) and _answers(answer):
            output.pair(Pair.of(prompt, answer, group, split, SOURCE))
    if not kept:
        return output.without_prose(name)
    text = "\n\n".join(kept) + "\n"
    document = Document(
        id=document_id(SOURCE, f"{group}\0{path}", text),
        text=text,
        source=SOURCE,
        group=group,
        split=split,
        title=module_name(path),
        lang="en",
        license=job.license,
        metadata={"file": path},
    )
    output.document(document)


def group_of(package: str, path: str) -> str:
    """The package; of the standard library the top-level module, so that a share of it can be held out."""
    if package != STANDARD_LIBRARY:
        return package
    return f"{STANDARD_LIBRARY}.{path.partition('/')[0].removesuffix('.py')}"


def module_name(path: str) -> str:
    """`json/decoder.py` -> `json.decoder`, `json/__init__.py` -> `json`."""
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _documented(source: bytes) -> Iterator[_Documented]:
    """(prompt, docstring) of a module and its definitions, in order; the module's prompt is empty: it makes no pair."""
    marks = source.count(b'"""') + source.count(b"'''")
    if marks // 2 * SPARSE_BYTES < len(source):
        return
    tree = ast.parse(source)
    if (docstring := _docstring(tree)) is not None:
        yield "", docstring
    yield from _walk(tree.body, "")


def _walk(body: list[ast.stmt], owner: str) -> Iterator[_Documented]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if (docstring := _docstring(node)) is not None:
                yield declaration_prompt(node, owner), docstring
            if isinstance(node, ast.ClassDef):
                yield from _walk(node.body, node.name)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for inner in (node.body, getattr(node, "orelse", [])):
                yield from _walk(inner, owner)


def _docstring(node: ast.Module | _Definition) -> str | None:
    if node.body and isinstance(first := node.body[0], ast.Expr) and isinstance(first.value, ast.Constant):
        value = first.value.value
        if isinstance(value, str):
            return value.encode("utf-8", "ignore").decode()  # an escaped half of a surrogate pair cannot be stored
    return None


def _answers(sentence: str) -> bool:
    """Whether a first sentence can be an answer."""
    return (
        sentence[0].isupper()
        and len(sentence.split(maxsplit=MAX_ANSWER_WORDS)) <= MAX_ANSWER_WORDS
        and reads_like_prose(sentence, MIN_ANSWER_WORDS)
    )
