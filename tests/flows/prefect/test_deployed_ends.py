"""Runs of the deployment that are ended: cancelled, or with worker and servers; each goes on with what is left."""

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from operator_home import Operator
from support import digests, llmill, report_of, wait_until

from flows.prefect.servers import SILENCE_SECONDS


@pytest.mark.slow
def test_cancelled_then_killed_then_restarted_it_ends_with_the_weights_of_an_undisturbed_run(
    operator: Operator, smoke: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    form = operator.form() | {"to": "pretrain", "settings": "pretrain.steps=800\nexecution.checkpoint_interval=20"}
    before = operator.built()
    flow_run = operator.submit(form)
    wait_until(operator.training, "a checkpoint")
    operator.set_state(flow_run, {"type": "CANCELLING"})
    wait_until(lambda: not operator.processes("prefect.engine", "model.trainer"), "all gone")
    assert operator.ended(flow_run)["name"] == "Cancelled"
    assert operator.runs()[-1]["status"] == "interrupted" and operator.training()

    handed = operator.llmill("retry", operator.runs()[-1]["run"])
    assert handed.returncode == 0 and "Prefect has" in handed.stdout, handed.stderr
    wait_until(lambda: operator.processes("model.trainer"), "training again")
    for worker in operator.processes("worker start"):
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not operator.processes("prefect.engine", "model.trainer"), "all gone")
    crashed = operator.ended(flow_run)
    assert crashed["name"] == "Crashed" and "gone" in crashed["message"]

    operator.retry(flow_run)
    wait_until(lambda: operator.processes("model.trainer"), "training with a new worker")
    elsewhere, over = operator.run_elsewhere(), operator.run_elsewhere()
    for running in (elsewhere, over):
        operator.heartbeat(running)
    operator.stop()
    wait_until(lambda: not operator.processes(""), "Ctrl-C leaves nothing behind")
    assert {flow_run, elsewhere, over} <= operator.watched()
    operator.stay_away()
    operator.record_end(over)
    operator.start()
    assert over not in operator.watched()
    operator.heartbeat(elsewhere)
    assert operator.state(flow_run)["name"] == "Crashed"
    heard = time.monotonic() + SILENCE_SECONDS / 2
    wait_until(lambda: flow_run not in operator.watched(), "its end is heard: no silence of before ends its next try")
    assert time.monotonic() < heard, "it was not heard: its silence was over"
    assert operator.state(elsewhere)["name"] == "Running", "nobody could hear it while the server was away"
    operator.set_state(elsewhere, {"type": "CANCELLED"})
    operator.retry(flow_run)
    assert operator.completed(flow_run)
    assert operator.built()["pretrain"] == before.get("pretrain", 0) + 1
    assert [run["status"] for run in operator.runs()[-4:]] == ["interrupted", "crashed", "crashed", "completed"]

    home = tmp_path / "undisturbed"
    shutil.copytree(smoke[0], home, symlinks=True)
    settings = ("--set", "pretrain.steps=800", "--set", "pretrain.tokens=null", "--to", "pretrain")
    undisturbed = report_of(llmill("run", "smoke", "--plain", "--json", *settings, home=home))
    assert digests(operator.runs()[-1])["pretrain/model"] == digests(undisturbed)["pretrain/model"]
