"""What a shared store costs: `python -m benchmarks.store_overhead`. Needs the extra `dev`; about two minutes.

The smoke recipe, plain, in turn on a home of its own and on a home with a store on S3 (moto on this machine, in a
process of its own): everything built, everything reused, and everything reused by a home that is new. Wall seconds of
whole commands, the median of ROUNDS, and what went over the wire.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from s3_server import s3_server  # noqa: E402
from support import llmill_command  # noqa: E402

ROUNDS = 3
RUN = ("run", "smoke", "--plain")


def main() -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        kinds = ("built", "reused", "reused by a new home")
        seconds: dict[tuple[str, str], list[float]] = {(kind, where): [] for kind in kinds for where in ("home", "S3")}
        wire: dict[str, dict[str, int]] = {}
        for turn in range(ROUNDS):
            store = server.bucket(f"turn{turn}")
            shared = server.environment(store)
            for where, environment in (("home", {}), ("S3", shared)):
                home = Path(folder) / f"{where}-{turn}"
                server.counts()
                for kind in ("built", "reused"):
                    seconds[kind, where].append(timed(home, environment, *RUN))
                    if where == "S3":
                        wire[kind] = server.counts()
            seconds[kinds[-1], "S3"].append(timed(Path(folder) / f"new-{turn}", shared, *RUN))
            wire[kinds[-1]] = server.counts()
        print(f"{'':<24}{'home':>8}{'S3':>8}{'ratio':>8}  requests, MB sent, MB received")
        for kind in kinds:
            show(kind, seconds[kind, "home"], seconds[kind, "S3"], wire[kind])
        print(f"objects {len(server.keys(store))}, {sum(server.keys(store).values()) / 1e6:.1f} MB")


def timed(home: Path, environment: dict[str, str], *arguments: str) -> float:
    """Wall seconds of a command."""
    started = time.perf_counter()
    subprocess.run(
        [*llmill_command(), *arguments],
        env={**os.environ, **environment, "LLMILL_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.perf_counter() - started


def show(kind: str, home: list[float], shared: list[float], counts: dict[str, int]) -> None:
    """A row: medians, their ratio, and what the last turn sent."""
    there, here = statistics.median(shared), statistics.median(home) if home else None
    requests = sum(count for name, count in counts.items() if name.isupper())
    compared = f"{here:>8.1f}{there:>8.1f}{there / here:>8.2f}" if here else f"{'':>8}{there:>8.1f}{'':>8}"
    print(f"{kind:<24}{compared}  {requests}, {counts['received'] / 1e6:.1f}, {counts['sent'] / 1e6:.1f}")


if __name__ == "__main__":
    main()
