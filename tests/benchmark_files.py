"""Small benchmarks as a user would write them: task files of lm-eval and their data in one folder."""

import json
from pathlib import Path
from typing import Any

COLOURS = ["red", "green", "blue", "brown"]

CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {train: examples.jsonl, test: colours.jsonl}}
training_split: train
test_split: test
output_type: multiple_choice
num_fewshot: 0
doc_to_text: "What colour is the {{thing}}? It is"
doc_to_target: gold
doc_to_choice: choices
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
"""
CHOICE_OF_TWO = """
include: colours.yaml
task: shades
dataset_kwargs: {data_files: {train: examples.jsonl, test: "sha*.jsonl"}}
metadata: {subsets: kind, cluster: pair, contrast: [warm, cold]}
"""
CLOZE = """
task: endings
dataset_path: csv
dataset_kwargs: {data_files: {validation: endings.csv}}
validation_split: validation
output_type: loglikelihood
doc_to_text: text
doc_to_target: "{{' ' + word}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
ROLLING = """
task: texts
dataset_path: json
dataset_kwargs: {data_files: {test: texts.jsonl}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list: [{metric: bits_per_byte}, {metric: word_perplexity}]
"""
GENERATION = """
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: !function prompts.question
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n", "."], max_gen_toks: 6}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
GROUP = """
group: both
task: [colours, shades]
"""
MODULE = "def question(document):\n    return f\"{document['first']} plus {document['second']} is\"\n"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def colour_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"thing": f"{COLOURS[n % 4]} house number {n}", "choices": COLOURS, "gold": n % 4}
        for n in range(start, start + count)
    ]


def write_benchmarks(folder: Path) -> Path:
    """Five tasks and a group of two of them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"colours": CHOICE, "shades": CHOICE_OF_TWO, "endings": CLOZE, "texts": ROLLING, "sums": GENERATION}
    for name, text in (files | {"group": GROUP}).items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "prompts.py").write_text(MODULE, encoding="utf-8")
    write_rows(folder / "examples.jsonl", colour_rows(6, start=100))
    write_rows(folder / "colours.jsonl", colour_rows(20))
    shades = [
        {"thing": f"wall {n // 2}", "choices": ["red", "blue"], "gold": n % 2, "kind": ("warm", "cold")[n % 2],
         "pair": f"wall {n // 2}"}
        for n in range(10)
    ]  # fmt: skip
    write_rows(folder / "shades.jsonl", shades)
    endings = "text,word\n" + "".join(f"The quiet river holds a {w},{w}\n" for w in ("castle", "doctor", "engine"))
    (folder / "endings.csv").write_text(endings, encoding="utf-8")
    texts = ["The golden letter sees a bridge. " * (6 * n + 1) for n in range(3)]
    write_rows(folder / "texts.jsonl", [{"text": text} for text in texts])
    write_rows(folder / "sums.jsonl", [{"first": n, "second": 1, "answer": str(n + 1)} for n in range(3)])
    return folder
