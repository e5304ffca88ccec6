"""Print the page of all stages, made from the flow itself: `python -m docs.stages > docs/stages.md`."""

import inspect
from pathlib import Path

from flows.build import BUILD
from flows.pipeline import Call

ROOT = Path(__file__).parents[1]

HEAD = """# The stages

Made from the code by `python -m docs.stages`. Each stage has a section of its name in the recipe
([settings.md](settings.md)) and a page in its folder: what comes in, what goes out, by which rules, at what cost, and
where to begin to read. `llmill inspect latest/STAGE` shows what a stage made, `llmill cat latest/STAGE/PART` its rows.

| stage | what it does | reads | writes | its time grows with |
|---|---|---|---|---|
"""

TAIL = """
Costs in these pages are orders of magnitude of one CPU core; how they were measured is in
[benchmarks/README.md](../benchmarks/README.md). What a retraining does otherwise:
[tasks/retrain/](../tasks/retrain/README.md).

**Limits of a stage.** `execution.retries` (2) and `execution.timeout_minutes` (none) hold for all stages;
`execution.stages.STAGE.retries` and `.timeout_minutes` for one. They change no result and enter no key. A retry follows
an error of the network (refused, reset, timed out, HTTP 408, 429 or 5xx) or of a busy database, after
`retry_delay_seconds` (2) that double with each, give or take half; never an error of data, settings, code or a full
disk. Retries are counted in the run file and the build record (`attempts`). A stage that runs out of time ends with its
worker processes and its trainer, which saves first; it is not tried again, and the same command goes on from finished
shards and checkpoints.

**New text.** What costs time is kept by shard, and of a shard that has changed by document. A line such as `filter
built 2.4 s 3 of 42 shards new` says how much there was to do. A new tokenizer encodes all text again; retraining keeps
the champion's.
"""


def page() -> str:
    """The page: a line for each stage in the order of the flow, then what holds for all of them."""
    return HEAD + "".join(_line(call) for call in BUILD.calls) + TAIL


def _line(call: Call) -> str:
    stage = call.stage
    reads = dict.fromkeys(f"{call.inputs[name].stage}/{part}" for name, parts in stage.reads.items() for part in parts)
    work = stage.about.work
    cells = (
        f"[{stage.name}]({_page_of(call)})",
        " ".join(
            inspect.cleandoc(stage.function.__doc__ or "").partition("\n\n")[0].partition(". ")[0].rstrip(".").split()
        ),
        ", ".join(reads) or "the sources" * stage.about.reads_sources,
        ", ".join(stage.parts),
        work.unit if work else "–",
    )
    return f"| {' | '.join(cells)} |\n"


def _page_of(call: Call) -> str:
    """The section of its name on the page in its folder, or else its module."""
    module = Path(inspect.getfile(call.stage.function))
    readme = module.with_name("README.md")
    name = call.stage.name
    has_section = readme.is_file() and f"\n## {name}\n" in readme.read_text(encoding="utf-8")
    where = f"{readme.relative_to(ROOT)}#{name}" if has_section else str(module.relative_to(ROOT))
    return f"../{where}"


if __name__ == "__main__":
    print(page(), end="")
