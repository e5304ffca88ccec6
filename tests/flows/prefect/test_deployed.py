"""Runs of the deployment: from its form, what that refuses, and on a schedule."""

import json
from pathlib import Path
from typing import Any

import pytest
from local_stages import STAGE_NAMES
from operator_home import Operator
from support import digests, llmill, wait_until

from flows.prefect.deployments import SHIPPED


def test_the_full_form_has_a_widget_for_every_field() -> None:
    """Titles, descriptions and kinds that Prefect's form knows: nothing is left to its editor of raw JSON."""
    from prefect.utilities.callables import parameter_schema

    from flows.prefect.deployed import build_full

    schema = parameter_schema(build_full).model_dump()
    definitions, leaves = schema["definitions"], []

    def walk(field: dict[str, Any], where: str) -> None:
        if "$ref" in field:
            return walk(definitions[field["$ref"].rpartition("/")[2]], where)
        choices = field.get("anyOf") or field.get("allOf") or []
        if choices:
            for choice in choices:
                walk(choice, where)
        elif field.get("properties"):
            for name, inner in field["properties"].items():
                named = {**inner, **(definitions[inner["$ref"].rpartition("/")[2]] if "$ref" in inner else {})}
                assert inner.get("description") or named.get("description"), f"{where}.{name} has no description"
                walk(inner, f"{where}.{name}")
        elif field.get("type") == "array":
            assert "prefixItems" not in field, where
            walk(field["items"], f"{where}[]")
        else:
            kind = field.get("type") or ("string" if {"const", "enum"} & field.keys() else None)
            assert kind in ("string", "integer", "number", "boolean", "null"), f"{where}: {field}"
            leaves.append(where)

    walk({"properties": schema["properties"]}, "")
    assert len(set(leaves)) > 100
    assert {leaf.split(".")[2] for leaf in leaves if leaf.startswith(".recipe.")} > {"collect", "filter", "execution"}


@pytest.mark.slow
def test_a_run_from_the_form_is_the_run_of_the_command_line(
    operator: Operator, smoke: tuple[Path, dict[str, Any]]
) -> None:
    flow_run = operator.submit()
    assert operator.completed(flow_run)
    run = operator.runs()[-1]
    assert digests(run) == digests(smoke[1])
    assert operator.api(f"flow_runs/{flow_run}")["name"] == run["run"]
    assert run["run"].startswith("smoke-nano-")
    assert operator.task_runs(flow_run) == [(name, "Completed") for name in STAGE_NAMES]
    body = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
    artifacts = sorted(operator.api("artifacts/filter", body), key=lambda row: row["created"])
    keys = [row["key"] for row in artifacts]
    assert keys[0] == "plan" and keys[-1] == "report" and {"mlflow", *STAGE_NAMES} <= set(keys)
    assert str(operator.ports[1]) in next(row["data"] for row in artifacts if row["key"] == "mlflow")

    again = operator.submit()
    assert operator.completed(again)
    assert operator.task_runs(again) == [(name, "Cached") for name in STAGE_NAMES]
    assert operator.runs()[-1]["status"] == "reused"


@pytest.mark.slow
def test_the_weekly_retraining_keeps_a_champion_where_nothing_is_new_one_at_a_time(operator: Operator) -> None:
    name = "retrain/retrain-weekly"
    deployment = operator.api(f"deployments/{operator.deployments[name]}")
    (schedule,) = deployment["schedules"]
    assert schedule["active"] and schedule["schedule"] == {"cron": "0 3 * * 1", "timezone": "UTC", "day_or": True}
    both = [operator.submit(deployment=name) for _ in range(2)]
    assert [operator.ended(one)["name"] for one in both] == ["Completed", "Completed"]
    earlier, later = sorted((operator.api(f"flow_runs/{one}") for one in both), key=lambda run: str(run["start_time"]))
    assert earlier["end_time"] <= later["start_time"], "one at a time; the other waits"
    assert [run["verdict"]["decision"] for run in operator.runs()[-2:]] == ["first", "kept"]
    assert {state for _, state in operator.task_runs(later["id"])} == {"Cached"}
    champion = json.loads(operator.llmill("champion", "--json").stdout)
    assert champion["mlflow"]["disagreements"] == []


@pytest.mark.slow
def test_a_schedule_starts_its_run_by_itself_until_it_is_set_again(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "often.yaml"
    file.write_text(SHIPPED.read_text().replace("0 3 * * 1", '"* * * * *"'))
    deployment = operator.deployments["retrain/retrain-weekly"]

    def scheduled(*states: str) -> list[dict[str, Any]]:
        names = {"name": {"any_": list(states)}}
        body = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": names}}
        return [row for row in operator.api("flow_runs/filter", body) if row["auto_scheduled"]]

    assert operator.llmill("deploy", "smoke", "--file", str(file)).returncode == 0
    wait_until(lambda: scheduled("Completed"), "the clock starts a run, and it ends")
    assert operator.llmill("deploy", "smoke").returncode == 0
    (run, *_) = scheduled("Completed")
    assert set(operator.task_runs(run["id"])) and operator.runs()[-1]["verdict"]["decision"] == "kept"
    wait_until(lambda: not scheduled("Running", "Pending"), "none is under way")
    wait_until(lambda: scheduled("Scheduled"), "the next Monday")
    assert {row["expected_start_time"][11:16] for row in scheduled("Scheduled")} == {"03:00"}


@pytest.mark.slow
def test_a_wrong_value_is_refused_at_submit_and_a_wrong_whole_before_the_first_stage(operator: Operator) -> None:
    full = "build/build-full"
    form = operator.form(full)
    form["recipe"]["filter"]["min_words"] = -3
    refused = operator.api(f"deployments/{operator.deployments[full]}/create_flow_run", {"parameters": form})
    assert refused["status"] == 409 and "recipe.filter.min_words" in refused["detail"]
    short = {"parameters": operator.form() | {"vocabulary_size": 5}}
    refused = operator.api(f"deployments/{operator.deployments['build/build']}/create_flow_run", short)
    assert refused["status"] == 409 and "vocabulary_size" in refused["detail"] and "260" in refused["detail"]
    state = operator.ended(operator.submit(operator.form() | {"settings": "evaluate.stride=4000"}))
    refused = llmill("run", "smoke", "--set", "evaluate.stride=4000", home=operator.home)
    assert refused.returncode == 2 and state["name"] == "Failed"
    message = state["message"].partition("evaluate.stride=4000")[2]
    assert "more than the model's context" in message and message in refused.stderr
    form = operator.form(full)
    form["recipe"]["filter"]["min_wrds"] = 3  # a deployment of an older version, whose recipe had this field
    operator.api(f"deployments/{operator.deployments[full]}", {"enforce_parameter_schema": False}, "PATCH")
    message = operator.ended(operator.submit(form, full))["message"]
    assert "filter.min_wrds: unknown key" in message and "llmill deploy" in message
    assert operator.llmill("deploy", "smoke").returncode == 0, "which renews it"
