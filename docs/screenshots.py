"""Take the pictures that the documents show: `python docs/screenshots.py HOME/runs/RUN.html [--pages]`.

Needs a chromium in PATH. Writes report.png, report-phone.png and report-dark.png beside this file. `--pages` takes the
form of the deployment, the run's page in Prefect and its pretraining in MLflow instead (form.png, prefect.png,
mlflow.png), served by `llmill ui` from the same home; the run must have pretrained. `--all FOLDER` writes the whole
report at every width, and as it prints.
"""

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from browser import Page, browser_page  # noqa: E402

from storage.store.local import Store  # noqa: E402

PICTURES = (("report", 1100, False, 1500), ("report-phone", 360, False, 1500), ("report-dark", 1100, True, 1500))
PAGE_WIDTH, FORM_HEIGHT, PREFECT_HEIGHT, MLFLOW_HEIGHT = 1300, 1740, 760, 985
CURVES_SHOWN = """[...document.querySelectorAll('.scatterlayer path.js-line')].map(line => line.getBoundingClientRect())
  .filter(place => place.width > 0 && place.top < innerHeight && place.bottom > 0).length >= 4"""
QUIET_SECONDS = 4  # for what fades in or is drawn after the last word has come


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description="Pictures of a run.")
    parser.add_argument("report", type=Path, help="runs/RUN.html of a home")
    parser.add_argument("--pages", action="store_true", help="the run in Prefect and in MLflow instead of the report")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="whole pages and the print, to check")
    options = parser.parse_args()
    folder = options.all or HERE
    folder.mkdir(parents=True, exist_ok=True)
    with browser_page() as page:
        if options.pages:
            take_pages(page, options.report.resolve(), folder)
            return
        for name, width, dark, height in PICTURES:
            page.open(options.report.resolve(), width=width, dark=dark)
            page.screenshot(folder / f"{name}.png", None if options.all else height)
        if options.all:
            page.open(options.report.resolve(), width=1100)
            page.print_pdf(folder / "report.pdf")


def take_pages(page: Page, report: Path, folder: Path) -> None:
    """The run's page in Prefect, and the curves of its pretraining in MLflow."""
    home, run = report.parents[1], json.loads(report.with_suffix(".json").read_bytes())
    builds = Store(home).builds_of("pretrain")
    pretraining = next(build["mlflow_run"] for build in reversed(builds) if build["run"] == run["run"])
    with served(home) as (prefect, mlflow):
        deployed = subprocess.run(
            [sys.executable, "-m", "flows.cli.main", "deploy", "--json"],
            cwd=HERE.parent,
            env={**os.environ, "LLMILL_HOME": str(home)},
            check=True,
            capture_output=True,
        )
        page.visit(json.loads(deployed.stdout)["deployments"][0]["url"] + "/run", width=PAGE_WIDTH, height=FORM_HEIGHT)
        page.wait_until("document.body.innerText.includes('Vocabulary size')")
        time.sleep(QUIET_SECONDS)
        page.screenshot_window(folder / "form.png")

        page.visit(f"{prefect}/runs/flow-run/{run['prefect']['flow_run']}", width=PAGE_WIDTH, height=PREFECT_HEIGHT)
        page.wait_until("document.body.innerText.includes('Beginning flow run')")
        time.sleep(QUIET_SECONDS)
        page.screenshot_window(folder / "prefect.png")

        address = f"{mlflow}/#/experiments/1/runs/{pretraining}/model-metrics?workflowType=machine_learning"
        page.visit(address, width=PAGE_WIDTH, height=MLFLOW_HEIGHT)
        page.wait_until("document.querySelector('button[aria-label=Close]') !== null")
        page.evaluate("document.querySelector('button[aria-label=Close]').click()")  # an assistant beside the page
        page.evaluate("document.head.insertAdjacentHTML('beforeend', '<style>.modebar{display:none}</style>')")
        for pause in (QUIET_SECONDS, 0):  # it fetches all again now and then, and shows nothing meanwhile
            page.wait_until(CURVES_SHOWN)
            time.sleep(pause)
        page.screenshot_window(folder / "mlflow.png")


@contextlib.contextmanager
def served(home: Path) -> Iterator[tuple[str, str]]:
    """The addresses of Prefect's and MLflow's UIs of a home, while the block lasts."""
    ports = free_port(), free_port()
    command = [
        sys.executable,
        "-m",
        "flows.cli.main",
        "ui",
        "--prefect-port",
        str(ports[0]),
        "--mlflow-port",
        str(ports[1]),
    ]
    environment = {**os.environ, "LLMILL_HOME": str(home)}
    with subprocess.Popen(command, cwd=HERE.parent, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline().split() for _ in ports]
            assert all(len(line) == 2 for line in lines), "llmill ui has not started"
            yield lines[0][1], lines[1][1].partition("/#")[0]
        finally:
            process.terminate()  # it ends its servers


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
