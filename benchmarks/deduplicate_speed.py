"""Speed, recall and precision of deduplication, beside datasketch in the same process.

    python -m benchmarks.deduplicate_speed [--documents 5000] [--corpus FILE.jsonl[.zst]]... [--peer-documents 2000]

The corpus has the shape of the one behind the bar: 70 % base documents of about 2.8 kB, 10 % exact copies, 20 %
copies with a share of .5 to 6 % of their words edited. Base documents are cut from the texts of `--corpus`, or made
of words with the frequencies of English (Zipf). Times are CPU seconds of one core; reading Parquet is included.
The truth is the exact Jaccard similarity of all pairs that share a word 5-gram, worked out beside the stage.
"""

import argparse
import io
import json
import os
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core is measured

import numpy as np

from storage.documents import TRAIN, Document, document_id, read_rows, write_documents
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.deduplicate.shingles import shingle_sets
from tasks.deduplicate.similarity import jaccard
from tasks.engine.builder import builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.stage import engine_in_force, stage

WORDS_A_DOCUMENT = 480
ROWS_A_SHARD = 2000


class CorpusConfig(StageConfig):
    folder: str


@stage("corpus", parts=("documents",))
def corpus(config: CorpusConfig, *, context: Context) -> Summary:
    texts = json.loads(Path(config.folder, "texts.json").read_text())
    for first in range(0, len(texts), ROWS_A_SHARD):
        documents = [
            Document(id=document_id("b", str(row), text), text=text, source="b", group=str(row), split=TRAIN)
            for row, text in enumerate(texts[first : first + ROWS_A_SHARD], first)
        ]
        write_documents(context.part("documents") / f"{first // ROWS_A_SHARD:05d}.parquet", documents)
    return {"documents": len(texts)}


def make_texts(count: int, sources: Sequence[Path]) -> list[str]:
    """Base documents, exact copies and edited copies, shuffled."""
    random = np.random.default_rng(0)
    words = (
        list(_source_words(sources)) if sources else [f"word{rank}" for rank in random.zipf(1.3, count * 340) % 50_000]
    )
    base_count = min(int(count * 0.7), len(words) // WORDS_A_DOCUMENT)
    base = [words[n * WORDS_A_DOCUMENT : (n + 1) * WORDS_A_DOCUMENT] for n in range(base_count)]
    texts = [_with_punctuation(piece, random) for piece in base]
    copies = random.choice(base_count, base_count * 3 // 7)
    for number, original in enumerate(copies.tolist()):
        text = texts[original]
        if number % 3:
            pieces = text.split(" ")
            for place in np.flatnonzero(random.random(len(pieces)) < random.uniform(0.005, 0.06)):
                pieces[place] = f"edit{random.integers(1000)}"
            text = " ".join(pieces)
        texts.append(text)
    return [texts[place] for place in random.permutation(len(texts))]


def _source_words(sources: Sequence[Path]) -> Iterator[str]:
    import zstandard

    for path in sources:
        with path.open("rb") as raw:
            stream = zstandard.ZstdDecompressor().stream_reader(raw) if path.suffix == ".zst" else raw
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                yield from json.loads(line)["text"].split()


def _with_punctuation(words: Sequence[str], random: np.random.Generator) -> str:
    ends = random.random(len(words)) < 0.07
    return " ".join(f"{word}." if end else word for word, end in zip(words, ends, strict=True))


def true_pairs(texts: Sequence[str], at_least: float) -> dict[tuple[int, int], float]:
    """Pairs of different texts with at least this exact similarity; each text stands for its copies."""
    first = {text: number for number, text in reversed(list(enumerate(texts)))}
    numbers = sorted(first.values())
    sets = dict(zip(numbers, shingle_sets([texts[number] for number in numbers], 5), strict=True))
    holders: dict[int, list[int]] = defaultdict(list)
    for number, found in sets.items():
        for value in found[found % np.uint64(16) == 0].tolist():  # a sixteenth is plenty to meet at .5 and above
            holders[value].append(number)
    met = Counter(pair for group in holders.values() if len(group) < 50 for pair in combinations(group, 2))
    similar = {pair: jaccard(sets[pair[0]], sets[pair[1]]) for pair in met}
    return {pair: value for pair, value in similar.items() if value >= at_least}


def measure_ours(texts: Sequence[str], folder: Path) -> tuple[float, list[dict[str, object]], Summary]:
    """CPU seconds of the stage, its ledger, its summary."""
    folder.mkdir()
    (folder / "texts.json").write_text(json.dumps(texts))
    with builder(folder / "home", Execution(workers=1)) as engine, engine_in_force(engine):
        source = corpus(CorpusConfig(folder=str(folder)))
        started = time.process_time()
        artifact = deduplicate(DeduplicateConfig(), source)
        seconds = time.process_time() - started
        ledger = list(read_rows(artifact["ledger"] / "ledger.parquet"))  # type: ignore[index]
        return seconds, ledger, engine.results[-1].summary


def measure_peer(texts: Sequence[str]) -> float:
    """CPU seconds of datasketch as its documentation has it: `update_batch`, shared permutations, MinHashLSH."""
    from datasketch import MinHash, MinHashLSH

    started = time.process_time()
    index = MinHashLSH(params=(14, 8), num_perm=112)
    permutations = MinHash(num_perm=112, seed=1).permutations
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.lower())
        shingles = {" ".join(words[start : start + 5]).encode() for start in range(max(len(words) - 4, 1))}
        sketch = MinHash(num_perm=112, seed=1, permutations=permutations, scheme="affine32")
        sketch.update_batch(shingles)
        if not index.query(sketch):
            index.insert(str(number), sketch)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Deduplication: speed, recall, precision.")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--peer-documents", type=int, default=2000)
    parser.add_argument("--corpus", type=Path, action="append", default=[])
    options = parser.parse_args()

    texts = make_texts(options.documents, options.corpus)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        measure_ours(texts[:500], Path(folder) / "warm")  # imports, and the fingerprint of the code
        seconds, ledger, summary = measure_ours(texts, Path(folder) / "measured")
    peer_texts = texts[: options.peer_documents]
    peer_seconds = measure_peer(peer_texts)

    gone = {row["id"] for row in ledger}
    copies, alive = Counter(texts), Counter[str]()
    for row, text in enumerate(texts):
        alive[text] += document_id("b", str(row), text) not in gone
    similar = {(texts[a], texts[b]): value for (a, b), value in true_pairs(texts, 0.5).items()}
    closest: dict[str, float] = defaultdict(float)
    for pair, value in similar.items():
        for text in pair:
            closest[text] = max(closest[text], value)
    wanted = [pair for pair, value in similar.items() if value >= 0.8]
    total = sum(copies[a] * copies[b] for a, b in wanted) + sum(n * (n - 1) // 2 for n in copies.values())
    missed = sum(alive[a] * alive[b] for a, b in wanted) + sum(n * (n - 1) // 2 for n in alive.values())
    different = [pair for pair in wanted if alive[pair[0]] and alive[pair[1]]]
    lost = [text for text in copies if not alive[text]]
    right = [text for text in lost if closest[text] >= 0.7]
    rate, peer_rate = len(texts) / seconds, len(peer_texts) / peer_seconds
    report = {
        "documents": len(texts),
        "megabytes": round(megabytes, 1),
        "documents_per_second": round(rate),
        "megabytes_per_second": round(megabytes / seconds, 1),
        "datasketch_documents_per_second": round(peer_rate),
        "ratio": round(rate / peer_rate, 1),
        "pairs_at_0.8": total,
        "recall_at_0.8": round(1 - missed / max(total, 1), 4),
        "recall_at_0.8_of_different_texts": round(1 - len(different) / max(len(wanted), 1), 4),
        "precision": round(len(right) / max(len(lost), 1), 4),
        "dropped_exact": summary["dropped_exact"],
        "dropped_near": summary["dropped_near"],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
