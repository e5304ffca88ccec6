"""What the stages from collect to tokenize cost on records of a data set: processor time and disk by byte of text.

    python -m benchmarks.data_stages RECIPE CORPUS.jsonl.zst... [--bytes 900]

The texts of the corpora, cut into records of about `--bytes` (TinyStories has 900 a story, FineWeb-Edu 4,900 a page),
are written to Parquet as the hub has it, and take the place of the data set of a recipe that ships. One worker; the
time is that of the processes, start included, which other programs do not lengthen.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard

from flows.recipe import SHIPPED
from tasks.tokenize.tokenizer import pieces

STAGES = ("collect", "deduplicate", "filter", "tokenizer", "tokenize")
VOCABULARY = 16_384  # no small corpus has words for 50,304


def texts(corpora: list[Path], bytes_of_one: int) -> Iterator[str]:
    """Records of the corpora, cut where a word begins."""
    for corpus in corpora:
        with zstandard.open(corpus, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield from pieces(json.loads(line)["text"], bytes_of_one)


def write(folder: Path, name: str, corpora: list[Path], bytes_of_one: int) -> tuple[Path, int, int]:
    """The recipe with files in place of its data set, bytes of text, and bytes of the file."""
    rows = list(texts(corpora, bytes_of_one))
    pq.write_table(pa.table({"text": rows}), folder / "records.parquet")  # snappy, as the hub's
    recipe = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
    del recipe["collect"]["huggingface"]
    recipe["collect"]["files"] = [{"name": "records", "path": "records.parquet"}]
    recipe["collect"]["heldout_fraction"] = 0.01
    recipe["tokenizer"]["vocabulary_size"] = min(VOCABULARY, recipe["tokenizer"].get("vocabulary_size", VOCABULARY))
    recipe["execution"]["workers"] = 1
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    size = (folder / "records.parquet").stat().st_size
    return folder / "recipe.yaml", sum(len(text.encode()) for text in rows), size


def run_to(stage: str, recipe: Path, home: Path) -> float:
    """Processor seconds of a run that ends with a stage."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "flows.cli.main", "run", str(recipe), "--plain", "--to", stage]
    environment = {**os.environ, "LLMILL_HOME": str(home)}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=("tinystories", "gpt2-124m"))
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--bytes", type=int, default=900)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        recipe, text_bytes, file_bytes = write(Path(scratch), options.recipe, options.corpora, options.bytes)
        home, total = Path(scratch) / "home", 0.0
        print(f"{text_bytes / 1e6:.1f} MB of text, {file_bytes / 1e6:.1f} MB of Parquet")
        for stage in STAGES:
            seconds = run_to(stage, recipe, home)
            total += seconds
            print(f"{stage:<12}{seconds:7.1f} CPU-s  {seconds / text_bytes * 1e6:.3f} a MB of text", flush=True)
        files = {file.stat().st_ino: file.stat().st_size for file in home.rglob("*") if file.is_file()}
        held = sum(files.values())
        print(f"together    {total:7.1f} CPU-s, {total / file_bytes * 1e6:.2f} a MB of Parquet")
        print(f"the home holds {held / file_bytes:.2f} bytes a byte of Parquet")


if __name__ == "__main__":
    main()
