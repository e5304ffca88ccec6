"""`llmill serve`'s server as a process of its own, whose champion is named by a file: FOLDER NAME DIGEST."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from support import ROOT, wait_until

from deployments.server.served import Place
from flows.prefect.servers import free_port
from storage.service import Limits, Service


@dataclass
class LoadServer:
    """Start it, kill it and start it again, at one port; its database outlives it."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def service(self) -> Service:
        """Its keys and its ledger."""
        return Service(f"sqlite:///{self.folder / 'service.db'}")

    def promote(self, place: Place) -> None:
        """Make a model the champion."""
        new = self.folder / "champion.new"
        new.write_text(f"{place.folder}\n{place.name}\n{place.digest}\n")
        new.replace(self.folder / "champion")

    def keys(self, number: int) -> list[str]:
        """Give out so many keys without limits."""
        return [self.service.add_key(f"tenant {one}", "standard", Limits()) for one in range(number)]

    def start(self) -> None:
        """Returns once it is ready."""
        command = [sys.executable, str(Path(__file__)), str(self.folder), str(self.port)]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        with (self.folder / "server.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": paths}
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        wait_until(self.ready, "the server is ready", self.process)

    def ready(self) -> bool:
        """Whether requests may be sent."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def metrics(self, key: str) -> dict[str, float]:
        """What `/metrics` says."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/metrics", headers={"authorization": f"Bearer {key}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line[0] != "#"]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def memory(self) -> float | None:
        """MiB that the process has in memory; None where it is gone."""
        assert self.process is not None
        with suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    return int(line.split()[1]) / 1024
        return None

    def stop(self, number: signal.Signals) -> int:
        """Send a signal; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)


def read_champion(folder: Path) -> Place:
    """The champion that the file names."""
    place, name, digest = (folder / "champion").read_text().splitlines()
    return Place(Path(place), name, digest)


def main(folder: Path, port: int) -> None:
    """The process."""
    from deployments.server.accounts import Accounts
    from deployments.server.arenas import share_memory
    from deployments.server.pricing import read_pricing
    from deployments.server.run import serve
    from deployments.server.served import serve_model
    from deployments.server.settings import ServerSettings
    from storage.feedback import open_feedback

    share_memory()
    settings = ServerSettings(look_seconds=0.5, send_seconds=5, body_seconds=5, request_seconds=120)
    accounts = Accounts(Service(f"sqlite:///{folder / 'service.db'}"), read_pricing())
    first = read_champion(folder)
    look = partial(read_champion, folder)
    feedback = open_feedback(folder / "home")
    serve(serve_model(first, settings), settings, accounts, feedback, "127.0.0.1", port, lambda *models: None, look)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
