"""A store on S3: same digests as at home, two workers on one store, holders that die, and what is refused."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_stages import STAGE_NAMES
from s3_server import EVERYTHING, READ_ONLY, S3Server, s3_server
from support import digests, llmill, llmill_command, outcomes, report_of, unwrapped

pytestmark = pytest.mark.slow

LEASE_SECONDS = 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def filled(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A store that holds a whole smoke run, and the run's report. Not to be written to."""
    url, home = server.bucket("filled"), tmp_path_factory.mktemp("filled") / "home"
    run = llmill("run", "smoke", "--plain", "--json", home=home, environment=server.environment(url))
    return url, report_of(run)


def started(*arguments: str, home: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*llmill_command(), *arguments],
        env={**os.environ, "LLMILL_HOME": str(home), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def line_with(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Read on until a line of stderr matches."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if re.search(pattern, line):
            return line
    pytest.fail(f"no line with {pattern!r} in:\n{''.join(said)}")


def test_equal_digests_on_s3_and_at_home_and_a_fresh_home_reuses_them(
    server: S3Server, filled: tuple[str, dict[str, Any]], smoke: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    url, first = filled
    assert set(outcomes(first).values()) == {"built"} and digests(first) == digests(smoke[1])

    fresh, environment = tmp_path / "fresh", server.environment(url)
    second = report_of(llmill("run", "smoke", "--plain", "--json", home=fresh, environment=environment))
    assert second["status"] == "reused" and digests(second) == digests(first)
    assert {path.parent.name for path in fresh.glob("store/parts/*/*")} <= {"release", "scores"} | {
        *("evaluate", "finetune", "pretrain", "tokenizer")
    }, "no documents and no tokens are downloaded"
    assert not list(fresh.glob("store/parts/*/model")) and not list(fresh.glob("store/shards/*"))
    release = Path(second["stages"][-1]["artifact"]["parts"]["release"]["uri"].removeprefix("file://"))
    assert (release / "model.safetensors").is_file()

    alone = report_of(llmill("run", "smoke", "--plain", "--json", "--to", "filter", home=fresh))
    assert outcomes(alone)["filter"] == "built", "without the store the home does not hold what was not downloaded"


def test_commands_bring_what_they_need(server: S3Server, filled: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    url, first = filled
    environment = server.environment(url)

    def said(*arguments: str, status: int = 0) -> str:
        result = llmill(*arguments, home=tmp_path / "home", environment=environment)
        assert result.returncode == status, result.stderr
        return result.stdout

    assert first["run"][-4:] in said("runs")
    assert len(said("cat", "latest/filter/documents").splitlines()) == 340
    assert "intact" in said("inspect", "latest/evaluate")
    assert said("generate", "hello", "--max-new-tokens", "3")
    assert "0 damaged" in said("verify")
    assert "shared store  s3://filled/store" in re.sub(r" +", "  ", said("doctor")).replace(
        "shared  store", "shared store"
    )
    said("gc", "--keep-runs", "0")
    assert len(said("cat", "latest/filter/documents").splitlines()) == 340, "the shared store is left as it is"


def test_two_workers_at_once_build_each_stage_once(server: S3Server, tmp_path: Path) -> None:
    environment = server.environment(server.bucket("two"))
    arguments = ("run", "smoke", "--plain", "--json", "--to", "tokenize")
    both = [started(*arguments, home=tmp_path / name, environment=environment) for name in "ab"]
    said = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    reports = [json.loads(out) for out, _ in said]
    for name in ("collect", "deduplicate", "filter", "tokenizer", "tokenize"):
        assert sorted(outcomes(report)[name] for report in reports) == ["built", "reused"], name
    assert digests(reports[0]) == digests(reports[1])


def test_a_killed_holder_s_lease_runs_out_and_the_other_goes_on(server: S3Server, tmp_path: Path) -> None:
    environment = server.environment(server.bucket("killed"))
    arguments = ("run", "smoke", "--plain", "--to", "pretrain", "--set", f"execution.lease_seconds={LEASE_SECONDS}")
    first = started(*arguments, home=tmp_path / "a", environment=environment)
    line_with(first, "^pretrain +building")
    second = started(*arguments, home=tmp_path / "b", environment=environment)
    waiting = line_with(second, "^pretrain +waiting").rstrip()
    assert re.search(r"waiting: run \S+ \(process \d+ on \S+\), since [0-9:]+ UTC$", waiting), waiting
    os.killpg(first.pid, signal.SIGKILL)
    line_with(second, "^pretrain +building")
    out, err = second.communicate(timeout=600)
    assert second.returncode == 0 and "1 built, 5 reused" in out, out + err
    first.wait()
    again = llmill(*arguments, home=tmp_path / "a", environment=environment)
    assert "0 built, 6 reused" in again.stdout, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9", "Is the address right .* and the server running"),
        ("LLMILL_STORE", "s3://no-such-bucket/store", "the bucket does not exist. Create it"),
        ("LLMILL_STORE", "s3://key:secret@bucket/store", "holds credentials"),
        ("AWS_ACCESS_KEY_ID", "", "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_store_that_cannot_be_used_stops_the_run_before_it_begins(
    server: S3Server, tmp_path: Path, setting: str, value: str, said: str
) -> None:
    environment = server.environment("s3://some-bucket/store") | {setting: value}
    environment |= {"AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_CONFIG_FILE": "/none"}
    if not value:
        environment["AWS_SECRET_ACCESS_KEY"] = ""
    result = llmill("run", "smoke", "--plain", home=tmp_path / "home", environment=environment, timeout=120)
    assert result.returncode == 2 and re.search(said, unwrapped(result.stderr)) and "Traceback" not in result.stderr
    assert "secret@" not in result.stderr
    assert not list((tmp_path / "home").glob("builds/*"))


def test_rights_are_distinguished_and_what_may_be_read_is_reused(
    server: S3Server, filled: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    url, empty = filled[0], server.bucket("empty")
    reader, writer = server.user("reader", READ_ONLY), server.user("writer", EVERYTHING)
    before = server.keys(url)
    with server.authenticating():

        def run(store: str, key: str, secret: str) -> "subprocess.CompletedProcess[str]":
            environment = server.environment(store, key, secret)
            result = llmill("run", "smoke", "--plain", home=tmp_path / "home", environment=environment)
            assert "Traceback" not in result.stderr and secret not in result.stderr + result.stdout
            return result

        unknown, wrong = run(url, "nobody", "nothing-at-all"), run(url, writer[0], "not-the-secret")
        assert unknown.returncode == wrong.returncode == 2
        assert "InvalidAccessKeyId" in unknown.stderr and "SignatureDoesNotMatch" in wrong.stderr

        denied = run(empty, *reader)
        assert denied.returncode == 2
        assert f"{empty}: cannot be written (AccessDenied" in unwrapped(
            denied.stderr
        ) and "do not allow it" in unwrapped(denied.stderr)

        reused = run(url, *reader)
        assert reused.returncode == 0 and f"0 built, {len(STAGE_NAMES)} reused" in reused.stdout
        assert "the run file was not shared" in reused.stdout
    assert server.keys(url) == before


def test_a_busy_server_and_one_that_goes_away_lose_nothing(server: S3Server, tmp_path: Path) -> None:
    url = server.bucket("busy")
    environment = server.environment(url)
    first = started("run", "smoke", "--plain", "--to", "tokenizer", home=tmp_path / "a", environment=environment)
    line_with(first, "^collect +building")
    server.fail(4)  # one call may meet all of them, and asks five times
    out, err = first.communicate(timeout=600)
    assert first.returncode == 0, out + err
    assert all(size for name, size in server.keys(url).items() if name.startswith("store/blobs"))
    again = llmill("run", "smoke", "--plain", "--to", "tokenizer", home=tmp_path / "b", environment=environment)
    assert "0 built, 4 reused" in again.stdout, again.stdout + again.stderr


def test_a_store_in_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    if not Path("/sys/kernel").is_dir():
        pytest.skip("no folder that nobody may write to")
    environment = {"LLMILL_STORE": "file:///sys/kernel/llmill"}
    result = llmill("run", "smoke", "--plain", home=tmp_path / "home", environment=environment)
    assert result.returncode == 2 and "file:///sys/kernel/llmill: cannot be written" in unwrapped(result.stderr)
    alone = llmill("run", "smoke", "--plain", "--to", "collect", home=tmp_path / "home")
    assert alone.returncode == 0, "the home is as good as before"
