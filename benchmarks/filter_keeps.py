"""What each preset keeps of text files, and how fast the filter measures: `python -m benchmarks.filter_keeps FILES...`.

Each FILE is .jsonl.zst with `text` and perhaps `lang`; its documents are judged one by one, without deduplication.
A row of the table is one file, a column one preset: per cent of the documents kept, and how many each rule dropped.

    --stated       believe `lang` (default: the language is identified)
    --named        `filter.languages` names the languages that the file states (default: those of the preset)
    --by-language  a row for each language of a file that loses any, and one for the languages that lose none
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


Row = tuple[str, str]  # text and stated language


def dropped(rows: list[Row], config: FilterConfig, stated: bool) -> tuple[Counter[str], float]:
    """How many documents each rule drops, and CPU seconds."""
    started = time.process_time()
    settings = job_settings(config)
    signals = [{**measured(text, lang if stated else "", settings)[1], "id": ""} for text, lang in rows]
    verdicts = judge(config, pa.Table.from_pylist(signals, schema=SIGNALS_SCHEMA))
    return Counter(verdicts.rules), time.process_time() - started


def cell(documents: int, rules: Counter[str]) -> str:
    """Per cent kept, rounded down, and the rules that dropped the rest."""
    listed = ", ".join(f"{rule} {count}" for rule, count in rules.most_common())
    return f"{100 * (documents - rules.total()) // documents}" + (f" ({listed})" if listed else "")


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
        whole: list[int] = []  # documents of each language that loses none
        title = path.name.removesuffix(".jsonl.zst")
        for name, rows in sorted(groups.items()):
            named = {"languages": sorted({lang for _, lang in rows if lang})} if options.named else {}
            lost = []
            for preset in presets:
                config = FilterConfig.model_validate({"preset": preset, **named})
                rules, seconds = dropped(rows, config, options.stated)
                lost.append(rules)
                spent, count = spent + seconds, count + len(rows)
            if options.by_language and not any(lost):
                whole.append(len(rows))
                continue
            cells = [cell(len(rows), rules) for rules in lost]
            label = f"{title} {name or 'no language'}" if options.by_language else title
            print(f"| {label} | {len(rows)} | " + " | ".join(cells) + " |", flush=True)
        if whole:
            print(
                f"| {title}, languages kept whole: {len(whole)} | {sum(whole)} | "
                + " | ".join("100" for _ in presets)
                + " |"
            )
    print(f"\n{count / spent:,.0f} documents a CPU second, {spent:.1f} s")


if __name__ == "__main__":
    main()
