"""The contents of a part as rows: what `llmill cat` prints and `llmill inspect` shows the beginning of.

Parquet gives its rows, JSON lines theirs, a JSON list its items, another JSON value itself, token shards their
documents, safetensors its tensors, text its lines; any other file is one row that says what it is. Where a part holds
files of several kinds, each row begins with the name of its file. Rows are streamed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.build import BUILD
from flows.inspect.references import intact, resolve
from storage.store.artifacts import Artifact, Part, StoredFile
from storage.store.local import Store
from tasks.tune.stage import study

Row = dict[str, Any]

MAX_JSON_BYTES = 256 << 20
MAX_LINE_BYTES = 64 << 20
_TEXT = (".md", ".txt", ".jinja", ".yaml", ".html")


def referenced_rows(store: Store, reference: str, *, ids: bool = False) -> Iterator[Any]:
    """The rows of what a reference means: of an artifact those of its first part, as its stage declares them."""
    found = resolve(store, reference)
    declared = {stage.name: stage.parts for stage in (*BUILD.stages, study)}.get(found.artifact.stage, ())
    part = found.part or found.artifact[next((name for name in declared), next(iter(found.artifact.parts)))]
    intact(store, found.artifact.only((part.name,)), reference)
    if found.file is not None:
        return file_rows(found.file)
    return part_rows(store, found.artifact, part, ids=ids)


def part_rows(store: Store, artifact: Artifact, part: Part, *, ids: bool = False) -> Iterator[Any]:
    """The rows of a part, file after file. `ids`: token shards as numbers even where they can be decoded."""
    if any(file.name.endswith(".tokens.npy") for file in part.files):
        yield from _token_documents(store, artifact, part, ids=ids)
        return
    mixed = len({Path(file.name).suffix for file in part.files}) > 1
    for file in part.files:
        for row in file_rows(file):
            yield {"file": file.name, **(row if isinstance(row, dict) else {"value": row})} if mixed else row


def file_rows(file: StoredFile) -> Iterator[Any]:
    """The rows of one file, by what it is."""
    suffix = Path(file.name).suffix
    if suffix == ".parquet":
        from storage.documents import read_rows

        yield from read_rows(file.path)
    elif suffix == ".jsonl":
        with file.path.open("rb") as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                yield json.loads(line)
    elif suffix == ".json" and file.bytes <= MAX_JSON_BYTES:
        value = json.loads(file.path.read_bytes())
        yield from value if isinstance(value, list) else [value]
    elif suffix == ".safetensors":
        yield from tensor_rows(file.path)
    elif suffix in _TEXT or not suffix:
        with file.path.open(encoding="utf-8", errors="replace") as lines_of_text:
            while text := lines_of_text.readline(MAX_LINE_BYTES):
                yield {"text": text.rstrip("\n")}
    else:
        yield {"bytes": file.bytes, "sha256": file.digest}


def tensor_rows(path: Path) -> Iterator[Row]:
    """Name, type and shape of each tensor: the header of a safetensors file, without its numbers."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    for name, entry in sorted(header.items()):
        if name != "__metadata__":
            yield {"tensor": name, "dtype": entry["dtype"], "shape": entry["shape"]}


def _token_documents(store: Store, artifact: Artifact, part: Part, *, ids: bool) -> Iterator[Row]:
    """The documents of token shards, decoded where the tokenizer that made them is still there."""
    from storage.documents import HELDOUT, TRAIN
    from storage.tokens import TokenSet

    tokenizer = None if ids else _tokenizer_of(store, artifact)
    for split in (TRAIN, HELDOUT):
        for number, (tokens, size) in enumerate(TokenSet(part.path, split).iterate_documents()):
            row: Row = {"split": split, "document": number, "tokens": len(tokens), "bytes": size}
            numbers = tokens.tolist()
            text = {"ids": numbers} if tokenizer is None else {"text": tokenizer.decode(numbers[1:])}
            yield row | text


def _tokenizer_of(store: Store, artifact: Artifact) -> Any | None:
    """The tokenizer that an artifact was built with, found by its build record."""
    for record in reversed(store.builds_that_made(artifact.stage, artifact.digest)):
        for kind in ("tokenizer", "initial", "teacher"):
            digest = record["identity"]["inputs"].get(f"{kind}/tokenizer")
            folder = store.part_path(kind, "tokenizer", digest) if digest else None
            if folder is not None and folder.is_dir():
                from tasks.tokenize.tokenizer import load_tokenizer

                return load_tokenizer(folder)
    return None
