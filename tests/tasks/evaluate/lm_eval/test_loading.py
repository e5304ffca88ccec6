"""What is wrong with a benchmark is said before anything is measured; what is asked depends on contents alone."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import colour_rows, write_benchmarks, write_rows

from storage.errors import ConfigError, DataError, LlmillError
from tasks.evaluate.config import BenchmarkConfig
from tasks.evaluate.lm_eval.loading import Loaded, load_benchmarks
from tasks.evaluate.lm_eval.task_files import observe_benchmarks


def load(path: Path, seed: int = 1, **settings: Any) -> Loaded:
    return load_benchmarks([BenchmarkConfig(path=str(path), **settings)], seed)


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


def write(name: str, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(text)

    return change


WRONG = {
    "no task": (write("colours.yaml", "title: colours\n"), "colours.yaml", r"colours\.yaml: no task file of lm-eval"),
    "a list": (write("colours.yaml", "- 1\n"), None, r"colours\.yaml: a task file of lm-eval is a mapping of fields"),
    "not YAML": (write("colours.yaml", "task: [\n"), None, r"colours\.yaml, line 2, column 1: not valid YAML"),
    "twice": (write("again.yaml", "task: colours\n"), None, r"the task 'colours' is defined in .*; rename one"),
    "itself": (edit("shades.yaml", "include: colours", "include: shades"), None, r"shades\.yaml: includes itself"),
    "include": (edit("shades.yaml", "include: colours", "include: lost"), None, r"lost\.yaml: cannot be read"),
    "data": (edit("colours.yaml", "examples.jsonl", "lost.jsonl"), None, r"data_files: lost\.jsonl: no such file"),
    "no data": (edit("colours.yaml", "{data_files", "{files"), None, r"needs dataset_kwargs\.data_files"),
    "split": (edit("colours.yaml", "test_split: test", "test_split: t"), None, r"test_split is 't', but .* 'test'"),
    "member": (edit("group.yaml", "shades]", "shade]"), None, r"group\.yaml: the group both lists 'shade'"),
    "field": (edit("colours.yaml", "doc_to_target: gold", "doc_to_target: label"), None,
              r"examples\.jsonl, line 1: the row has no field 'label', which doc_to_target .*\(it has: thing, choices"),
    "row": (edit("colours.jsonl", '"gold": 2', '"god": 2'), None,
            r"colours\.jsonl, line 3: the row has no field 'gold'"),
    "JSON": (edit("colours.jsonl", '"gold": 2}', '"gold": 2'), None, r"colours\.jsonl, line 3: malformed JSON"),
    "gold": (edit("colours.jsonl", '"gold": 3', '"gold": 4'), None, r"colours\.jsonl, line 4: the right answer is 4"),
    "choices": (edit("colours.jsonl", '1", "choices": ["red"', '1", "choices": [""'), None,
                r"colours\.jsonl, line 2: the choices are"),
    "empty": (write("colours.jsonl", ""), None, r"colours\.jsonl, line 1: empty file"),
    "template": (edit("colours.yaml", "{{thing}}", "{{thing}"), None, r"not valid Jinja"),
    "function": (write("prompts.py", "import nowhere_at_all\n"), None, r"sums\.yaml: a `!function` cannot be used"),
    "raising": (write("prompts.py", "def question(d):\n    return d['third']\n"), None,
                r"sums\.yaml: lm-eval .* KeyError"),
    "metric": (edit("endings.yaml", "aggregation: perplexity", "aggregation: lost"), None,
               r"aggregation of the metric"),
    "text": (edit("colours.yaml", "dataset_path: json", "dataset_path: nobody/nothing"), None, r"come from .* hub"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str, home: Path, tmp_path: Path) -> None:
    change, path, message = WRONG[case]
    folder = write_benchmarks(tmp_path / "benchmarks")
    change(folder)
    with pytest.raises(LlmillError, match=message):
        load(folder / path if path else folder)


def test_names_that_are_not_there_bring_the_nearest(home: Path, tmp_path: Path) -> None:
    folder = write_benchmarks(tmp_path / "benchmarks")
    with pytest.raises(DataError, match=r"tasks\[0\]\.name: no task 'colors' there \(did you mean 'colours'\?\)"):
        load(folder, name="colors")
    with pytest.raises(ConfigError, match=r"has no task, group or tag 'arc_eazy' \(did you mean 'arc_easy'"):
        observe_benchmarks([BenchmarkConfig(name="arc_eazy")])
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"data goes with the name of a pack \(arc_challenge, arc_easy, blimp"):
        BenchmarkConfig(name="blimpp", data="x")


def test_a_hub_that_cannot_be_reached_is_said_within_seconds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(switch)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delenv("HF_HOME", raising=False)
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(DataError, match=r"tasks\[0\]: piqa: .* hub .*127\.0\.0\.1:1 cannot be reached"):
        load_benchmarks([BenchmarkConfig(name="piqa")], 1)
    assert sum(waits) < 1, "left alone, the libraries wait 25 s between their attempts"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = dict(os.environ)
    with pytest.raises(DataError, match=r"blimp: .* HF_HUB_OFFLINE is set"):
        load_benchmarks([BenchmarkConfig(name="blimp")], 1)  # a group of 67 tasks
    assert dict(os.environ) == before


def test_the_same_task_twice_is_refused_unless_it_is_asked_otherwise(home: Path, tmp_path: Path) -> None:
    folder = str(write_benchmarks(tmp_path / "benchmarks"))
    one = BenchmarkConfig(path=folder, name="endings")
    with pytest.raises(ConfigError, match=r"tasks\[1\]: the task endings is asked for twice"):
        load_benchmarks([one, one], 1)


def test_examples_need_a_split_and_enough_rows(home: Path, tmp_path: Path) -> None:
    folder = write_benchmarks(tmp_path / "benchmarks")
    with pytest.raises(DataError, match="colours has 6 examples to draw from, not 7"):
        load(folder, name="colours", num_fewshot=7)
    edit("colours.yaml", "training_split: train", "")(folder)
    with pytest.raises(DataError, match="colours has no split to draw 2 examples from"):
        load(folder, name="colours", num_fewshot=2)
    with pytest.raises(DataError, match="endings has 2 examples to draw from, not 3"):
        load(folder, name="endings", num_fewshot=3)


@pytest.mark.parametrize("splits", ["validation_split: train", "validation_split: train\nfewshot_split: train"])
def test_no_item_is_an_example_for_itself(home: Path, tmp_path: Path, splits: str) -> None:
    """lm-eval alone draws an item for itself where both come from the validation split. With all others drawn but
    one, the chance to miss it in six items would be 1e-4."""
    folder = write_benchmarks(tmp_path / "benchmarks")
    edit("colours.yaml", "training_split: train\ntest_split: test", splits)(folder)
    task = load(folder, name="colours", num_fewshot=5).tasks[0]
    task.task.set_fewshot_seed(1)
    for document in task.documents:
        prompt = task.task.fewshot_context(document, 5)
        assert prompt.count(f"What colour is the {document['thing']}?") == 1
        assert prompt.count("What colour is the ") == 6


def test_a_sample_is_drawn_by_contents(home: Path, tmp_path: Path) -> None:
    """Neither the order of the rows nor new ones decide: of 20 rows and 5 more, most of the sample stays."""
    folder = write_benchmarks(tmp_path / "benchmarks")

    def sample(rows: list[dict], seed: int = 1) -> list[str]:
        write_rows(folder / "colours.jsonl", rows)
        return [document["thing"] for document in load(folder, seed, name="colours", limit=8).tasks[0].documents]

    rows = colour_rows(20)
    first = sample(rows)
    assert first != [row["thing"] for row in rows[:8]]
    assert set(sample(rows[::-1])) == set(first)
    assert set(sample(rows, seed=2)) != set(first)
    assert len(set(sample(colour_rows(22))) & set(first)) >= 6  # each new row drives out one at most


def test_local_data_leave_no_cache(home: Path, tmp_path: Path) -> None:
    write_benchmarks(tmp_path / "benchmarks")
    load(tmp_path / "benchmarks")
    assert list(home.rglob("*")) == []


def observed(folder: Path, **settings: Any) -> dict[str, str]:
    return observe_benchmarks([BenchmarkConfig(path=str(folder), **settings)])


def test_every_file_that_a_figure_depends_on_is_observed(home: Path, tmp_path: Path) -> None:
    folder = write_benchmarks(tmp_path / "benchmarks")
    before = observed(folder)
    assert "tasks[0]/colours.jsonl" in before
    for name in ("colours.jsonl", "examples.jsonl", "shades.jsonl", "prompts.py", "sums.yaml", "endings.csv"):
        (folder / name).write_text((folder / name).read_text() + "\n")
        after = observed(folder)
        assert [label for label in after if after[label] != before[label]] == [f"tasks[0]/{name}"]
        before = after
    (folder / "notes.txt").write_text("not part of it")
    assert observed(folder) == before
    folder.rename(tmp_path / "moved")
    assert observed(tmp_path / "moved") == before


def test_one_task_of_a_folder_depends_on_its_own_files(home: Path, tmp_path: Path) -> None:
    folder = write_benchmarks(tmp_path / "benchmarks")
    assert set(observed(folder, name="shades")) == {
        f"tasks[0]/{name}" for name in ("shades.yaml", "colours.yaml", "shades.jsonl", "examples.jsonl")
    }
    assert observed(folder, name="shades") == observed(folder / "shades.yaml")
    assert set(observed(folder, name="both")) > set(observed(folder, name="shades"))


def test_a_pack_depends_on_its_data_and_lm_evals_own_on_its_version(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.jsonl", [{"sentence_good": "a", "sentence_bad": "b"}])
    pack = observe_benchmarks([BenchmarkConfig(name="blimp", data=str(tmp_path / "pairs.jsonl"))])
    assert set(pack) == {"tasks[0]/packs/blimp.yaml", "tasks[0]/pairs.jsonl"}
    assert set(observe_benchmarks([BenchmarkConfig(name="arc_easy")])) == {"lm_eval"}
    names = next((home / "cache").glob("lm-eval-*-names.json"))
    assert "arc" in json.loads(names.read_bytes())["arc_easy"]


def test_a_folder_of_data_makes_a_pack_a_group(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "blimp"
    folder.mkdir()
    for name in ("islands", "quantifiers"):
        write_rows(folder / f"{name}.jsonl", [{"sentence_good": f"{name} are", "sentence_bad": f"{name} is"}] * 3)
    loaded = load_benchmarks([BenchmarkConfig(name="blimp", data=str(folder), limit=2)], 1)
    assert [task.label for task in loaded.tasks] == ["blimp/islands", "blimp/quantifiers"]
    assert [(group.label, group.members) for group in loaded.groups] == [
        ("blimp", ["blimp/islands", "blimp/quantifiers"])
    ]
    with pytest.raises(
        DataError, match=r"the row has no field 'query', which doc_to_text of the task 'arc_easy_islands'"
    ):
        load_benchmarks([BenchmarkConfig(name="arc_easy", data=str(folder))], 1)
