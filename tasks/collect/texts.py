"""What readers of records share: a text as it is kept, the fields that a record lacks, its group."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tasks.collect.output import number_or_text
from tasks.collect.readers import field_of
from tasks.collect.records import BadRecord, Record, excerpt


def cleaned(record: Record, field: str, text: str, max_bytes: int) -> str | BadRecord:
    """A text with line ends as `\\n` and without a BOM, or why it cannot be used."""
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        foreign = "\udc80" <= text[error.start] <= "\udcff"
        return BadRecord(
            record.line,
            "invalid UTF-8 (another encoding? set `encoding` of this source)"
            if foreign
            else "half a surrogate pair in the text",
            excerpt(text),
        )
    if not text.strip():
        return BadRecord(record.line, f"empty {field}")
    if "\0" in text:
        reason = "a NUL character: this is not text, or in another encoding (set `encoding` of this source)"
        return BadRecord(record.line, reason, excerpt(text.replace("\0", " ")))
    if size > max_bytes:
        return BadRecord(record.line, f"{size} bytes, max_document_bytes is {max_bytes}", excerpt(text))
    return text


def without_field(record: Record, *names: str) -> BadRecord:
    fields = tuple(sorted(name for name in _dotted(record.fields) if encodes(name)))[:20]
    reason = f"no field {' or '.join(map(repr, names))}"
    lists = [name for name, value in record.fields.items() if isinstance(value, list) and _holds(value, names)]
    if lists:
        reason += (
            f": the records are in the list {lists[0]!r} (jq -c '.{lists[0]}[]' OLD.json > NEW.jsonl takes them out)"
        )
    return BadRecord(record.line, reason, f"fields: {', '.join(fields)}"[:200], fields or ("(none)",))


def _dotted(fields: Mapping[str, Any]) -> Iterator[str]:
    """The names of the fields, of those that hold fields as `body.text`."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from (f"{name}.{inner}" for inner in value if isinstance(inner, str))
        elif isinstance(name, str):
            yield name


def _holds(values: list[Any], names: Collection[str]) -> bool:
    return bool(values) and isinstance(values[0], Mapping) and any(name in values[0] for name in names)


def group_of(record: Record, field: str) -> str | None:
    try:
        group = number_or_text(field_of(record.fields, field))
    except KeyError:
        return None
    return group if group and encodes(group) else None


def number_of(record: Record, field: str) -> float | None:
    """The finite number in a field, which CSV has as text; None where there is none."""
    try:
        value = field_of(record.fields, field)
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (KeyError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
