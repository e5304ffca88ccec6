"""What Ray costs beside processes: deduplicate and filter of the same documents by two workers of each.

    python -m benchmarks.ray_overhead [--documents 20000] [--workers 2]

Printed are the seconds of both stages, those of a first call that starts the workers, and the CPU seconds and memory of
all processes of the run. Digests are compared.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Literal

from benchmarks.incremental import make_documents
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.deduplicate import DeduplicateConfig, deduplicate
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.planner import Options
from tasks.engine.stage import engine_in_force
from tasks.filter import FilterConfig, filter_documents

SHARDS = 16
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def processes_of(home: Path) -> list[Path]:
    """The folders in /proc of the processes that this one has started for a home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"LLMILL_HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(process)
        except OSError:
            continue
    return found


def cost(home: Path) -> tuple[float, float]:
    """CPU seconds so far of this process and of those that it has started and that live, and the megabytes of these."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    seconds, megabytes = own.ru_utime + own.ru_stime, 0.0
    for process in processes_of(home):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
        rollup = (process / "smaps_rollup").read_text()
        megabytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1000
    return seconds, megabytes


def measure(home: Path, source: Path, executor: Literal["processes", "ray"], workers: int) -> tuple[str, ...]:
    """Build both stages anew, print what it took, and return the digests."""
    options = Options(force=frozenset({"deduplicate", "filter"}))
    execution = Execution(workers=workers, executor=executor)
    with Builder(Store(home), execution, options) as builder, engine_in_force(builder):
        documents = collect(CollectConfig(files=[{"path": str(source), "text_field": "text"}]))
        before, _ = cost(home)
        started = time.monotonic()
        unique = deduplicate(DeduplicateConfig(), documents)
        first = time.monotonic() - started
        filter_documents(FilterConfig(), unique, documents)
        seconds = time.monotonic() - started
        spent, megabytes = cost(home)
        print(
            f"{executor:<10}{first:8.1f} s deduplicate{seconds - first:8.1f} s filter"
            f"{spent - before:8.1f} CPU-s{megabytes:8.0f} MB of workers"
        )
        return tuple(result.artifact.digest for result in builder.results if result.artifact)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="documents of some 2.8 kB")
    parser.add_argument("--workers", type=int, default=2, help="processes, or Ray's workers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, source = Path(folder) / "home", Path(folder) / "texts"
        os.environ["LLMILL_HOME"] = str(home)
        source.mkdir()
        documents = make_documents(options.documents, [], 0.05)
        for number in range(SHARDS):
            rows = [json.dumps({"text": text}) + "\n" for text in documents[number::SHARDS]]
            (source / f"{number:02d}.jsonl").write_text("".join(rows))
        digests = {measure(home, source, executor, options.workers) for executor in ("processes", "ray")}
        print("equal digests" if len(digests) == 1 else "digests differ")


if __name__ == "__main__":
    main()
