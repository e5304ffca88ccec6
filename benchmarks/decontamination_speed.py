"""How fast benchmarks are found in texts, and what is found:
`python -m benchmarks.decontamination_speed --data ../shared/data [--packages SITE_PACKAGES]`.

Items of six benchmarks are looked for in texts of several languages: MB of UTF-8 a CPU-second of one core for the
search of one shard (find.py: Parquet, words, runs, what is held), the index made before; a quarter of a second of it is
that of the index and falls due once. `--packages` is the folder of an environment with datatrove and spaCy: its block
(decont/n_grams.py) searches the same texts for the same items, questions too, by as long runs, and with regular
expressions in the place of spaCy.
"""

import argparse
import re
import site
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_requests import corpus_texts
from storage.documents import TRAIN, Document, read_rows, write_documents, write_rows
from tasks.decontaminate.find import INDEX, MATCHES, Judge, find_matches
from tasks.decontaminate.index import build_index, read_index
from tasks.decontaminate.items import ITEMS_SCHEMA
from tasks.evaluate.item_texts import ItemsConfig, _asked

TASKS = ("lambada_openai", "boolq", "arc_easy", "arc_challenge", "piqa", "winogrande")
CORPORA = ("books_en", "wiki_en", "docs_peps", "books_de", "laws_de", "wiki_multi", "stories_multi")
PEER_CORPUS, PEER_BYTES = "wiki_en", 3_000_000
CONFIG = {"run_words": 13, "least_words": 8, "part": "documents"}

Found = tuple[float, int]  # CPU-seconds, texts that hold an item


def make_index(data: Path, folder: Path) -> dict[str, Path]:
    """The files of the index, made from the items, which stay beside it."""
    tasks = tuple({"name": name, "data": str(data / "bench" / f"{name}.jsonl")} for name in TASKS)
    count = write_rows(folder / "items", _asked(ItemsConfig.model_validate({"tasks": tasks, "seed": 1})), ITEMS_SCHEMA)
    (folder / "index").mkdir()
    started = time.process_time()
    build_index(CONFIG, {"items": folder / "items"}, folder / "index")
    print(f"{count:,} items; the index takes {time.process_time() - started:.1f} s\n")
    return {path.name: path for path in (folder / "index").iterdir()}


def search(texts: Sequence[str], index: dict[str, Path], folder: Path) -> Found:
    """By the functions of the stage, reading Parquet."""
    write_documents(folder / "rows", (Document(str(n), text, "s", "g", TRAIN) for n, text in enumerate(texts)))
    inputs = {"rows": folder / "rows", **{INDEX + name: path for name, path in index.items()}}
    started = time.process_time()
    find_matches(CONFIG, inputs, folder)
    read = read_index(index)
    judge = Judge(read, np.ones(len(read.hashes), bool), 0.0)
    rows = {held.row for held in judge.held(np.load(folder / MATCHES, allow_pickle=False))}
    return time.process_time() - started, len(rows)


def datatrove(texts: Sequence[str], folder: Path, words: Callable[[str], list[str]] | None = None) -> Found:
    """datatrove's filter; `words` in the place of its tokenizer."""
    import xxhash
    from datatrove.data import Document as Row
    from datatrove.pipeline.decont import NGramsDecontFilter
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontIndexer

    config = NGramsDecontConfig(n_grams=CONFIG["run_words"], find_query_ngrams=True)
    block: Any = NGramsDecontFilter(str(folder), config)
    block.hash_func = lambda run: xxhash.xxh64_intdigest(run.encode())  # its own does not encode, as xxhash 3.7 wants
    if words is not None:
        block.tokenizer = type("Words", (), {"word_tokenize": staticmethod(words)})
    block._index_hashes = {
        number: row["benchmark"]
        for row in read_rows(folder / "items")
        for number in NGramsDecontIndexer.compute_hashes(block, row["text"], "")
    }
    started = time.process_time()
    found = sum(block.filter(Row(text, str(number))) is not True for number, text in enumerate(texts))
    return time.process_time() - started, found


def _row(name: str, texts: Sequence[str], found: Found) -> str:
    size = sum(len(text.encode()) for text in texts)
    return f"| {name} | {size / 1e6:.1f} | {size / 1e6 / found[0]:.2f} | {found[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--packages", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        index = make_index(options.data, folder)
        print("| texts | MB | MB a CPU-second | texts that hold an item |\n|---|---|---|---|")
        corpus = options.data / "corpus"
        for name in CORPORA:
            texts = corpus_texts(corpus / f"{name}.jsonl.zst", 10**9)
            search(texts[:1], index, folder)
            print(_row(name, texts, search(texts, index, folder)), flush=True)
        texts = corpus_texts(corpus / f"{PEER_CORPUS}.jsonl.zst", PEER_BYTES)
        print(_row(f"{PEER_CORPUS} again, ours", texts, search(texts, index, folder)), flush=True)
        if options.packages:
            site.addsitedir(str(options.packages))
            print(_row("the same, datatrove", texts, datatrove(texts, folder)), flush=True)
            plain = re.compile(r"\w+").findall
            print(_row("the same, datatrove with plain words", texts, datatrove(texts, folder, plain)), flush=True)


if __name__ == "__main__":
    main()
