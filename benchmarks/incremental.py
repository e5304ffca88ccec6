"""What new, edited and removed text costs the data stages, against a full build: CPU seconds and shards.

    python -m benchmarks.incremental [--megabytes 40] [--copies 0.05] [--corpus FILE.jsonl.zst]...

The corpus is a folder of JSON-lines files of 4 MB and more; a share of its documents are exact or near copies.
It is built once in full. Then, each time from a copy of that home, a tenth is added as new files that sort last, and
as one that sorts first; a tenth is appended to the last file; one document is edited in place, one is taken out, both
in the middle. The tokenizer is the first build's, as in retraining, where the champion's is kept. One worker; CPU
seconds of the process.
"""

import argparse
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tasks.engine.config import StageConfig

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core is measured

import numpy as np

from storage.store.artifacts import Artifact
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.listener import StageResult
from tasks.engine.stage import Stage, engine_in_force
from tasks.filter import FilterConfig, filter_documents
from tasks.tokenize.stage import TokenizeConfig, tokenize
from tasks.tokenize.tokenizer import TokenizerConfig, train_tokenizer

FILES = 9
DOCUMENT_WORDS = 450
SAMPLE_BYTES = 5_000_000  # that the tokenizer learns from
STAGES = ("collect", "deduplicate", "filter", "tokenize")
Row = dict[str, tuple[float, str]]  # stage -> CPU seconds, shards


def make_documents(count: int, sources: Sequence[Path], copies: float) -> list[str]:
    """Texts of about 2.8 kB, cut from the sources' words or drawn from a Zipf law, shuffled; a share are copies."""
    random = np.random.default_rng(0)
    words = list(_words_of(sources, count * DOCUMENT_WORDS)) if sources else []
    missing = count * DOCUMENT_WORDS - len(words)
    words += [f"word{rank}" for rank in (random.zipf(1.3, max(0, missing)) % 50_000).tolist()]
    documents: list[str] = []
    for number in range(count):
        piece = words[number * DOCUMENT_WORDS : (number + 1) * DOCUMENT_WORDS]
        if number and random.random() < copies:
            piece = documents[random.integers(number)].split()
            for place in random.integers(len(piece), size=random.integers(4)).tolist():
                piece[place] = "edited"
        documents.append(" ".join(piece) + ".")
    return [documents[place] for place in random.permutation(count).tolist()]


def _words_of(sources: Sequence[Path], wanted: int) -> Iterator[str]:
    import zstandard

    for path in sources:
        with path.open("rb") as raw:
            stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                for word in json.loads(line)["text"].split():
                    if wanted <= 0:
                        return
                    wanted -= 1
                    yield word


def write(path: Path, documents: Sequence[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def build(home: Path, folder: Path, tokenizer: Artifact | None) -> tuple[Row, Artifact]:
    """One pass of the data stages; without a tokenizer one is trained. Returns costs and the tokenizer."""
    row: Row = {}
    os.environ["LLMILL_HOME"] = str(home)
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):

        def timed(stage: Stage, config: StageConfig, *inputs: Artifact) -> Artifact:
            started = time.process_time()
            output = stage(config, *inputs)
            row[stage.name] = time.process_time() - started, _shards(builder.results[-1])
            assert isinstance(output, Artifact)
            return output

        documents = timed(collect, CollectConfig(files=({"path": str(folder)},)))
        unique = timed(deduplicate, DeduplicateConfig(), documents)
        clean = timed(filter_documents, FilterConfig(), unique, documents)
        tokenizer = tokenizer or timed(train_tokenizer, TokenizerConfig(training_bytes=SAMPLE_BYTES), clean)
        timed(tokenize, TokenizeConfig(), clean, tokenizer)
    return row, tokenizer


def _shards(result: StageResult) -> str:
    record = result.record or {}
    built, reused = record.get("shards_built", 0), record.get("shards_reused", 0)
    return f"{built}/{built + reused}" if result.outcome == "built" else "reused"


def changes(folder: Path, documents: list[str], new: list[str]) -> dict[str, Callable[[], None]]:
    """What is done to the folder, by name."""
    middle, last = folder / f"text-{FILES // 2}.jsonl", folder / f"text-{FILES - 1}.jsonl"

    def edit(keep: bool) -> None:
        lines = middle.read_text().splitlines(keepends=True)
        lines[len(lines) // 3] = json.dumps({"text": new[0]}) + "\n" if keep else ""
        middle.write_text("".join(lines))

    def append() -> None:
        with last.open("a") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in new)

    return {
        "a tenth more, in a file that sorts last": lambda: write(folder / "text-new.jsonl", new),
        "a tenth more, in a file that sorts first": lambda: write(folder / "a-new.jsonl", new),
        "a tenth more, appended to the last file": append,
        "twenty documents in a small file that sorts first": lambda: write(folder / "a-new.jsonl", new[:20]),
        "one document edited in the middle": lambda: edit(True),
        "one document taken out in the middle": lambda: edit(False),
        "one file taken out in the middle": middle.unlink,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=40.0, help="text of the full build")
    parser.add_argument("--corpus", type=Path, action="append", default=[], help="JSON lines with a field text")
    parser.add_argument("--copies", type=float, default=0.05, help="share of the documents that are copies of others")
    given = parser.parse_args()
    count = int(given.megabytes * 1e6 / (DOCUMENT_WORDS * 6.2))
    texts = make_documents(count + count // 10, given.corpus, given.copies)
    documents, new = texts[:count], texts[count:]
    with tempfile.TemporaryDirectory() as temporary:
        folder, home = Path(temporary, "texts"), Path(temporary, "home")
        folder.mkdir()
        write(folder / "text-0.jsonl", documents[:1000])
        build(Path(temporary, "warm"), folder, None)  # imports
        for number in range(FILES):
            write(folder / f"text-{number}.jsonl", documents[number::FILES])
        full, tokenizer = build(home, folder, None)
        print(f"{len(documents):,} documents, {sum(map(len, documents)) / 1e6:.1f} MB; CPU seconds, (ratio), shards\n")
        print("| what | " + " | ".join(STAGES) + " |\n|---" * 1 + "|---" * len(STAGES) + "|")
        _print("full build", full, full)
        for name, change in changes(folder, documents, new).items():
            other, texts_copy = Path(temporary, "other"), Path(temporary, "kept")
            shutil.copytree(home, other, symlinks=True)
            shutil.copytree(folder, texts_copy)
            change()
            row, _ = build(other, folder, tokenizer)
            _print(name, row, full)
            shutil.rmtree(other)
            shutil.rmtree(folder)
            texts_copy.rename(folder)


def _print(name: str, row: Row, full: Row) -> None:
    cells = [f"{row[stage][0]:.2f} ({row[stage][0] / full[stage][0]:.0%}) {row[stage][1]}" for stage in STAGES]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
