"""Speed, memory, recall and precision of deduplication, beside its peers in the same process.

    python -m benchmarks.deduplicate_speed [--documents 5000,20000,80000] [--peer-documents 5000]
        [--corpus FILE.jsonl[.zst]]... [--packages FOLDER]

The corpus has the shape of the one behind the bar: 70 % base documents of about 2.8 kB, 10 % exact copies, 20 %
copies with a share of .5 to 6 % of their words edited. Base documents are cut from the texts of `--corpus` (where these
run out, of their words at random), or made of words with the frequencies of English (Zipf). Times are CPU seconds of
one core; ours is measured with Parquet and publishing, and in memory from a list of texts; the peers from a list. The
truth is the exact Jaccard similarity of all pairs that share a word 5-gram, worked out beside the stage. Memory is what
a fresh process adds to its peak while the stage runs. Peers are looked for in `--packages` (the site-packages of an
environment with rensa, text-dedup, datatrove and spaCy) too; one that is not there is named.
"""

import argparse
import io
import json
import os
import re
import site
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one core is measured

import numpy as np
import pyarrow as pa

from storage.documents import TRAIN, Document, document_id, read_rows, write_documents
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.deduplicate.clusters import candidate_pairs, equal_groups, ranking, representatives
from tasks.deduplicate.shingles import shingle_sets
from tasks.deduplicate.signatures import Signer, band_keys
from tasks.deduplicate.similarity import jaccard
from tasks.engine.builder import builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.stage import engine_in_force, stage

WORDS_A_DOCUMENT = 508  # of English, 2.8 kB
ROWS_A_SHARD = 2000
BANDS, ROWS = 14, 8
THRESHOLD = 0.7

Removed = set[int]  # numbers of the texts that do not stay


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
    base_count = int(count * 0.7)
    needed = base_count * WORDS_A_DOCUMENT
    words = list(_source_words(sources)) or [f"word{rank}" for rank in random.zipf(1.3, needed) % 50_000]
    words += [words[place] for place in random.integers(0, len(words), max(needed - len(words), 0)).tolist()]
    base = [words[n * WORDS_A_DOCUMENT : (n + 1) * WORDS_A_DOCUMENT] for n in range(base_count)]
    texts = [_with_punctuation(piece, random) for piece in base]
    copies = random.choice(base_count, count - base_count)
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


class Truth:
    """Which texts are alike, to judge what a method has removed."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts, self._copies = texts, Counter(texts)
        self._similar = {(texts[a], texts[b]): value for (a, b), value in true_pairs(texts, 0.5).items()}
        self._closest: dict[str, float] = defaultdict(float)
        for pair, value in self._similar.items():
            for text in pair:
                self._closest[text] = max(self._closest[text], value)

    def judge(self, removed: Removed) -> tuple[float, float]:
        """Recall of pairs of at least .8, of which not both may stay; and precision: lost texts that have a like."""
        alive = Counter(text for number, text in enumerate(self._texts) if number not in removed)
        wanted = [pair for pair, value in self._similar.items() if value >= 0.8]
        copies = self._copies
        total = sum(copies[a] * copies[b] for a, b in wanted) + sum(n * (n - 1) // 2 for n in copies.values())
        missed = sum(alive[a] * alive[b] for a, b in wanted) + sum(n * (n - 1) // 2 for n in alive.values())
        lost = [text for text in copies if not alive[text]]
        right = [text for text in lost if self._closest[text] >= THRESHOLD]
        return 1 - missed / max(total, 1), len(right) / max(len(lost), 1)


def with_parquet(texts: Sequence[str], folder: Path, workers: int = 1) -> tuple[float, float, Removed]:
    """CPU seconds of this process and wall seconds of the stage, and what it removes."""
    folder.mkdir()
    (folder / "texts.json").write_text(json.dumps(texts))
    with builder(folder / "home", Execution(workers=workers)) as engine, engine_in_force(engine):
        source = corpus(CorpusConfig(folder=str(folder)))
        started, wall = time.process_time(), time.perf_counter()
        artifact = deduplicate(DeduplicateConfig(), source)
        seconds, wall = time.process_time() - started, time.perf_counter() - wall
        gone = {row["id"] for row in read_rows(artifact["ledger"] / "ledger.parquet")}  # type: ignore[index]
    return seconds, wall, {row for row, text in enumerate(texts) if document_id("b", str(row), text) in gone}


def in_memory(texts: Sequence[str]) -> Removed:
    """The steps of the stage on a list, one round of verification: signatures, candidates, similarities, who stays."""
    array = pa.array(texts)
    signer = Signer(5, BANDS * ROWS, 1)
    signer.add(array)
    order = ranking(np.array(signer.lengths))
    first = equal_groups(*(half[order] for half in signer.digests()))
    documents = np.flatnonzero(first == np.arange(len(first)))
    keys = band_keys(signer.minima(), BANDS)
    pairs = candidate_pairs((band[order[documents]] for band in keys), documents)
    wanted = np.unique(order[pairs])
    sets = dict(zip(wanted.tolist(), shingle_sets(array.take(pa.array(wanted)), 5), strict=True))
    near = [jaccard(sets[one], sets[other]) >= THRESHOLD for one, other in order[pairs].tolist()]
    stays = representatives(len(texts), pairs[np.array(near, bool)])[first]
    return set(order[stays != np.arange(len(texts))].tolist())


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[start : start + 5]) for start in range(max(len(words) - 4, 1))}


def datasketch_at_its_best(texts: Sequence[str]) -> Removed:
    """`MinHash.generator` with shared permutations and a fast hash, and MinHashLSH."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    index, removed = MinHashLSH(params=(BANDS, ROWS), num_perm=BANDS * ROWS), set()
    sets = ([one.encode() for one in _shingles(text)] for text in texts)
    sketches = MinHash.generator(
        sets, num_perm=BANDS * ROWS, seed=1, hashfunc=xxhash.xxh32_intdigest, scheme="affine32"
    )
    for number, sketch in enumerate(sketches):
        if index.query(sketch):
            removed.add(number)
        else:
            index.insert(str(number), sketch)
    return removed


def rensa_streaming(texts: Sequence[str]) -> Removed:
    """`RMinHash.from_token_sets` and `RMinHashDeduplicator`, which compares signatures."""
    from rensa import RMinHash, RMinHashDeduplicator

    index = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=128, use_lsh=True, num_bands=16)
    removed = set()
    for first in range(0, len(texts), 256):
        sets = [list(_shingles(text)) for text in texts[first : first + 256]]
        for number, sketch in enumerate(RMinHash.from_token_sets(sets, 128, 42), first):
            if not index.add(str(number), sketch):
                removed.add(number)
    return removed


def text_dedup_in_memory(texts: Sequence[str]) -> Removed:
    """Its `embed_func`, tables and UnionFind; without reading and writing through `datasets`."""
    from text_dedup.minhash import RNG, embed_func
    from text_dedup.utils import UnionFind, xxh3_32hash

    prime, count = np.uint64((1 << 61) - 1), BANDS * ROWS
    numbers = (RNG.randint(1, prime, count, dtype=np.uint64), RNG.randint(0, prime, count, dtype=np.uint64))
    tables: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for number, text in enumerate(texts):
        found = embed_func(
            text,
            number,
            num_perm=count,
            ngram_size=5,
            min_length=5,
            hashranges=[(band * ROWS, (band + 1) * ROWS) for band in range(BANDS)],
            permutations=numbers,
            hash_func=xxh3_32hash,
            dtype=np.uint64,
            max_hash=np.uint32((1 << 32) - 1),
            modulo_prime=prime,
        )
        for table, key in zip(tables, found["__signatures__"], strict=True):
            table[key].append(number)
    union = UnionFind()
    for table in tables:
        for cluster in table.values():
            for one in cluster[1:]:
                union.union(one, cluster[0])
    return {number for number in range(len(texts)) if union.find(number) != number}


def datatrove_fast_words(texts: Sequence[str]) -> Removed:
    """Its four steps; words are cut by a regular expression, not by spaCy at several times the cost."""
    from datatrove.pipeline.dedup import minhash

    class Words:
        def word_tokenize(self, text: str) -> list[str]:
            return re.findall(r"\w+", text)

    default = minhash.load_word_tokenizer
    minhash.load_word_tokenizer = lambda _: Words()
    try:
        return datatrove_as_it_comes(texts)
    finally:
        minhash.load_word_tokenizer = default


def datatrove_as_it_comes(texts: Sequence[str]) -> Removed:
    """Its four steps in one process, words by spaCy."""
    from datatrove.data import Document as Row
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig

    hashes = HashConfig(hash_fc="sha1", precision=64)  # its xxhash wants bytes and is given strings
    config = MinhashConfig(n_grams=5, num_buckets=BANDS, hashes_per_bucket=ROWS, hash_config=hashes)
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/{name}" for name in ("signatures", "buckets", "removed")]
        sign = MinhashDedupSignature(parts[0], config=config)
        rows = [Row(text=text, id=str(number)) for number, text in enumerate(texts)]
        sign.run(rows, 0, 1)
        for bucket in range(BANDS):
            MinhashDedupBuckets(parts[0], parts[1], config=config).run(None, bucket, BANDS)
        MinhashDedupCluster(parts[1], parts[2], config=config).run(None, 0, 1)
        kept = {row.id for row in MinhashDedupFilter(parts[2]).run(rows, 0, 1)}
    return {number for number in range(len(texts)) if str(number) not in kept}


PEERS: dict[str, Callable[[Sequence[str]], Removed]] = {
    "datasketch at its best": datasketch_at_its_best,
    "rensa": rensa_streaming,
    "text-dedup": text_dedup_in_memory,
    "datatrove": datatrove_as_it_comes,
    "datatrove, fast words": datatrove_fast_words,
}


def added_memory(texts: Sequence[str], folder: Path) -> int:
    """Bytes that the stage adds to the peak of a fresh process, which has deduplicated some documents before."""
    folder.mkdir()
    (folder / "texts.json").write_text(json.dumps(texts))
    command = [sys.executable, "-m", "benchmarks.deduplicate_speed", "--added-memory", str(folder)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _print_added_memory(folder: Path) -> None:
    with builder(folder / "home", Execution(workers=1)) as engine, engine_in_force(engine):
        corpus(CorpusConfig(folder=str(folder)))
    if not os.environ.get("LLMILL_CORPUS_IS_THERE"):  # a process of its own: writing the corpus has a peak too
        os.environ["LLMILL_CORPUS_IS_THERE"] = "yes"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.deduplicate_speed", "--added-memory", str(folder)])
    with_parquet([f"a document of {number} words" for number in range(100)], folder / "warm")
    with builder(folder / "home", Execution(workers=1)) as engine, engine_in_force(engine):
        source = corpus(CorpusConfig(folder=str(folder)))
        before = _peak()
        deduplicate(DeduplicateConfig(), source)
        print(_peak() - before)


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


def _timed(method: Callable[[Sequence[str]], Removed], texts: Sequence[str]) -> tuple[float, Removed]:
    started = time.process_time()
    removed = method(texts)
    return time.process_time() - started, removed


def _row(name: str, texts: Sequence[str], seconds: float, removed: Removed, truth: Truth, note: str = "") -> str:
    recall, precision = truth.judge(removed)
    return f"| {name} | {len(texts):,} | {len(texts) / seconds:,.0f} | {recall:.3f} | {precision:.3f} | {note} |"


def our_rows(sizes: Iterable[int], sources: Sequence[Path]) -> Iterator[str]:
    """The head of the table and our lines."""
    yield "| what | documents | documents a CPU-second | recall at .8 | precision | |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with_parquet(make_texts(500, sources), folder / "warm")  # imports, and the fingerprint of the code
        for size in sizes:
            texts = make_texts(size, sources)
            truth = Truth(texts)
            seconds, wall, removed = with_parquet(texts, folder / f"one-{size}")
            memory = added_memory(texts, folder / f"memory-{size}") / size
            note = f"{memory:,.0f} bytes of memory a document"
            yield _row("ours, with Parquet and publishing", texts, seconds, removed, truth, note)
            alone, shared, same = with_parquet(texts, folder / f"two-{size}", workers=2)
            assert same == removed
            balance = seconds / (alone + (seconds - alone) / 2)  # what two free cores would make of it
            note = f"{balance:.2f} times as fast by CPU time, {wall / shared:.2f} by the clock with their start"
            yield f"| two processes | {size:,} | | | | {note} |"
            yield _row("ours, in memory", texts, *_timed(in_memory, texts), truth)


def peer_rows(size: int, sources: Sequence[Path]) -> Iterator[str]:
    """The lines of the peers, and once more ours, on the same documents."""
    texts = make_texts(size, sources)
    truth = Truth(texts)
    for name, method in {"ours, in memory": in_memory, **PEERS}.items():
        try:
            method(texts[:50])  # imports
            yield _row(name, texts, *_timed(method, texts), truth)
        except ImportError as error:
            yield f"| {name} | | | | | not installed: {error} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Deduplication: speed, memory, recall, precision.")
    parser.add_argument("--documents", default="5000,20000,80000")
    parser.add_argument("--peer-documents", type=int, default=5000)
    parser.add_argument("--corpus", type=Path, action="append", default=[])
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--added-memory", type=Path, help=argparse.SUPPRESS)
    options: Any = parser.parse_args()
    if options.added_memory:
        _print_added_memory(options.added_memory)
        return
    sizes = map(int, options.documents.split(","))
    for row in our_rows(sizes, options.corpus):
        print(row, flush=True)
    if options.packages:
        site.addsitedir(str(options.packages))
    for row in peer_rows(options.peer_documents, options.corpus):
        print(row, flush=True)


if __name__ == "__main__":
    main()
