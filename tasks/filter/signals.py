"""The values by which rules judge a document: computed once a shard, stored as columns beside its rows.

Thresholds are not part of this: a changed one reads the columns and computes none. Only what edits the text, the
languages wanted, and whether a rule goes by the language, decide the signals.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.documents import UNDETERMINED, read_rows, write_rows, write_table
from tasks.engine.context import Summary
from tasks.filter.edit import edit
from tasks.filter.language import languages_of
from tasks.filter.languages import language_code
from tasks.filter.quality import quality_signals
from tasks.filter.redact import Found
from tasks.filter.repetition import repetition_signals
from tasks.shards.reuse import DIGESTS, read_digests, text_digest, write_digests
from tasks.words import letters_a_word, words

BATCH = 32  # documents whose languages are identified together: what that reads stays in the processor's cache
Measured = tuple[str | None, dict[str, Any]]  # the edited text, None where it stayed, and the signals

EDIT_SETTINGS = (
    "redact",
    "redact_with",
    "phone_regions",
    "remove_citations",
    "line_phrases",
    "line_interface",
    "line_terminal_punctuation",
    "line_min_words",
    "line_max_word_characters",
)
ADDRESSES = ("blocked_url", "url_words")  # 0 until the stage asks its lists: a changed list computes no signal again
COUNTS = ("words", "sentences", "lorem_ipsum", "curly_brackets")
REMOVED = ("words_removed", "sentences_removed")  # by line rules
EDITS = ("lines_removed", *(f"{kind}s_redacted" for kind in ("email", "phone", "ip", "card", "iban", "ssn", "secret")))
SHARES = (
    "removed_words",
    *("mean_word_length", "hashes_per_word", "ellipses_per_word", "bullet_lines", "ellipsis_lines"),
    *("alphabetic_words", "punctuated_lines", "short_lines", "newlines_per_word"),
    *("duplicate_lines", "duplicate_paragraphs", "duplicate_line_characters", "duplicate_paragraph_characters"),
    *("top_2_gram", "top_3_gram", "top_4_gram"),
    *("duplicate_5_grams", "duplicate_6_grams", "duplicate_7_grams"),
    *("duplicate_8_grams", "duplicate_9_grams", "duplicate_10_grams"),
)

SIGNALS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the edited text
        pa.field("language", pa.string(), nullable=False),  # as stated or found; `und` where it is not known
        pa.field("language_score", pa.float64(), nullable=False),
        pa.field("line_rule", pa.string(), nullable=False),  # that took most of the text; empty where none took any
        pa.field("stop_words", pa.int64()),  # null where the language has no list
        *(pa.field(name, pa.int64(), nullable=False) for name in (*COUNTS, *EDITS, *REMOVED, *ADDRESSES)),
        *(pa.field(name, pa.float64(), nullable=False) for name in SHARES),
    ]
)
REDACTIONS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),  # of the shard of documents that came in
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # email, card, ...: redact.KINDS
        pa.field("start", pa.int64(), nullable=False),  # characters of the document's text, as it came in
        pa.field("end", pa.int64(), nullable=False),
    ]
)
EDITED_SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)])


def signals_of(text: str, language: str, score: float) -> dict[str, Any]:
    """All signals of a text that has been edited."""
    found = words(text)
    lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
    letters = letters_a_word(text, len(found))
    return {
        "bytes": len(text.encode()),
        "language": language,
        "language_score": score,
        **quality_signals(text, found, lines, letters, language),
        **repetition_signals(text, found, lines, letters),
    }


def measure_shard(config: dict[str, Any], inputs: dict[str, Path], out: Path) -> Summary:
    """Write `signals.parquet`, aligned with the shard's rows, `edited.parquet`, the texts that were changed, and
    `redactions.parquet`, where personal data were.

    `config` holds EDIT_SETTINGS, `languages` and `identify`: whether a rule needs the language where none is stated.
    What an earlier shard says of the same text is taken over.
    """
    rows: list[dict[str, Any]] = []
    edited: list[dict[str, Any]] = []
    redactions: list[dict[str, Any]] = []
    digests: list[bytes] = []
    known = _measured_before(inputs)
    documents = read_rows(inputs["documents"], columns=["id", "text", "lang"])
    while batch := list(itertools.islice(documents, BATCH)):
        digests += (found := [text_digest(f"{document['lang']}\0{document['text']}") for document in batch])
        new = [number for number, digest in enumerate(found) if digest not in known]
        made = measured_all([(batch[number]["text"], batch[number]["lang"]) for number in new], config)
        made_of = dict(zip(new, made, strict=True))
        for number, document in enumerate(batch):
            text, signals = made_of[number] if number in made_of else known[found[number]]
            if text is not None:
                edited.append({"row": len(rows), "text": text})
            place = {"row": len(rows), "id": document["id"]}
            redactions += [{**place, **one._asdict()} for one in signals["redactions"]]
            rows.append({**signals, "id": document["id"]})
    write_table(out / "signals.parquet", pa.Table.from_pylist(rows, schema=SIGNALS_SCHEMA))
    write_rows(out / "edited.parquet", edited, EDITED_SCHEMA)
    write_rows(out / "redactions.parquet", redactions, REDACTIONS_SCHEMA)
    write_digests(out, digests)
    return {"documents": len(rows), "edited": len(edited)}


def measured(text: str, stated: str, config: Mapping[str, Any]) -> Measured:
    """See `measured_all`."""
    return measured_all([(text, stated)], config)[0]


def measured_all(texts: Sequence[tuple[str, str]], config: Mapping[str, Any]) -> list[Measured]:
    """Of each text with its stated language the edited text, None where it stayed, and its signals.

    Where all languages are wanted, one that is found is a guess among 139 of some 7,000: a text without any of its stop
    words is in another. Where languages are named, the same text fails as one of them: that is for a rule to say.
    """
    edits = [edit(text, config, stated) for text, stated in texts]
    asked = [number for number, (_, stated) in enumerate(texts) if stated or config["identify"]]
    judged = [(edits[number][0] or texts[number][0], texts[number][1]) for number in asked]
    languages = dict(zip(asked, languages_of(judged, tuple(config["languages"])), strict=True))
    results = []
    for number, ((text, stated), (after, done)) in enumerate(zip(texts, edits, strict=True)):
        signals = signals_of(after, *languages.get(number, (UNDETERMINED, 1.0)))
        if signals["stop_words"] == 0 and not config["languages"] and not language_code(stated):
            signals |= {"language": UNDETERMINED, "stop_words": None}
        removed, left = done["words_removed"], signals["words"]
        signals |= dict.fromkeys(ADDRESSES, 0)
        signals["removed_words"] = removed / max(1, removed + left)
        results.append((None if after == text else after, {**signals, **done}))
    return results


def _measured_before(inputs: Mapping[str, Path]) -> dict[bytes, Measured]:
    """What an earlier shard says, by the digest of the text: the edited text, None where it stayed, and the signals."""
    if f"reused/{DIGESTS}" not in inputs:
        return {}
    edited = {row["row"]: row["text"] for row in read_rows(inputs["reused/edited.parquet"])}
    redactions = defaultdict(list)
    for one in read_rows(inputs["reused/redactions.parquet"]):
        redactions[one["row"]].append(Found(one["start"], one["end"], one["kind"]))
    signals = read_rows(inputs["reused/signals.parquet"])
    digests = read_digests(inputs[f"reused/{DIGESTS}"])
    return {
        digest: (edited.get(row), {**found, "redactions": redactions[row]})
        for row, (digest, found) in enumerate(zip(digests, signals, strict=True))
    }
