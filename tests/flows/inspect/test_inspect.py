"""`runs`, `diff`, `inspect`, `cat`, `explain`: what they show of two small runs, for people and for programs."""

import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support import Command, llmill_command, unwrapped
from web_archives import answer, record, web_page, write_archive

from flows.inspect.explain_text import explain_text
from storage.runs import runs
from storage.store.local import Store


def digits(home: Path) -> tuple[str, str]:
    """The names of both runs as `llmill runs` shows them."""
    first, second = (run["run"].rpartition("-")[2] for run in runs(home))
    return first, second


def rows(command: Command, home: Path, reference: str) -> list[dict[str, Any]]:
    return command.json("cat", reference, home=home)


def narrow(text: str, columns: int = 80) -> None:
    wide = [line for line in text.splitlines() if len(line) > columns]
    assert not wide, wide


def test_runs_is_a_table_of_80_columns_with_the_headline_scores(command: Command, two_runs: Path) -> None:
    status, out, _ = command("runs", home=two_runs)
    narrow(out)
    head, first, second, *_ = out.splitlines()
    assert status == 0 and head.split() == [
        "run",
        "when",
        "(UTC)",
        "recipe",
        "status",
        "time",
        "new",
        "base",
        "tuned",
        "answers",
    ]
    assert first.split()[0] == digits(two_runs)[0] and " 9/9 " in first
    assert " completed " in second and " 3/9 " in second, "the newest stands last"
    summary = runs(two_runs)[1]["stages"][-2]["artifact"]["summary"]
    scores = [summary[f"{name}"] for name in ("heldout_bits_per_byte_base", "heldout_bits_per_byte_tuned")]
    assert [float(word) for word in second.split()[-3:-1]] == [round(score, 2) for score in scores]
    assert command.json("runs", home=two_runs) == runs(two_runs)


def test_diff_names_the_field_the_reasons_and_the_paired_differences(command: Command, two_runs: Path) -> None:
    found = command.json("diff", *digits(two_runs), home=two_runs)
    assert found["recipe"] == [{"field": "finetune.steps", "old": 20, "new": 10}]
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert [name for name in stages if not stages[name]["same"]] == ["finetune", "evaluate", "release"]
    assert stages["finetune"]["differences"] == ["config finetune.steps: 20 -> 10"]
    assert {"figure": "steps", "old": 20, "new": 10} in stages["finetune"]["figures"]
    assert stages["evaluate"]["differences"][0].startswith("input finetune/model: ")
    scores = {(score["name"], score["metric"]): score for score in found["scores"]}
    lines = {(line["name"], line["metric"]): line for line in rows(command, two_runs, "latest/evaluate/scores")
             if line.get("model") == "tuned" and line["value"] is not None}  # fmt: skip
    assert scores.keys() == lines.keys()
    for figure, score in scores.items():
        assert score["new"] == pytest.approx(lines[figure]["value"], rel=1e-3), figure
        assert score["difference"] == pytest.approx(score["new"] - score["old"])
        assert score["low"] <= score["high"] and score["only_old"] == score["only_new"] == 0
        assert (score["p_value"] is not None) == ("accuracy" in figure[1] or figure[1].startswith("reproduced"))
    assert scores["answers", "bits_per_byte"]["verdict"] == "worse", "half the fine-tuning answers worse"


def test_diff_of_the_base_models_finds_no_difference(command: Command, two_runs: Path) -> None:
    found = command.json("diff", *digits(two_runs), "--model", "base", home=two_runs)
    assert {(score["difference"], score["better"], score["verdict"]) for score in found["scores"]} == {
        (0.0, 0, "unclear")
    }


def test_diff_refuses_a_model_that_no_run_has(command: Command, two_runs: Path) -> None:
    for more in ((), ("--json",)):
        status, _, err = command("diff", *digits(two_runs), "--model", "tunde", *more, home=two_runs)
        assert status == 2 and "--model tunde: no such model (did you mean 'tuned'?)" in unwrapped(err)


def test_diff_lists_the_items_that_changed_most(command: Command, two_runs: Path) -> None:
    first, second = digits(two_runs)
    arguments = ("diff", first, second, "--items", "answers/bits_per_byte", "--limit", "5")
    (listed,) = command.json(*arguments, home=two_runs)["items"]
    amounts: dict[str, dict[str, Any]] = {}
    for name, run in (("old", first), ("new", second)):
        for row in rows(command, two_runs, f"{run}/evaluate/items"):
            if (row["name"], row["metric"], row["model"]) == ("answers", "bits_per_byte", "tuned"):
                amounts.setdefault(row["key"], {})[name] = row["amount"]
    largest = sorted((abs(both["new"] - both["old"]) for both in amounts.values()), reverse=True)[:5]
    moved = [abs(amounts[item["key"]]["new"] - amounts[item["key"]]["old"]) for item in listed["items"]]
    assert moved == pytest.approx(largest)
    assert all(item["prompt"] and item["target"] and (item["gain"] < 0) == (item["new"] > item["old"])
               for item in listed["items"])  # fmt: skip
    status, out, _ = command(*arguments, home=two_runs)
    narrow(out)
    assert status == 0 and "items that move answers bits_per_byte most" in out
    status, _, err = command("diff", first, second, "--items", "nothing", home=two_runs)
    assert status == 2 and "cloze" in err


def test_inspect_shows_figures_first_rows_and_the_lineage(command: Command, two_runs: Path) -> None:
    found = command.json("inspect", "latest/release", home=two_runs)
    stages: dict[str, str] = {}

    def walk(node: dict[str, Any]) -> None:
        stages.setdefault(node["stage"], node["run"].rpartition("-")[2])
        for child in node.get("inputs", ()):
            walk(child)

    walk(found["lineage"])
    first, second = digits(two_runs)
    assert stages.pop("finetune") == stages.pop("evaluate") == stages.pop("release") == second
    assert set(stages.values()) == {first} and len(stages) == 6
    status, out, _ = command("inspect", "latest/filter", home=two_runs)
    narrow(out)
    assert status == 0 and "rows, " in out and "─ deduplicate" in out and "intact" in out
    part = command.json("inspect", "latest/filter/ledger", home=two_runs)["parts"]
    assert list(part) == ["ledger"] and set(part["ledger"]["preview"][0]) == {
        "id",
        "rule",
        "value",
        "threshold",
        "language",
        "shard",
    }
    assert part["ledger"]["rows"] == found_rows(command, two_runs)


def found_rows(command: Command, home: Path) -> int:
    return len(rows(command, home, "latest/filter/ledger"))


def test_a_reference_is_a_digest_a_run_a_part_or_a_file(command: Command, two_runs: Path) -> None:
    artifact = Store(two_runs).artifact(command.json("inspect", "latest/filter", home=two_runs)["digest"])
    assert artifact is not None
    ledger = rows(command, two_runs, "latest/filter/ledger")
    for reference in (f"{artifact.digest[:10]}/ledger", artifact["ledger"].digest[:12],
                      f"{digits(two_runs)[0]}/filter/ledger", "latest/filter/ledger/ledger.parquet"):  # fmt: skip
        assert rows(command, two_runs, reference) == ledger, reference


def test_the_digests_on_a_model_card_lead_to_the_build_records(command: Command, two_runs: Path) -> None:
    release = Store(two_runs).artifact(command.json("inspect", "latest/release", home=two_runs)["digest"])
    assert release is not None
    section = (release["release"] / "README.md").read_text().split("## Made from")[1].split("##")[0]
    cells = re.findall(r"^\| (\w+) \| (\w+) \| `([0-9a-f]{64})` \|$", section, re.MULTILINE)
    assert [cell[:2] for cell in cells] == [
        ("finetune", "model"),
        ("finetune", "adapter"),
        ("tokenizer", "tokenizer"),
        ("evaluate", "scores"),
        ("filter", "documents"),
    ]
    for stage, part, digest in cells:
        found = command.json("inspect", digest, home=two_runs)
        assert found["stage"] == stage and found["builds"], (stage, part)
        assert all(record["parts"][part] == digest for record in found["builds"])
        assert all(record["identity"]["config"] and record["host"] for record in found["builds"])


@pytest.mark.parametrize(
    ("reference", "pieces"),
    [
        ("latest", ("names a run", "tokenizer")),
        ("latest/nothing", ("no artifact of 'nothing'", "release")),
        ("latest/filter/nothing", ("no part 'nothing'", "ledger")),
        ("latest/filter/ledger/nothing", ("no file 'nothing'", "ledger.parquet")),
        ("nothing", ("neither a run nor a digest", "RUN/STAGE")),
        ("0123456789abcdef", ("no artifact or part begins so",)),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(
    command: Command, two_runs: Path, reference: str, pieces: tuple[str, ...]
) -> None:
    status, out, err = command("cat", reference, home=two_runs)
    assert status == 2 and not out
    for piece in pieces:
        assert unwrapped(piece) in unwrapped(err)


def test_cat_gives_every_kind_of_part_as_json_lines(command: Command, two_runs: Path) -> None:
    documents = {row["id"]: row for row in rows(command, two_runs, "latest/filter")}
    tokens = rows(command, two_runs, "latest/tokenize")
    (canaries,) = rows(command, two_runs, "latest/tokenize/canaries")
    assert len(tokens) == len(documents) + sum(canary["repeats"] for canary in canaries["canaries"])
    assert {row["text"] for row in documents.values()} < {row["text"] for row in tokens}, "decoded to the very text"
    status, out, _ = command("cat", "latest/tokenize", "--ids", "--limit", "2", home=two_runs)
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and len(lines) == 2 and lines[0]["ids"][0] == 0 and len(lines[0]["ids"]) == lines[0]["tokens"]
    tensors = {row["tensor"]: row["shape"] for row in rows(command, two_runs, "latest/pretrain") if "tensor" in row}
    assert tensors["model.embed_tokens.weight"] == [512, 128]
    assert [row["step"] for row in rows(command, two_runs, "latest/pretrain/curve")][-1] == 40
    release = {row["file"] for row in rows(command, two_runs, "latest/release")}
    assert {"README.md", "config.json", "model.safetensors"} <= release
    assert rows(command, two_runs, "latest/evaluate/scores/scores.json")[0]["name"] == "heldout"


def test_cat_ends_quietly_when_its_reader_has_gone(two_runs: Path) -> None:
    pipe = '"$0" "$@" | head -1; echo ${PIPESTATUS[0]}'
    result = subprocess.run(
        ["bash", "-c", pipe, *llmill_command(), "cat", "latest/evaluate/items"],
        env={"PATH": "/usr/bin:/bin", "LLMILL_HOME": str(two_runs)},
        capture_output=True,
        text=True,
    )
    row, status = result.stdout.splitlines()
    assert json.loads(row)["key"] and status == "0" and not result.stderr


def test_explain_shows_why_a_document_was_dropped(command: Command, two_runs: Path) -> None:
    ledger = rows(command, two_runs, "latest/deduplicate/ledger")
    near = next(row for row in ledger if row["reason"] == "near")
    found = command.json("explain", "latest", near["id"][:16], home=two_runs)
    assert [step["stage"] for step in found["steps"]] == ["collect", "deduplicate"]
    step = found["steps"][1]
    assert step["verdict"] == "dropped" and step["twin"] == near["twin"] and step["jaccard"] == near["jaccard"]
    kept = command.json("explain", "latest", near["twin"], home=two_runs)["steps"][1]
    assert kept["verdict"] == "kept" and near["id"] in {other["id"] for other in kept["kept_instead_of"]}
    for row in rows(command, two_runs, "latest/filter/ledger"):
        step = command.json("explain", "latest", row["id"], home=two_runs)["steps"][-1]
        assert (step["stage"], step["verdict"], step["reason"]) == ("filter", "dropped", row["rule"])
        first = next(rule for rule in step["rules"] if not rule["passed"])
        assert (first["rule"], first["value"], first["threshold"]) == (row["rule"], row["value"], row["threshold"])


def test_explain_follows_a_document_to_its_tokens_and_its_scores(command: Command, two_runs: Path) -> None:
    documents = rows(command, two_runs, "latest/filter")
    for split, last in (("train", "trained on"), ("heldout", "held out")):
        document = [row for row in documents if row["split"] == split][-1]
        found = command.json("explain", "latest", document["id"], home=two_runs)
        steps = {step["stage"]: step for step in found["steps"]}
        assert steps["filter"]["verdict"] == "kept" and all(rule["passed"] for rule in steps["filter"]["rules"])
        assert steps["pretrain"]["verdict"] == last
        place = steps["tokenize"]
        shard = next((two_runs / "store" / "parts" / "tokenize" / "tokens").glob(f"*/{place['file']}"))
        assert decoded(two_runs, shard, place["start"], place["end"]) == document["text"]
    measured = next(row for row in rows(command, two_runs, "latest/evaluate/items") if row["name"] == "heldout")
    items = command.json("explain", "latest", measured["document"], home=two_runs)["steps"][-1]["items"]
    assert {"heldout", "cloze"} & {item["name"] for item in items}
    status, out, _ = command("explain", "latest/filter", measured["document"], home=two_runs)
    narrow(out)
    assert status == 0 and "rules passed" in out and "tokenize" not in out


def decoded(home: Path, shard: Path, start: int, end: int) -> str:
    import numpy as np

    from tasks.tokenize.tokenizer import load_tokenizer

    folder = next((home / "store" / "parts" / "tokenizer" / "tokenizer").iterdir())
    return load_tokenizer(folder).decode(np.load(shard)[start + 1 : end].tolist())


def test_explain_names_the_stages_whose_data_are_gone() -> None:
    found = {"document": {"title": "A title"}, "steps": [], "gone": ["filter", "evaluate"]}
    assert explain_text(found).endswith("\nnot shown: the data of filter, evaluate are gone")


def test_explain_of_a_title_that_many_have_or_none(command: Command, two_runs: Path) -> None:
    title = rows(command, two_runs, "latest/collect/documents")[3]["title"]
    assert command.json("explain", "latest", title, home=two_runs)["document"]["title"] == title
    status, _, err = command("explain", "latest", "0000", home=two_runs)
    assert status == 2 and "documents. Give an id" in unwrapped(err)
    status, _, err = command("explain", "latest", "no such thing", home=two_runs)
    assert status == 2 and "no document" in unwrapped(err)


def test_a_file_that_is_one_document_is_explained_by_its_name(command: Command, home: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    (texts / "inner").mkdir(parents=True)
    for name in ("one.txt", "inner/two +x.txt", "inner/three.txt"):
        (texts / name).write_text(f"the text of {name}")
    source = f"collect.files=[{{path: {texts}}}]"
    settings = ("--set", source, "--set", "collect.synthetic=null", "--set", "collect.heldout_fraction=0")
    assert command("run", "smoke", "--plain", "--to", "collect", *settings, home=home)[0] == 0
    for name in ("inner/two +x.txt", "two +x.txt"):
        found = command.json("explain", "latest", name, home=home)
        assert found["document"]["group"] == "inner/two +x.txt"


def test_a_record_that_was_set_aside_is_explained_by_its_file(command: Command, home: Path, tmp_path: Path) -> None:
    good = "".join(json.dumps({"text": f"Sentence {n} says something of its own."}) + "\n" for n in range(30))
    (tmp_path / "notes.jsonl").write_text(good + "{not json\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("collect: {files: [{path: notes.jsonl}], max_bad_fraction: 0.5}\n")
    status, _, err = command("run", str(recipe), "--plain", "--to", "collect", home=home)
    assert status == 0, err
    found = command.json("explain", "latest", "notes.jsonl", home=home)
    (step,) = found["steps"]
    assert (step["verdict"], step["line"]) == ("quarantined", 31) and step["reason"]


def test_a_record_is_found_by_the_id_that_it_has_itself(command: Command, home: Path, tmp_path: Path) -> None:
    """Lines 1 to 3 stand twice, under other ids; a copy is dropped for its twin, not for itself."""
    rows = [{"id": f"row-{n}", "text": f"Report {n} says what bridge {n} has cost the town of {n}."} for n in range(30)]
    rows += [{**row, "id": f"copy-{n}"} for n, row in enumerate(rows[:3])]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("collect: {files: [{path: rows.jsonl}]}\nfilter: {preset: none}\n")
    status, _, err = command("run", str(recipe), "--plain", "--to", "filter", home=home)
    assert status == 0, err
    found = command.json("explain", "latest", "copy-1", home=home)
    kept = command.json("explain", "latest", "row-1", home=home)
    assert found["document"]["id"] != kept["document"]["id"]
    step = found["steps"][-1]
    assert (step["stage"], step["verdict"], step["twin"]) == ("deduplicate", "dropped", kept["document"]["id"])
    _, out, _ = command("explain", "latest", "copy-1", home=home)
    assert "copy-1" in out and "row-1, which stays" in out
    assert command.json("explain", "latest", found["document"]["id"], home=home) == found


def test_a_page_that_a_rule_dropped_is_explained_by_its_address_title_or_file(
    command: Command, home: Path, tmp_path: Path
) -> None:
    """Of a web archive, of a dump, of a folder, of a zip: what collect counted as dropped is not `no document`."""
    story = "The lighthouse keeper wrote down the weather of every day, for forty years, in small blue books."
    write_archive(
        tmp_path / "a.warc.gz",
        record(answer(web_page("The keeper", story, story[::-1])), "https://a.example/page"),
        record(answer(web_page("404 not found", story)), "https://a.example/pag"),
        record(answer(web_page("The keeper", story), status="301 Moved"), "https://a.example/old"),
        record(answer("picture", media_type="image/png"), "https://a.example/picture"),
    )
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/empty.html").write_text("<html><body></body></html>")
    (tmp_path / "texts/good.txt").write_text(story)
    with zipfile.ZipFile(tmp_path / "texts/more.zip", "w") as archive:
        archive.writestr("inner.zip", "PK")
        archive.writestr("tool.exe", "MZ")
        archive.writestr("other.txt", story[::-1])
    dump = (
        "<mediawiki><page><title>Old name</title><ns>0</ns><id>1</id><redirect title='New'/><revision>"
        "<text>#REDIRECT [[New]]</text></revision></page></mediawiki>"
    )
    (tmp_path / "wiki.xml").write_text(dump)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "collect: {files: [{path: texts}], warc: [{path: a.warc.gz}], wikipedia: [{path: wiki.xml}], "
        "heldout_fraction: 0}\n"
    )
    status, _, err = command("run", str(recipe), "--plain", "--to", "collect", home=home)
    assert status == 0, err
    for wanted, rule, file in (
        ("https://a.example/pag", "not_found", "a.warc.gz"),
        ("https://a.example/old", "status", "a.warc.gz"),
        ("https://a.example/picture", "content_type", "a.warc.gz"),
        ("Old name", "redirect", "wiki.xml"),
        ("empty.html", "empty", "empty.html"),
        ("inner.zip", "an archive in an archive", "more.zip/inner.zip"),
        ("tool.exe", "its ending is not known", "more.zip/tool.exe"),
    ):
        (step,) = command.json("explain", "latest", wanted, home=home)["steps"]
        assert (step["verdict"], step["rule"], step["file"]) == ("dropped", rule, file)
    status, out, _ = command("explain", "latest", "https://a.example/old", home=home)
    assert status == 0 and "as status: a.warc.gz, record 3" in out


def test_what_is_past_the_bound_of_the_ledger_is_counted_and_said(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.collect.dropped.MOST_LISTED", 2)
    page = "<page><title>Name {0}</title><ns>0</ns><id>{0}</id><redirect title='New'/><revision><text>#</text>"
    redirects = "".join(page.format(number) + "</revision></page>" for number in range(5))
    (tmp_path / "wiki.xml").write_text(f"<mediawiki>{redirects}</mediawiki>")
    (tmp_path / "a.txt").write_text("A text of some words.")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("collect: {files: [{path: a.txt}], wikipedia: [{path: wiki.xml}], heldout_fraction: 0}\n")
    status, out, err = command("run", str(recipe), "--plain", "--to", "collect", home=home)
    assert status == 0, err
    assert "3 records that rules left out are counted and not listed" in unwrapped(out + err)
    assert command("explain", "latest", "Name 1", home=home)[0] == 0
    status, _, err = command("explain", "latest", "Name 4", home=home)
    assert status == 2 and "3 records are counted and not listed" in unwrapped(err)
