"""Data sets of the hub, against a small hub on the loopback: what is listed, fetched, resumed, refused and read."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from collecting import documents_of
from hub_files import Hub, commit_id, serve_hub
from pydantic import ValidationError

from storage.errors import ConfigError, DataError
from storage.store.local import Store
from tasks.collect.config import CollectConfig
from tasks.collect.stage import collect
from tasks.engine.builder import Builder
from tasks.engine.context import Execution
from tasks.engine.stage import engine_in_force
from tasks.fetch.config import HuggingFaceSource
from tasks.fetch.hub import fetch_hub_file, hub_jobs, list_hub
from tasks.fetch.stage import fetch


def parquet(*texts: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"body": texts, "noise": [str(n) * 600 for n in range(len(texts))]}), out)
    return out.getvalue()


FILES = {
    "README.md": b"# A data set",
    "data/train-00000-of-00002.parquet": parquet("First text.", "Second text."),
    "data/train-00001-of-00002.parquet": parquet("Third text."),
    "data/test-00000-of-00001.parquet": parquet("A test."),
    "small/train.jsonl": b'{"body": "Small."}\n',
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub("org/set", {commit_id(1): dict(FILES)}, {"main": commit_id(1)})
    with serve_hub(made):
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield made


def source(**settings: Any) -> HuggingFaceSource:
    return HuggingFaceSource(**{"dataset": "org/set", **settings})


def paths(**settings: Any) -> list[str]:
    return [file.path for file in list_hub(source(**settings)).files]


def build(home: Path, **settings: Any) -> tuple[Any, Builder]:
    """Fetch, then collect, as the flow does it."""
    config = CollectConfig(huggingface=[{"dataset": "org/set", "text_field": "body", **settings}], heldout_fraction=0)
    with Builder(Store(home), Execution(workers=1)) as builder, engine_in_force(builder):
        artifact = collect(config, fetch(config.fetching))
    return artifact, builder


def test_a_data_set_is_fetched_and_read_at_a_commit(hub: Hub, home: Path) -> None:
    artifact, builder = build(home, license="mit", lang="en", files=["data/train-*"])
    texts = documents_of(artifact)
    assert [document.text for document in texts] == ["First text.", "Second text.", "Third text."]
    assert {(document.source, document.license, document.lang) for document in texts} == {("huggingface", "mit", "en")}
    assert texts[2].metadata["file"] == "data/train-00001-of-00002.parquet"
    assert builder.results[0].summary["huggingface.commit"] == commit_id(1)
    fetched = {path.rpartition("/")[2] for path in hub.files_asked()}
    assert fetched == {"train-00000-of-00002.parquet", "train-00001-of-00002.parquet"}


def test_bytes_that_are_not_those_stated_are_said_and_change_nothing_else(hub: Hub, home: Path) -> None:
    held = sum(len(data) for path, data in FILES.items() if path.startswith("data/train-"))
    _, first = build(home, files=["data/train-*"], total_bytes=held)
    assert "notices" not in first.results[0].summary
    assert [result.outcome for result in build(home, files=["data/train-*"])[1].results] == ["reused", "reused"]
    _, other = build(home / "other", files=["data/train-*"], total_bytes=held + 1)
    (notice,) = other.results[0].summary["notices"]
    assert notice.endswith(f"(data set org/set): total_bytes states {held + 1:,}, and its files hold {held:,}")


@pytest.mark.parametrize(
    ("settings", "card", "expected"),
    (
        ({"split": "test"}, {}, ["data/test-00000-of-00001.parquet"]),
        ({"config": "small"}, {}, ["small/train.jsonl"]),
        ({"files": ["*.jsonl"]}, {}, ["small/train.jsonl"]),
        (
            {"config": "big"},
            {"configs": [{"config_name": "big", "data_files": [{"split": "train", "path": "data/test-*"}]}]},
            ["data/test-00000-of-00001.parquet"],
        ),
        (
            {},
            {"configs": [{"config_name": "only", "data_files": "small/*"}]},
            ["small/train.jsonl"],
        ),
    ),
)
def test_the_files_of_a_config_and_split(hub: Hub, settings: Any, card: Any, expected: list[str]) -> None:
    hub.card = card
    assert paths(**settings) == expected


def test_where_main_has_nothing_to_read_the_hubs_conversion_is_taken(hub: Hub) -> None:
    hub.commits[commit_id(1)] = {"set.py": b"print()"}
    hub.commits[commit_id(2)] = {f"default/train/{n:04d}.parquet": parquet("x") for n in range(2)}
    hub.branches["refs/convert/parquet"] = commit_id(2)
    listing = list_hub(source())
    assert listing.commit == commit_id(2)
    assert [file.path for file in listing.files] == ["default/train/0000.parquet", "default/train/0001.parquet"]
    hub.commits[commit_id(2)] = {"a/train/0.parquet": b"x", "b/train/0.parquet": b"x"}
    with pytest.raises(DataError, match=r"several configs: a, b\. Set config"):
        list_hub(source())


def test_a_listing_has_the_commit_and_digests(hub: Hub) -> None:
    before = list_hub(source(files=["data/train-*", "small/*"]))
    assert before.commit == commit_id(1)
    known = {file.path: file for file in before.files}
    assert len(known["data/train-00000-of-00002.parquet"].sha256) == 64, "where the hub states it"
    assert known["small/train.jsonl"].sha256 == "" and len(known["small/train.jsonl"].oid) == 40
    hub.commits[commit_id(2)] = FILES | {"small/train.jsonl": b'{"body": "Other."}\n'}
    hub.branches["main"] = commit_id(2)
    after = list_hub(source(files=["data/train-*", "small/*"]))
    assert after.commit == commit_id(2)
    assert {file.path for file in set(after.files) - set(before.files)} == {"small/train.jsonl"}


def test_a_branch_that_moved_costs_the_files_that_changed(
    hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(home, files=["data/train-*"], refresh_hours=1)
    hub.commits[commit_id(2)] = FILES | {"data/train-00001-of-00002.parquet": parquet("Another text.")}
    hub.branches["main"] = commit_id(2)
    hub.asked.clear()
    artifact, _ = build(home, files=["data/train-*"], refresh_hours=1)
    assert hub.asked == [], "within the hour nothing is asked"
    later = time.time() + 7200
    monkeypatch.setattr("time.time", lambda: later)
    artifact, _ = build(home, files=["data/train-*"], refresh_hours=1)
    assert [document.text for document in documents_of(artifact)][2:] == ["Another text."]
    assert {one.partition(" ")[0].rpartition("/")[2] for one in hub.files_asked()} == {"train-00001-of-00002.parquet"}


def fetch_one(tmp_path: Path, path: str = "data/train-00000-of-00002.parquet", **settings: Any) -> bytes:
    made = source(files=[path], **settings)
    (job,) = hub_jobs(made, list_hub(made), tmp_path / "partial")
    (tmp_path / "out").mkdir(exist_ok=True)
    fetch_hub_file(job, {}, tmp_path / "out")
    return (tmp_path / "out" / "file").read_bytes()


BIG = "data/train-00000-of-00002.parquet"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.fetch.download.LONGEST_WAIT_SECONDS", 0.01)


def test_a_connection_that_is_cut_is_gone_on_with_by_ranges(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [500, 300]
    assert fetch_one(tmp_path) == FILES[BIG]
    assert [one.partition(" ")[2] for one in hub.asked if "/lfs/" in one] == ["", "bytes=500-", "bytes=800-"]


def test_a_server_without_ranges_begins_anew(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after, hub.ranges = [500], False
    assert fetch_one(tmp_path) == FILES[BIG]


@pytest.mark.parametrize("status", (429, 500, 502, 503))
def test_what_may_pass_is_tried_again(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.statuses = [status, status]
    assert fetch_one(tmp_path) == FILES[BIG]


def test_a_server_that_stays_broken_is_given_up(hub: Hub, tmp_path: Path) -> None:
    hub.statuses = [500] * 50
    with pytest.raises(OSError, match="500"):
        fetch_one(tmp_path)
    assert len(hub.statuses) == 45


@pytest.mark.parametrize(
    ("status", "message"),
    (
        (401, r"no access \(HTTP 401\).*set HF_TOKEN"),
        (403, r"no access \(HTTP 403\).*owner has to let you in"),
        (404, r"no access \(HTTP 404\).*no such data set"),
    ),
)
def test_a_hub_that_refuses_says_what_to_do(hub: Hub, status: int, message: str) -> None:
    hub.refuse = status
    with pytest.raises(DataError, match=message):
        list_hub(source())


def test_the_offline_mode_of_the_hub_is_respected(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE"):
        list_hub(source())
    assert hub.asked == []


@pytest.mark.parametrize("status", (403, 404, 410))
def test_a_file_that_is_refused_is_asked_for_once(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.statuses = [status] * 5
    with pytest.raises(DataError, match=f"HTTP {status}"):
        fetch_one(tmp_path)
    assert len(hub.statuses) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    (
        ({"dataset": "org/other"}, "no access"),
        ({"revision": "v9"}, "no revision v9"),
        ({"split": "validation"}, "no file of revision main is of split validation"),
        ({"config": "huge"}, "is of split train and config huge"),
        ({"files": ["*.arrow"]}, "Set config and split"),
    ),
)
def test_what_is_not_there_is_named(hub: Hub, settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list_hub(source(**settings))


@pytest.mark.parametrize("path", (BIG, "small/train.jsonl"))
def test_a_file_that_was_changed_under_its_commit_is_refused(hub: Hub, tmp_path: Path, path: str) -> None:
    changed = bytearray(FILES[path])
    changed[10] ^= 1
    hub.served[path] = bytes(changed)
    with pytest.raises(DataError, match=r"changed, or damaged|is not what the hub lists"):
        fetch_one(tmp_path, path)
    hub.served[path] = FILES[path] + b"more"
    with pytest.raises(DataError, match="are stated"):
        fetch_one(tmp_path, path)


def test_the_token_is_of_the_environment_and_stays_with_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    fetch_one(tmp_path)
    assert all("hf_xxx" in one for one in hub.tokens if "/lfs/" not in one)
    assert not any("hf_xxx" in one for one in hub.tokens if "/lfs/" in one), "not where a redirect leads"


def test_the_public_hub_leads_to_no_private_address(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the environment names as the hub may be in a private network."""
    made = source(files=[BIG])
    (job,) = hub_jobs(made, list_hub(made), tmp_path / "partial")
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *_, **__: f"{hub.url}/{BIG}")
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match="private network"):
        fetch_hub_file(job, {}, tmp_path / "out")


@pytest.mark.parametrize("extra", ({"token": "hf_secret"}, {"revision": "hf_" + "a" * 34}))
def test_a_recipe_with_a_token_is_refused(extra: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="a recipe holds no token"):
        CollectConfig(huggingface=[{"dataset": "org/set", **extra}])


def test_a_partial_file_of_a_killed_process_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    made = source(files=[BIG])
    (job,) = hub_jobs(made, list_hub(made), tmp_path / "partial")
    hub.cut_after, hub.statuses = [700], [200, *[500] * 50]
    (tmp_path / "out").mkdir()
    with pytest.raises(OSError, match="500"):
        fetch_hub_file(job, {}, tmp_path / "out")
    hub.statuses.clear()
    hub.asked.clear()
    fetch_hub_file(job, {}, tmp_path / "out")
    assert [one.partition(" ")[2] for one in hub.asked if "/lfs/" in one] == ["bytes=700-"]
    assert (tmp_path / "out" / "file").read_bytes() == FILES[BIG]
    assert list((tmp_path / "partial").iterdir()) == []
