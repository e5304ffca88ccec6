"""What each preset keeps of text files, and how fast the filter measures: `python -m benchmarks.filter_keeps FILES...`.

Each FILE is .jsonl.zst with `text` and perhaps `lang`; its documents are judged one by one, without deduplication.
A row of the table is one file, a column one preset: the share of documents kept, and the rule that dropped most.

    --stated       believe `lang` (default: the language is identified)
    --named        `filter.languages` names the languages that the file states (default: those of the preset)
    --by-language  a row for each language of a file instead of one for the file
"""

import argparse
import io
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import zstandard

from tasks.filter import FilterConfig
from tasks.filter.languages import language_code
from tasks.filter.presets import PRESETS
from tasks.filter.rules import judge
from tasks.filter.signals import SIGNALS_SCHEMA, measured
from tasks.filter.stage import job_settings


def documents(path: Path) -> Iterator[tuple[str, str]]:
    """Text and stated language of each document."""
    with path.open("rb") as file:
        for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8"):
            record = json.loads(line)
            yield record["text"], language_code(record.get("lang", ""))


def keeps(rows: list[tuple[str, str]], config: FilterConfig, stated: bool) -> tuple[float, str, float]:
    """Share kept, the rule that dropped most, CPU seconds."""
    started = time.process_time()
    settings = job_settings(config)
    signals = [{**measured(text, lang if stated else "", settings)[1], "id": ""} for text, lang in rows]
    verdicts = judge(config, pa.Table.from_pylist(signals, schema=SIGNALS_SCHEMA))
    spent = time.process_time() - started
    rule = Counter(verdicts.rules).most_common(1)
    return 1 - len(verdicts.rows) / len(rows), rule[0][0] if rule else "", spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--presets", default=",".join(PRESETS))
    for flag in ("--stated", "--named", "--by-language"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    presets = options.presets.split(",")
    print("| file | documents | " + " | ".join(presets) + " |\n|---|---|" + "---|" * len(presets))
    spent, count = 0.0, 0
    for path in options.files:
        groups = defaultdict(list)
        for text, lang in documents(path):
            groups[lang if options.by_language else ""].append((text, lang))
        for name, rows in sorted(groups.items()):
            cells = []
            for preset in presets:
                named = {"languages": sorted({lang for _, lang in rows if lang})} if options.named else {}
                share, rule, seconds = keeps(
                    rows, FilterConfig.model_validate({"preset": preset, **named}), options.stated
                )
                cells.append(f"{100 * share:.0f}" + (f" ({rule})" if share < 0.995 else ""))
                spent, count = spent + seconds, count + len(rows)
            title = path.name.removesuffix(".jsonl.zst") + (f" {name}" if name else "")
            print(f"| {title} | {len(rows)} | " + " | ".join(cells) + " |", flush=True)
    print(f"\n{count / spent:,.0f} documents a CPU second, {spent:.1f} s")


if __name__ == "__main__":
    main()
