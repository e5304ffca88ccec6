"""What Ray costs beside processes: deduplicate and filter of the same documents by two workers of each.

    python -m benchmarks.ray_overhead [--documents 20000] [--workers 2]

Printed are the seconds of both stages, the first of which starts the workers, and the CPU seconds and memory of all
processes of the run. Digests are compared.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
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
from tasks.engine.stage import Output, engine_in_force
from tasks.filter import FilterConfig, filter_documents

SHARDS = 16
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def descendants() -> list[int]:
    """The processes that this one has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def own_seconds() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cost(processes: Iterable[int]) -> tuple[float, float]:
    """CPU seconds so far of these processes, and their megabytes, shared ones by the share."""
    seconds = megabytes = 0.0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        seconds += (int(fields[11]) + int(fields[12])) / TICKS
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        megabytes += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1000
    return seconds, megabytes


def collected(source: Path) -> Output:
    return collect(CollectConfig(files=[{"path": str(source), "text_field": "text"}]))


def measure(home: Path, source: Path, executor: Literal["processes", "ray"], workers: int) -> tuple[str, ...]:
    """Build both stages anew, print what it took, and return the digests."""
    options = Options(force=frozenset({"deduplicate", "filter"}))
    execution = Execution(workers=workers, executor=executor)
    with Builder(Store(home), execution, options) as builder, engine_in_force(builder):
        documents = collected(source)
        earlier, own = set(descendants()), own_seconds()
        started = time.monotonic()
        unique = deduplicate(DeduplicateConfig(), documents)
        first = time.monotonic() - started
        filter_documents(FilterConfig(), unique, documents)
        seconds = time.monotonic() - started
        spent, megabytes = cost(set(descendants()) - earlier)
        print(
            f"{executor:<10}{first:8.1f} s deduplicate{seconds - first:8.1f} s filter"
            f"{spent + own_seconds() - own:8.1f} CPU-s{megabytes:8.0f} MB of workers"
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
        with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
            collected(source)
        digests = {measure(home, source, executor, options.workers) for executor in ("processes", "ray")}
        print("equal digests" if len(digests) == 1 else "digests differ")


if __name__ == "__main__":
    main()
