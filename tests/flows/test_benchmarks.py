"""Benchmarks through the command line: a recipe with task files of its own, and what an edit of one reruns."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmark_files import write_benchmarks
from hub_server import hub_server
from local_stages import STAGE_NAMES
from support import digests, llmill, outcomes, report_of, unwrapped

from flows.recipe import SHIPPED


def write_recipe(folder: Path) -> Path:
    """The smoke recipe with two benchmarks, by a path relative to it."""
    write_benchmarks(folder / "benchmarks")
    tasks = [{"path": "benchmarks", "name": "colours"}, {"path": "benchmarks/sums.yaml"}]
    text = (SHIPPED / "smoke.yaml").read_text().replace("  items: 40\n", f"  items: 40\n  tasks: {json.dumps(tasks)}\n")
    (folder / "own.yaml").write_text(text)
    return folder / "own.yaml"


@pytest.mark.slow
def test_an_edited_benchmark_reruns_evaluation_and_what_follows(smoke_home: Path, tmp_path: Path) -> None:
    recipe = str(write_recipe(tmp_path / "recipe"))
    done = report_of(llmill("run", recipe, "--plain", "--json", home=smoke_home))
    built = {stage for stage, outcome in outcomes(done).items() if outcome == "built"}
    assert built == {"items", "decontam", "evaluate", "release"}, "nothing of what they ask is in the data"
    scores = next(stage for stage in done["stages"] if stage["stage"] == "evaluate")["artifact"]["parts"]["scores"]
    lines = json.loads((Path(scores["uri"].removeprefix("file://")) / "scores.json").read_bytes())
    assert {"colours", "sums"} < {line["name"] for line in lines}

    def plan() -> dict[str, tuple[str, list[str]]]:
        stages = report_of(llmill("plan", recipe, "--json", home=smoke_home))["stages"]
        return {stage["stage"]: (stage["will"], stage["why"]) for stage in stages}

    assert {will for will, _ in plan().values()} == {"reuse"}
    data = tmp_path / "recipe" / "benchmarks" / "colours.jsonl"
    data.write_text(data.read_text().replace("house number 7", "garden number 7"))
    after = plan()
    assert [stage for stage in STAGE_NAMES if after[stage][0] == "build"] == ["evaluate"]
    assert "tasks[0]/colours.jsonl" in " ".join(after["evaluate"][1])
    assert {stage for stage, (will, _) in after.items() if will == "reuse"} == {"collect", "deduplicate", "filter"}
    again = report_of(llmill("run", recipe, "--plain", "--json", home=smoke_home))
    built = {stage for stage, outcome in outcomes(again).items() if outcome == "built"}
    assert built - {"release"} == {"items", "decontam", "evaluate"}, "what may change did not"


def test_a_benchmark_that_is_none_is_refused_before_anything_runs(home: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    (tmp_path / "recipe" / "benchmarks" / "sums.yaml").write_text("title: no task\n")
    result = llmill("run", str(recipe), "--plain", home=home)
    assert result.returncode == 2
    assert "evaluate.tasks[1]" in result.stderr and "sums.yaml: no task file of lm-eval" in unwrapped(result.stderr)
    assert "Traceback" not in result.stderr


SPLITS = ("train", "validation", "test")
CARD = "---\nconfigs:\n- config_name: ARC-Easy\n  data_files:\n" + "".join(
    f"  - split: {split}\n    path: ARC-Easy/{split}-*\n" for split in SPLITS
)


def arc_easy() -> dict[str, bytes]:
    """Files of the data set that lm-eval's task arc_easy names, with questions of our own."""
    choices = {"text": ["house", "tree", "river", "cloud"], "label": ["A", "B", "C", "D"]}
    rows = [
        {"id": f"q{number}", "question": f"Where does number {number} live?", "choices": choices, "answerKey": "B"}
        for number in range(8)
    ]
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return {"README.md": f"{CARD}---\n".encode()} | {
        f"ARC-Easy/{split}-00000-of-00001.parquet": data.getvalue() for split in SPLITS
    }


@pytest.mark.slow
def test_a_benchmark_of_lm_eval_is_brought_from_the_hub_and_kept(smoke_home: Path, tmp_path: Path) -> None:
    text = (SHIPPED / "smoke.yaml").read_text()
    tasks = "[{name: arc_easy, limit: 5, num_fewshot: 1}]"
    (tmp_path / "own.yaml").write_text(text.replace("  items: 40\n", f"  items: 40\n  tasks: {tasks}\n"))
    command = ("run", str(tmp_path / "own.yaml"), "--plain", "--json", "--to", "evaluate")
    online = {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    with hub_server("allenai/ai2_arc", arc_easy()) as (address, asked):
        environment = {**online, "HF_ENDPOINT": address}
        done = report_of(llmill(*command, home=smoke_home, environment=environment))
        assert any(path.endswith("test-00000-of-00001.parquet") for path in asked)
    *searched, stage = (stage for stage in done["stages"] if stage["outcome"] == "built")
    assert [one["stage"] for one in searched] == ["items", "decontam"], "nothing of it was in the data"
    scores = json.loads(
        (Path(stage["artifact"]["parts"]["scores"]["uri"].removeprefix("file://")) / "scores.json").read_bytes()
    )
    assert {line["items"] for line in scores if line["name"].startswith("arc_easy")} == {5}
    again = report_of(llmill(*command, "--force", "evaluate", home=smoke_home, environment=environment))
    assert digests(again) == digests(done), "with the hub gone, its data are at hand"
