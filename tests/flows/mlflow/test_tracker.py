"""What MLflow holds of a run, and whose aliases are those of the store: a real MLflow on SQLite, made once."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.mlflow.place import artifact_root, check_tracking_uri, experiment_page
from flows.mlflow.registry import Model
from flows.mlflow.tracker import MAX_PARAMETER_CHARACTERS, DataSet, Tracker
from storage.errors import ConfigError
from storage.home import ui_file
from storage.store.artifacts import Part

LONG = "x" * 1000


def part(folder: Path, stage: str, name: str, digest: str) -> Part:
    path = folder / "parts" / stage / name / digest
    path.mkdir(parents=True)
    (path / "file.txt").write_text(digest)
    return Part(name, digest, path, ())


class Recorded:
    """A finished run, and a client that looks at it."""

    def __init__(self, folder: Path) -> None:
        import mlflow

        self.home, self.release = folder / "home", part(folder, "release", "release", 64 * "a")
        self.tracker = Tracker(self.home, "smoke-nano-1", {"name": "smoke", "pretrain": {"steps": 3}})
        settings = {"recipe": "smoke", "pretrain.size": "nano", "collect.sources": LONG}
        self.tracker.start(settings, {"mlflow.user": "ada"})
        self.tracker.use([DataSet("source-books", 64 * "9", "")], "source")
        documents = part(folder, "filter", "documents", 64 * "d")
        config = {"steps": 3, "optimizer": {"rate": 0.5, "name": LONG}} | {f"field{number}": 1 for number in range(150)}
        self.tracker.start_stage("pretrain", config, ["never built", "input changed"], [documents])
        rows: list[dict[str, Any]] = [{"step": 1, "loss": 3.0, "note": "no number"}, {"step": 2, "loss": 2.0}]
        self.tracker.measure("pretrain", rows)
        made = part(folder, "pretrain", "model", 64 * "e")
        summary = {"tokens": 5, "loss": 1.9, "resumed": True, "after": {"heldout": 1.5}, "best": "x"}
        self.tracker.finish_stage("pretrain", "built", summary, [made])
        self.tracker.start_stage("finetune", {}, ["never built"], [])
        self.tracker.finish_stage("finetune", "failed", {}, [])
        self.tracker.finish_stage("evaluate", "reused", {"bits": 1.0}, [])
        self.tracker.log_page(documents.path / "file.txt", "page.html")
        self.tracker.start_stage("release", {}, ["never built"], [])
        self.model = Model("toy", self.release, "A toy.", "Made by a test.")
        self.versions = [self.tracker.register(self.model) for _ in range(2)]
        self.tracker.set_figures({"tuned_bits_per_byte": 1.5, "seconds": 7})
        self.tracker.finish_stage("release", "built", {}, [self.release])
        self.other = self.tracker.register(Model("toy", part(folder, "release", "release", 64 * "b")))
        self.tracker.finish("completed")
        self.client = mlflow.MlflowClient(self.tracker.uri)

    def run(self, name: str) -> Any:
        found = {run.info.run_name: run for run in self.client.search_runs([str(self.tracker.experiment_id)])}
        return found[name]

    def text(self, run: str, artifact: str) -> str:
        return Path(self.client.download_artifacts(self.run(run).info.run_id, artifact)).read_text()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with pytest.MonkeyPatch.context() as patched:
        for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT", "LLMILL_MLFLOW_UI"):
            patched.delenv(variable, raising=False)
        yield Recorded(tmp_path_factory.mktemp("recorded"))


def test_a_run_and_its_stages_are_nested_named_and_closed_as_they_ended(recorded: Recorded) -> None:
    assert recorded.tracker.failures == [] and recorded.tracker.unsent == 0
    experiment = recorded.client.get_experiment_by_name("llmill")
    assert experiment is not None
    assert experiment.artifact_location == (recorded.home / "mlflow" / "artifacts").as_uri()
    runs = recorded.client.search_runs([experiment.experiment_id])
    status = {run.info.run_name: run.info.status for run in runs}
    built = dict.fromkeys(("smoke-nano-1", "pretrain", "release"), "FINISHED")
    assert status == built | {"finetune": "FAILED"}
    parent = recorded.run("smoke-nano-1")
    assert parent.data.tags["llmill.run"] == "smoke-nano-1" and parent.data.tags["llmill.recipe"] == "smoke"
    assert parent.data.tags["llmill.status"] == "completed"
    assert json.loads(recorded.text("smoke-nano-1", "recipe.json")) == {"name": "smoke", "pretrain": {"steps": 3}}
    assert recorded.text("smoke-nano-1", "page.html") == 64 * "d"
    stage = recorded.run("pretrain")
    tags = {"mlflow.parentRunId": parent.info.run_id, "llmill.stage": "pretrain"}
    assert stage.data.tags.items() >= {**tags, "llmill.why": "never built; input changed"}.items()
    assert parent.info.start_time <= stage.info.start_time <= stage.info.end_time <= parent.info.end_time


def test_parameters_figures_and_data_sets_of_a_stage(recorded: Recorded) -> None:
    stage = recorded.run("pretrain")
    assert len(stage.data.params) == 153
    assert (stage.data.params["steps"], stage.data.params["optimizer.rate"]) == ("3", "0.5")
    assert stage.data.params["optimizer.name"] == LONG[:MAX_PARAMETER_CHARACTERS]
    figures = {"loss": 2.0, "final_loss": 1.9, "tokens": 5, "after.heldout": 1.5}
    assert stage.data.metrics == figures, "numbers, and a truth is none"
    history = recorded.client.get_metric_history(stage.info.run_id, "loss")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 3.0), (2, 2.0)]
    assert json.loads(recorded.text("pretrain", "summary.json"))["best"] == "x"
    inputs = [
        (one.dataset.name, one.dataset.digest, one.tags[0].key, one.tags[0].value)
        for one in stage.inputs.dataset_inputs
    ]
    assert sorted(inputs) == [
        ("filter-documents", 16 * "d", "mlflow.data.context", "input"),
        ("pretrain-model", 16 * "e", "mlflow.data.context", "output"),
    ]


def test_a_release_is_registered_once_for_each_digest(recorded: Recorded) -> None:
    assert [str(version) for version in (*recorded.versions, recorded.other)] == ["1", "1", "2"]
    version = recorded.client.get_model_version("toy", "1")
    assert version.tags == {"llmill.release": 64 * "a", "llmill.run": "smoke-nano-1"}
    assert version.run_id == recorded.tracker.run_id
    assert recorded.client.get_registered_model("toy").description == "A toy."
    description = version.description or ""
    assert description.startswith("Made by a test.") and 'load_model("models:/toy/1")' in description


def test_the_parent_run_shows_what_runs_are_compared_by(recorded: Recorded) -> None:
    parent = recorded.run("smoke-nano-1")
    assert parent.data.params == {
        "recipe": "smoke",
        "pretrain.size": "nano",
        "collect.sources": LONG[:MAX_PARAMETER_CHARACTERS],
    }
    assert parent.data.metrics == {"tuned_bits_per_byte": 1.5, "seconds": 7}
    assert parent.data.tags["mlflow.user"] == "ada"
    (used,) = parent.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest, used.tags[0].value) == ("source-books", 16 * "9", "source")


def test_run_logged_model_and_version_lead_to_each_other(recorded: Recorded) -> None:
    (logged,) = recorded.client.search_logged_models(
        [str(recorded.tracker.experiment_id)], f"tags.`llmill.release` = '{64 * 'a'}'"
    )
    assert recorded.client.get_model_version("toy", "1").source == f"models:/{logged.model_id}"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "toy", "version": 1}]
    assert logged.source_run_id == recorded.tracker.run_id
    for name in ("smoke-nano-1", "release"):
        outputs = recorded.run(name).outputs.model_outputs
        assert logged.model_id in [one.model_id for one in outputs], name
    figures = {metric.key: metric.value for metric in recorded.client.get_logged_model(logged.model_id).metrics or ()}
    assert figures == {"tuned_bits_per_byte": 1.5, "seconds": 7}


def test_files_of_a_release_are_those_of_the_store_not_a_copy(recorded: Recorded) -> None:
    for version, letter in (("1", "a"), ("2", "b")):
        location = recorded.client.get_model_version_download_uri("toy", version)
        (file,) = Path(location.removeprefix("file://")).iterdir()
        assert file.samefile(recorded.release.path.parent / (64 * letter) / "file.txt")


def test_aliases_follow_the_store_from_model_to_model_and_back_to_none(recorded: Recorded) -> None:
    tracker, aliases = recorded.tracker, ("champion", "previous")
    wanted = {"champion": ("toy", 64 * "a"), "previous": ("toy", 64 * "b")}
    assert tracker.disagreements(wanted, aliases) == [
        "champion: the store has toy aaaaaaaa, MLflow none",
        "previous: the store has toy bbbbbbbb, MLflow none",
    ]
    assert tracker.mirror(wanted, aliases) == [] and tracker.disagreements(wanted, aliases) == []
    found = [recorded.client.get_model_version_by_alias("toy", alias).version for alias in aliases]
    assert [str(version) for version in found] == ["1", "2"]

    assert str(tracker.register(Model("renamed", recorded.release))) == "1"
    moved = {"champion": ("renamed", 64 * "a")}
    assert tracker.disagreements(moved, aliases) == [
        "champion: the store has renamed aaaaaaaa, MLflow toy version 1 (aaaaaaaa)",
        "previous: the store has none, MLflow toy version 2 (bbbbbbbb)",
    ]
    assert tracker.mirror(moved, aliases) == [] and tracker.disagreements(moved, aliases) == []
    assert recorded.client.get_registered_model("toy").aliases == {}

    unknown = {"champion": ("toy", 64 * "c")}
    assert tracker.mirror(unknown, aliases) == ["champion: toy cccccccc is not registered in MLflow"]
    assert recorded.client.get_registered_model("renamed").aliases == {}
    recorded.client.create_registered_model("foreign")
    recorded.client.create_model_version("foreign", recorded.release.path.as_uri())
    recorded.client.set_registered_model_alias("foreign", "champion", "1")
    assert tracker.disagreements({}, aliases) == ["champion: the store has none, MLflow foreign version 1 (not ours)"]
    assert tracker.mirror({}, aliases) == [] and tracker.disagreements({}, aliases) == []


def test_what_an_earlier_run_left_open_is_closed_as_it_ended(recorded: Recorded) -> None:
    later = Tracker(recorded.home, "smoke-nano-2", {})
    later.start()
    assert later.run_id is not None
    closed = recorded.run("finetune").info.run_id
    assert later.close([later.run_id, closed, 32 * "0"], "crashed")
    assert recorded.run("smoke-nano-2").info.status == "KILLED"
    assert recorded.run("finetune").info.status == "FAILED", "what has ended stays as it is"


def test_what_has_waited_for_the_server_is_sent_at_the_end(recorded: Recorded) -> None:
    late = Tracker(recorded.home, "smoke-nano-3", {}, unreachable="nobody answers")
    late.start()
    assert late.unsent == 2 and late.failures == ["nobody answers"] * 2
    late.finish("failed")
    assert late.unsent == 0 and late.failures == []
    assert recorded.run("smoke-nano-3").info.status == "FAILED"


def test_rows_arrive_while_a_stage_goes_on(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.mlflow.tracker.FLUSH_SECONDS", -1.0)
    going = Tracker(recorded.home, "smoke-nano-4", {})
    going.start()
    going.start_stage("finetune", {}, ["never built"], [])
    going.measure("finetune", [{"step": 7, "loss": 1.0}])
    history = recorded.client.get_metric_history(going.stages["finetune"], "loss")
    assert [(metric.step, metric.value) for metric in history] == [(7, 1.0)]
    going.finish("interrupted")
    assert recorded.run("smoke-nano-4").info.status == "KILLED"


def test_an_address_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:port/")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI=http://host:port/: this is not an address"):
        check_tracking_uri(tmp_path)


def test_links_lead_to_the_ui_that_a_browser_finds(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = recorded.tracker
    rest = f"#/experiments/{tracker.experiment_id}/runs/"
    assert tracker.url() == f"http://127.0.0.1:5000/{rest}{tracker.run_id}?workflowType=machine_learning"
    assert tracker.url("r", "page.html").endswith(f"{rest}r/artifacts/page.html?workflowType=machine_learning")
    ui_file(recorded.home).parent.mkdir(exist_ok=True)
    ui_file(recorded.home).write_text('{"mlflow": "http://127.0.0.1:7777"}')
    assert tracker.url("r") == f"http://127.0.0.1:7777/{rest}r?workflowType=machine_learning"
    monkeypatch.setenv("LLMILL_MLFLOW_UI", "https://me:secret@pages.example/mlflow/")
    assert tracker.url("r") == f"https://pages.example/mlflow/{rest}r?workflowType=machine_learning"


def test_the_experiment_is_one_of_machine_learning_unless_the_user_says_otherwise(recorded: Recorded) -> None:
    client, experiment = recorded.client, str(recorded.tracker.experiment_id)
    assert client.get_experiment(experiment).tags["mlflow.experimentKind"] == "custom_model_development"
    for before, after in ((None, "custom_model_development"), ("genai_development", "genai_development")):
        if before is None:  # made before it was said
            client.delete_experiment_tag(experiment, "mlflow.experimentKind")
        else:
            client.set_experiment_tag(experiment, "mlflow.experimentKind", before)
        Tracker(recorded.home, "smoke-nano-5", {}).start()
        assert client.get_experiment(experiment).tags["mlflow.experimentKind"] == after


def test_the_page_of_all_runs_opens_where_training_is_shown(recorded: Recorded, tmp_path: Path) -> None:
    page = experiment_page(recorded.home, "http://127.0.0.1:5000")
    assert page == f"http://127.0.0.1:5000/#/experiments/{recorded.tracker.experiment_id}?workflowType=machine_learning"
    assert experiment_page(tmp_path, "http://p") == "http://p/#/experiments?workflowType=machine_learning"


def test_artifacts_lie_in_the_home_unless_a_server_or_the_user_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    assert artifact_root(tmp_path) == (tmp_path / "mlflow" / "artifacts").as_uri()
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/place")
    assert artifact_root(tmp_path) == "s3://bucket/place"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert artifact_root(tmp_path) is None


def test_a_database_that_answers_and_does_not_let_us_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listening.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        address = f"postgresql://127.0.0.1:{listening.getsockname()[1]}/name"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(ConfigError, match="the database cannot be used"):
            check_tracking_uri(tmp_path)
        listening.shutdown(socket.SHUT_RDWR)
