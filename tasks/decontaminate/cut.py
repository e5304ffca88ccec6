"""Items out of documents, as GPT-3 did it (Brown et al. 2020, appendix C): the words that are an item's are cut out,
with so many characters on both sides; pieces that are then short go too, and a document of too many cuts goes whole, so
that a book does not go for a sentence and nothing is left of a list of questions.

GPT-3 made a document of each piece; here the pieces are parted by an empty line and stay one, under its id.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from storage.documents import PAIRS_SCHEMA, RowWriter, pair_row, read_pairs, read_rows
from tasks.decontaminate.runs import words_of
from tasks.engine.context import Summary
from tasks.shards.drop_rows import drop_rows

KEPT = "kept.parquet"
_PIECE = re.compile(r"[^\s。，、！？；：]+")  # none of these is within a word

Span = tuple[int, int]


def cut_shard(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write KEPT: the documents of a shard without what `config["spans"]` says: (row, spans of words). Summary: the
    rows that went whole, and of the others how many characters each lost."""
    spans = {int(row): [(int(start), int(end)) for start, end in found] for row, found in config["spans"]}
    texts, dropped, lost = {}, [], []
    for row, document in enumerate(read_rows(inputs["rows"], ["text"])):
        if row in spans:
            left = without(document["text"], spans[row], config)
            if left:
                texts[row] = left
                lost.append([row, len(document["text"]) - len(left)])
            else:
                dropped.append(row)
    drop_rows(inputs["rows"], out / KEPT, dropped, texts)
    return {"dropped": dropped, "lost": lost}


def drop_pairs(config: Mapping[str, Any], inputs: Mapping[str, Path], out: Path) -> Summary:
    """Write KEPT: the pairs of a shard without the rows `config["dropped"]`."""
    gone = set(config["dropped"])
    with RowWriter(out / KEPT, PAIRS_SCHEMA) as writer:
        for row, pair in enumerate(read_pairs(inputs["rows"])):
            if row not in gone:
                writer.add(pair_row(pair))
    return {}


def without(text: str, spans: Sequence[Span], config: Mapping[str, Any]) -> str:
    """A text without some spans of words and what is around them; empty where it goes whole."""
    margin = config["margin_characters"]
    cuts: list[Span] = []
    for start, end in _characters(text, spans):
        start, end = max(0, start - margin), min(len(text), end + margin)
        if cuts and start <= cuts[-1][1]:
            start, before = cuts.pop()
            end = max(before, end)
        cuts.append((start, end))
    if len(cuts) > config["most_cuts"]:
        return ""
    borders = [0, *(place for cut in cuts for place in cut), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(borders[::2], borders[1::2], strict=True)]
    return "\n\n".join(piece for piece in pieces if piece and len(piece) >= config["min_piece_characters"])


def _characters(text: str, spans: Sequence[Span]) -> list[Span]:
    """Spans of words as spans of characters, widened to the white space or the full stop of Han around them."""
    pieces = [match.span() for match in _PIECE.finditer(text)]
    ends = words_of(pa.array([text[start:end] for start, end in pieces], pa.string())).ends
    first = np.searchsorted(ends, [start for start, _ in spans], side="right").tolist()
    last = np.searchsorted(ends, [end for _, end in spans]).tolist()
    return [(pieces[one][0], pieces[other][1]) for one, other in zip(first, last, strict=True)]
