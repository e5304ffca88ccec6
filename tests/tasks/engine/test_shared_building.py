"""Two homes on one shared store: all or nothing, nothing twice, nothing lost; what is damaged heals.

The remote is a folder here; tests/flows/test_shared_store.py has an S3 server.
"""

from pathlib import Path

import pytest
from toy_stages import CALLS, CountConfig, UniqueConfig, WordsConfig, flow, outcomes, shout

from storage.canonical import digest_file
from storage.errors import StoreError
from storage.store.artifacts import Artifact, StoredFile
from storage.store.local import Store
from storage.store.refs import Ref, changing_refs, read_refs
from storage.store.remote import Remote
from storage.store.shared import SharedStore
from tasks.engine.builder import Builder
from tasks.engine.config import StageConfig
from tasks.engine.context import Context, Execution, Job, Summary
from tasks.engine.listener import StageResult
from tasks.engine.stage import engine_in_force, stage


class WatchedRemote(Remote):
    """Notes what is written, in order, and refuses everything after so many writes."""

    def __init__(self, url: str, writes: int = 10**9) -> None:
        super().__init__(url)
        self.written: list[str] = []
        self._left = writes

    def write(self, key: str, data: bytes) -> None:
        self._note(key)
        super().write(key, data)

    def _put(self, key: str, path: Path) -> None:
        self._note(key)
        super()._put(key, path)

    def _note(self, key: str) -> None:
        if not key.startswith("leases/"):
            if self._left == 0:
                raise StoreError("cut off")
            self._left -= 1
            self.written.append(key)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/remote"


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "remote" / "store" / "blobs"


def run(home: Path, remote: Remote, text: str = "to be or not to be") -> dict[str, StageResult]:
    """The toy flow of three stages on a home with a remote behind it."""
    home.mkdir(exist_ok=True)
    with Builder(SharedStore(home, remote), Execution(workers=1)) as builder, engine_in_force(builder):
        flow(WordsConfig(text=text), UniqueConfig(), CountConfig())
        builder.finish()
    return {result.stage: result for result in builder.results}


def artifacts(results: dict[str, StageResult]) -> dict[str, str | None]:
    return {name: result.artifact.digest if result.artifact else None for name, result in results.items()}


def spoil(path: Path) -> None:
    """Other contents of the same size."""
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_what_one_home_has_built_another_reuses_and_has_only_the_end_at_hand(tmp_path: Path, url: str) -> None:
    built = run(tmp_path / "a", Remote(url))
    before = CALLS.copy()
    reused = run(tmp_path / "b", Remote(url))
    assert set(outcomes(reused).values()) == {"reused"} and before == CALLS
    assert artifacts(reused) == artifacts(built)
    assert not list((tmp_path / "b").glob("store/parts/words/*/*")), "what nobody has read is not downloaded"
    (number,) = (tmp_path / "b").glob("store/parts/count/count/*/count.txt")
    assert number.read_text() == "14" and not Store(tmp_path / "b").artifact_damage(reused["count"].artifact or no())


def no() -> Artifact:
    raise AssertionError("no artifact")


def test_a_stage_that_must_be_built_downloads_what_it_reads_and_no_more(tmp_path: Path, url: str) -> None:
    run(tmp_path / "a", Remote(url))
    with Builder(SharedStore(tmp_path / "b", Remote(url)), Execution(workers=1)) as builder, engine_in_force(builder):
        (tmp_path / "b").mkdir()
        flow(WordsConfig(), UniqueConfig(), CountConfig(base=100))
    assert [result.outcome for result in builder.results] == ["reused", "reused", "built"]
    assert {path.parts[-2] for path in (tmp_path / "b").glob("store/parts/*/*/*")} == {"words", "count"}
    assert not list((tmp_path / "b").glob("store/parts/words/*/*"))


def test_the_record_comes_last_after_manifest_jobs_and_blobs(tmp_path: Path, url: str) -> None:
    remote = WatchedRemote(url)
    run(tmp_path / "a", remote)
    kinds = [key.split("/")[-3 if key.startswith(("builds", "store/blobs")) else -2] for key in remote.written]
    assert kinds.count("builds") == 6  # three records, three lists of jobs
    for stage_name in ("words", "unique", "count"):
        keys = [key for key in remote.written if f"/{stage_name}/" in key]
        assert keys[-1].startswith("builds/") and keys[-1].endswith(".json")
        assert all(key.startswith("store/blobs/") for key in keys[:-2])
    assert len(remote.written) == len(set(remote.written)), "nothing is sent twice"


def test_cut_off_at_any_moment_others_see_all_or_nothing_and_the_next_run_sends_the_rest(tmp_path: Path) -> None:
    whole = WatchedRemote(f"file://{tmp_path}/whole")
    expected = artifacts(run(tmp_path / "home", whole))
    for writes in range(len(whole.written)):
        url, home = f"file://{tmp_path}/remote-{writes}", tmp_path / f"home-{writes}"
        with pytest.raises(StoreError, match="cut off"):
            run(home, WatchedRemote(url, writes))
        seen = SharedStore(tmp_path / f"other-{writes}", Remote(url))
        for name in ("words", "unique", "count"):
            for record in seen.builds_of(name):
                artifact = seen.artifact(record["artifact"])
                assert artifact is not None and not seen.artifact_damage(artifact)
        before = CALLS.copy()
        assert set(outcomes(run(home, Remote(url))).values()) == {"reused"}, "all was kept at home"
        assert artifacts(run(tmp_path / f"other-{writes}", Remote(url))) == expected and before == CALLS


def test_a_home_from_before_is_sent_when_it_is_reused(tmp_path: Path, url: str) -> None:
    (tmp_path / "a").mkdir()
    with Builder(Store(tmp_path / "a"), Execution(workers=1)) as builder, engine_in_force(builder):
        flow(WordsConfig(), UniqueConfig(), CountConfig())
    assert set(outcomes(run(tmp_path / "a", Remote(url))).values()) == {"reused"}
    assert set(outcomes(run(tmp_path / "b", Remote(url))).values()) == {"reused"}


def test_a_blob_that_is_gone_is_built_and_sent_again(tmp_path: Path, url: str, blobs: Path) -> None:
    built = run(tmp_path / "a", Remote(url))
    (gone,) = (blobs / "count").iterdir()
    gone.unlink()
    healed = run(tmp_path / "b", Remote(url))
    assert outcomes(healed) == {"words": "reused", "unique": "reused", "count": "built"}
    assert healed["count"].why[0].startswith("part missing: count") and artifacts(healed) == artifacts(built)
    assert digest_file(gone) == gone.name
    assert set(outcomes(run(tmp_path / "c", Remote(url))).values()) == {"reused"}


@pytest.mark.parametrize("stage_name", ["unique", "count"])
def test_a_blob_that_is_damaged_is_found_when_it_is_read_and_heals_in_the_same_run(
    tmp_path: Path, url: str, blobs: Path, stage_name: str
) -> None:
    built = run(tmp_path / "a", Remote(url))
    files = sorted((blobs / stage_name).iterdir())
    for file in files:
        spoil(file)
    (tmp_path / "b").mkdir()
    with Builder(SharedStore(tmp_path / "b", Remote(url)), Execution(workers=1)) as builder, engine_in_force(builder):
        flow(WordsConfig(), UniqueConfig(), CountConfig(base=10 if stage_name == "count" else 11))
        builder.finish()
    healed = {result.stage: result for result in builder.results}
    assert healed[stage_name].outcome == "built"
    assert artifacts(healed)[stage_name] == artifacts(built)[stage_name]
    read = [file for file in files if digest_file(file) == file.name]
    assert read, "what was read is whole again"


def test_a_damaged_copy_at_home_is_repaired_from_the_remote(tmp_path: Path, url: str) -> None:
    run(tmp_path / "a", Remote(url))
    (number,) = (tmp_path / "a").glob("store/parts/count/count/*/count.txt")
    spoil(number)
    before = CALLS.copy()
    assert set(outcomes(run(tmp_path / "a", Remote(url))).values()) == {"reused"} and before == CALLS
    assert number.read_text() == "14"


@pytest.mark.parametrize("folder", ["builds/count", "store/artifacts"])
def test_records_that_are_damaged_here_count_as_none_and_are_written_again(
    tmp_path: Path, url: str, folder: str
) -> None:
    run(tmp_path / "a", Remote(url))
    for path in (tmp_path / "remote" / folder).iterdir():
        path.write_bytes(b"{" * path.stat().st_size)
    assert outcomes(run(tmp_path / "b", Remote(url)))["count"] == "built"
    assert set(outcomes(run(tmp_path / "c", Remote(url))).values()) == {"reused"}


class ShoutConfig(StageConfig):
    fail: bool = False


@stage("shouting", parts=("shouted",))
def shouting(config: ShoutConfig, *, context: Context) -> Summary:
    jobs = []
    for word in ("one", "two", "three"):
        path = context.work / word
        path.write_text(word)
        jobs.append(Job(word, None, {"words": StoredFile(word, digest_file(path), len(word), path)}))
    results = context.map(shout, jobs)
    if config.fail:
        raise RuntimeError("killed")
    for result in results:
        context.link("shouted", result.name, result.files["shard.txt"])
    return {"workers": len({result.summary["worker"] for result in results})}


def test_a_worker_goes_on_with_the_shards_of_another_that_has_died(tmp_path: Path, url: str) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    store = SharedStore(tmp_path / "a", Remote(url))
    with Builder(store, Execution(workers=1)) as builder, engine_in_force(builder), pytest.raises(RuntimeError):
        shouting(ShoutConfig(fail=True))
    for sent in store._sending:
        sent.result()
    remote = WatchedRemote(url)
    other = SharedStore(tmp_path / "b", remote)
    with Builder(other, Execution(workers=1)) as builder, engine_in_force(builder):
        shouting(ShoutConfig())
    assert not [key for key in remote.written if key.startswith("store/jobs")], "no shard was worked on again"
    (part,) = (tmp_path / "b").glob("store/parts/shouting/shouted/*")
    assert sorted(path.read_text() for path in part.iterdir()) == ["ONE", "THREE", "TWO"]


def test_names_are_shared_and_changes_of_two_homes_both_stay(tmp_path: Path, url: str) -> None:
    a, b = SharedStore(tmp_path / "a", Remote(url)), SharedStore(tmp_path / "b", Remote(url))
    early = Store(tmp_path / "a").publish_artifact("early", {}).digest
    with changing_refs(Store(tmp_path / "a")) as names:
        names["from-before"] = Ref(early)
    digest = run(tmp_path / "a", a.remote)["count"].artifact
    assert digest is not None
    assert read_refs(a).keys() == {"from-before"} == read_refs(b).keys()
    with changing_refs(b) as names:
        names["champion"] = Ref(digest.digest)
    with changing_refs(a) as names:
        names["previous"] = Ref(early)
    assert read_refs(a) == read_refs(b) and read_refs(a).keys() == {"champion", "from-before", "previous"}
    with changing_refs(b) as names:
        del names["champion"]
    assert read_refs(a).keys() == {"from-before", "previous"}


def test_a_worker_that_stalled_beyond_its_lease_undoes_no_change_of_another(tmp_path: Path, url: str) -> None:
    a, b = SharedStore(tmp_path / "a", Remote(url)), SharedStore(tmp_path / "b", Remote(url))
    digest = run(tmp_path / "a", a.remote)["count"].artifact
    assert digest is not None
    with pytest.raises(StoreError, match="changed meanwhile by another worker"), changing_refs(a) as names:
        names["champion"] = Ref(digest.digest)
        for name in a.remote.names("leases/refs"):  # as if it had run out
            a.remote.delete(f"leases/refs/{name}")
        with changing_refs(b) as others:
            others["previous"] = Ref(digest.digest)
    assert read_refs(a) == read_refs(b) and read_refs(a).keys() == {"previous"}
    with changing_refs(a) as names:
        names["champion"] = Ref(digest.digest)
    assert read_refs(b).keys() == {"champion", "previous"}


def test_a_server_that_is_busy_for_a_while_is_asked_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.store.remote.FIRST_WAIT_SECONDS", 0.0)
    remote = Remote(url)
    failures = iter([ConnectionResetError(), TimeoutError(), ConnectionError()])

    def busy() -> str:
        for error in failures:
            raise error
        return "answer"

    assert remote._try(busy, "be read") == "answer"
    with pytest.raises(StoreError, match=r"file://.*cannot be read \(no\)"):
        remote._try(lambda: (_ for _ in ()).throw(ValueError("no")), "be read")
