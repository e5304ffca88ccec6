"""What the engine costs a built stage and a reused one, without Prefect and MLflow.

    python -m benchmarks.engine_overhead [--stages 50]

Stages that write one small file each are built and then reused; printed are medians in milliseconds.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from pydantic import Field

from storage.store.local import Store
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Summary
from tasks.engine.stage import engine_in_force, stage


class NumberConfig(StageConfig):
    """A stage that writes a number."""

    number: int = Field(0, ge=0, description="The number.")


@stage("number", parts=("number",))
def number(config: NumberConfig, *, context: Context) -> Summary:
    """Write one small file."""
    (context.part("number") / "number.txt").write_text(str(config.number))
    return {"number": config.number}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", type=int, default=50, help="how many stages are built and reused")
    count = parser.parse_args().stages
    with tempfile.TemporaryDirectory() as home:
        for outcome in ("built", "reused"):
            seconds = []
            for index in range(count):
                with Builder(Store(Path(home)), Execution(workers=1)) as builder, engine_in_force(builder):
                    number(NumberConfig(number=index))
                assert builder.results[0].outcome == outcome
                seconds.append(builder.results[0].seconds)
            print(f"{outcome:<8}{statistics.median(seconds) * 1000:8.1f} ms a stage")


if __name__ == "__main__":
    main()
