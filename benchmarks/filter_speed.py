"""How fast the filter judges, all rule families at once: `python -m benchmarks.filter_speed FILE...`.

Each FILE is .jsonl.zst with `text`; its texts are cut at white space into documents of about 2.8 kB, a web page as it
is. Measured in turn, the best of three, CPU time of one core: in memory (the line rules of C4, languages, Gopher, C4,
and FineWeb, personal data), the same where the language is stated, and the stage's work on shards of Parquet. With
`--peer PYTHON`, the interpreter of an environment that has datatrove and spaCy, its filters for the same rules run too.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.filter_keeps import documents
from storage.documents import TRAIN, Document, document_id, write_documents
from tasks.filter import FilterConfig
from tasks.filter.rules import judge
from tasks.filter.signals import BATCH, measure_shard, measured_all
from tasks.filter.stage import job_settings, write_kept

CHARACTERS, MOST, SHARD = 2800, 350, 1000  # of a document; documents of a file and of a shard

PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline import filters
from datatrove.pipeline.formatters import PIIFormatter
texts = json.load(open(sys.argv[1]))
steps = [filters.GopherRepetitionFilter(), filters.GopherQualityFilter(), filters.FineWebQualityFilter()]
steps.append(filters.C4QualityFilter(filter_no_terminal_punct=False))
pii = PIIFormatter()
def judge(text):
    for step in steps:
        step.filter(Document(text=text, id="x"))
    pii.format(text)
for text in texts[:20]:
    judge(text)
started = time.process_time()
for text in texts:
    judge(text)
print(len(texts) / (time.process_time() - started))
"""


def pieces(paths: list[Path]) -> list[str]:
    """The documents of all files."""
    found: list[str] = []
    for path in paths:
        of_file: list[str] = []
        for text, _ in documents(path):
            start = 0
            while start < len(text) and len(of_file) < MOST:
                end = len(text) if len(text) - start <= CHARACTERS else text.rfind(" ", start + 1, start + CHARACTERS)
                end = end if end > start else start + CHARACTERS
                if end - start > CHARACTERS // 2 or not start:
                    of_file.append(text[start:end].strip())
                start = end
        found += of_file
    return found


def best(work: Callable[[], object], count: int) -> float:
    """Documents a CPU-second, the best of three."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return count / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--peer", metavar="PYTHON")
    options = parser.parse_args()
    texts = pieces(options.files)
    config = FilterConfig(preset="fineweb-datatrove")
    settings = job_settings(config)
    print(f"{len(texts):,} documents of {sum(map(len, texts)) / len(texts):,.0f} characters\n")

    def in_memory(stated: str) -> None:
        for start in range(0, len(texts), BATCH):
            measured_all([(text, stated) for text in texts[start : start + BATCH]], settings)

    in_memory("")  # models are loaded
    for name, stated in (("in memory", ""), ("in memory, language stated", "en")):
        print(f"{name}: {best(partial(in_memory, stated), len(texts)):,.0f} a CPU-second", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shards = [texts[start : start + SHARD] for start in range(0, len(texts), SHARD)]
        for number, shard in enumerate(shards):
            rows = [Document(document_id("x", str(n), text), text, "x", str(n), TRAIN) for n, text in enumerate(shard)]
            write_documents(root / f"{number}.parquet", rows)

        def stage() -> None:
            import pyarrow.parquet as pq

            for number in range(len(shards)):
                inputs = {"documents": root / f"{number}.parquet"}
                measure_shard(settings, inputs, root)
                dropped = judge(config, pq.read_table(root / "signals.parquet")).rows.tolist()
                inputs["edited"] = root / "edited.parquet"
                write_kept({"dropped": dropped}, inputs, root)

        print(f"with Parquet: {best(stage, len(texts)):,.0f} a CPU-second", flush=True)
        if options.peer:
            (root / "texts.json").write_text(json.dumps(texts[:300]))
            command = [options.peer, "-c", PEER, str(root / "texts.json")]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"datatrove, without language: {float(result.stdout.split()[-1]):,.0f} a CPU-second")


if __name__ == "__main__":
    main()
