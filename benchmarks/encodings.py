"""How often the encoding of a file is found, asked for, or taken for another.

    python -m benchmarks.encodings [--data ../shared/data]

Gold are the labels of `dirty/encodings.tar.zst`. A file counts as read where at most one character in a thousand
differs from what its label gives; as read by a wider table where all that differs are characters that the label's
table lacks or has a control or a look-alike for (Windows-31J for Shift JIS, Windows-1250 for ISO 8859-2 with bytes of
80 to 9F).
"""

import argparse
import codecs
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import zstandard

from tasks.collect.encodings import SAMPLE_BYTES, UTF8, guess

WIDER = {
    ("shift_jis", "cp932"),
    ("gb2312", "gb18030"),
    ("tis-620", "cp874"),
    ("iso8859-1", "cp1252"),
    ("iso8859-2", "cp1250"),
}
_WIDER = {(codecs.lookup(label).name.replace("_", "-"), wide) for label, wide in WIDER}


def outcome(data: bytes, label: str) -> str:
    """What becomes of one file: right, wider, reported or spoiled."""
    guessed = guess(data[:SAMPLE_BYTES], len(data) <= SAMPLE_BYTES)
    wanted, got = (data.decode(name, "replace").removeprefix("\ufeff") for name in (label, guessed.encoding))
    same = len(wanted) == len(got)
    if same and sum(a != b for a, b in zip(wanted, got, strict=True)) <= len(wanted) // 1000:
        return "right"
    if guessed.encoding == UTF8:
        return "reported"
    return "wider" if (codecs.lookup(label).name.replace("_", "-"), guessed.encoding) in _WIDER else "spoiled"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    folder = parser.parse_args().data
    raw = zstandard.ZstdDecompressor().stream_reader((folder / "dirty" / "encodings.tar.zst").open("rb")).read()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        opened = {entry.name.removeprefix("./"): archive.extractfile(entry) for entry in archive}
        read = {name: file.read() for name, file in opened.items() if file is not None}
    found: Counter[str] = Counter()
    for line in read["manifest.jsonl"].splitlines():
        row = json.loads(line)
        try:
            label = codecs.lookup(row["true_encoding"]).name
        except LookupError:  # unknown, or none of Python's
            continue
        found[outcome(read[row["path"]], label)] += 1
    print(dict(found), found.total(), "files")
    texts: Counter[str] = Counter()
    for path in sorted((folder / "corpus").glob("*.jsonl.zst")):
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(path.open("rb")), "utf-8")
        texts.update(guess(json.loads(line)["text"].encode()[:SAMPLE_BYTES], whole=False).encoding for line in lines)
    print(dict(texts), "texts of the corpus")


if __name__ == "__main__":
    main()
