"""A search as a deployment: its form, its trials as subflows in Prefect and as nested runs in MLflow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from operator_home import Operator
from support import Command

from flows.prefect.deployments import SHIPPED, read_deployments
from flows.prefect.form import TUNE_FIELDS, form_schema, refusal_of_form

SPACE = """
figure: finetune.answer_bits_per_byte
best: lowest
fields:
  finetune.matrix_rate: {low: 0.003, high: 0.03, log: true}
"""


def test_the_form_draws_every_field() -> None:
    schema = form_schema(TUNE_FIELDS)
    assert tuple(schema) == TUNE_FIELDS and all(field["description"] for field in schema.values())
    assert schema["trials"]["default"] == 20 and schema["trials"]["minimum"] == 1


def test_a_bad_space_is_refused_with_the_words_of_the_command_line(
    command: Command, home: Path, tmp_path: Path
) -> None:
    bad = SPACE.replace("matrix_rate", "matrix_rat")
    refused = refusal_of_form(TUNE_FIELDS, {"recipe": "smoke", "space": bad})
    (tmp_path / "space.yaml").write_text(bad)
    status, _, err = command("tune", "smoke", "--space", str(tmp_path / "space.yaml"), home=home)
    assert refused is not None and refused[0] == "space"
    assert status == 2 and refused[1].removeprefix("space: ") in err
    assert refusal_of_form(TUNE_FIELDS, {"recipe": "smoke", "space": str(tmp_path / "space.yaml")}) is not None
    assert refusal_of_form(TUNE_FIELDS, {"recipe": "smoke", "space": SPACE}) is None


def test_the_space_that_ships_with_the_deployment_is_a_good_one() -> None:
    (deployment,) = [one for one in read_deployments(SHIPPED) if one.name == "tune"]
    assert refusal_of_form(TUNE_FIELDS, {"recipe": "quick", **deployment.parameters}) is None


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    with Operator(tmp_path_factory.mktemp("operator") / "home") as operator:
        yield operator


@pytest.mark.slow
def test_trials_are_subflows_in_prefect_and_nested_runs_in_mlflow(operator: Operator) -> None:
    parameters = {"recipe": "smoke", "settings": "finetune.steps=3", "space": SPACE, "trials": 2}
    flow_run = operator.submit(parameters, deployment="tune/tune")
    assert operator.ended(flow_run)["name"] == "Completed"
    search, trials = operator.runs()[0], operator.runs()[1:]
    assert search["run"].startswith("tune-smoke-") and search["tune"]["trials"] == {"finished": 2}
    study = search["tune"]["study"]
    assert [run["run"].rpartition("-")[0].startswith(f"tune-{study}-{number}-") for number, run in enumerate(trials, 1)]

    tasks = operator.api("task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [flow_run]}}})
    children = operator.api(
        "flow_runs/filter", {"flow_runs": {"parent_task_run_id": {"any_": [task["id"] for task in tasks]}}}
    )
    assert sorted(child["name"] for child in children) == sorted(run["run"] for run in trials)
    assert {child["state"]["name"] for child in children} == {"Completed"}
    names = [
        row["key"] for row in operator.api("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [flow_run]}}})
    ]
    assert {"plan", "report", "study"} <= set(names)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{operator.home}/mlflow/mlflow.db")
    for run in trials:
        recorded = client.get_run(run["mlflow"]["run"])
        assert recorded.data.tags["mlflow.parentRunId"] == search["mlflow"]["run"]
        assert recorded.info.status == "FINISHED"
    figures = client.get_run(search["mlflow"]["run"]).data.metrics
    assert figures["trials"] == 2 and figures["best_figure"] == search["tune"]["best"]["figure"]
