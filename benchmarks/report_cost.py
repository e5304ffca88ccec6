"""What the report of a run costs: `LLMILL_HOME=... python -m benchmarks.report_cost [RUN]`.

CPU seconds of writing it with and without the figures that are kept in the cache, and its size.
"""

import shutil
import sys
import time

from flows.report.page import write_report
from storage.home import home
from storage.runs import find_run
from storage.store.local import Store


def main() -> None:
    """Write the report three times without the cache and three times with it."""
    store = Store(home())
    run = find_run(store.home, sys.argv[1] if len(sys.argv) > 1 else "latest")
    seconds: dict[str, list[float]] = {"all figures computed": [], "figures from the cache": []}
    for _ in range(3):
        shutil.rmtree(store.home / "cache" / "report", ignore_errors=True)
        for taken in seconds.values():
            started = time.process_time()
            path = write_report(store, run)
            taken.append(time.process_time() - started)
    for what, taken in seconds.items():
        print(f"{what:<24}{min(taken):.2f} CPU-s (best of 3)")
    print(f"{'size':<24}{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
