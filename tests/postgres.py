"""A PostgreSQL server from the system's packages, on the loopback interface, in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import is_alive, wait_until

PROGRAMS = Path("/usr/lib/postgresql")  # where Debian and Ubuntu keep them, a folder a version
USER, PASSWORD = "ada", "s3cret-Pa55word"


@dataclass(frozen=True)
class Postgres:
    """One server. PostgreSQL does not run as root: then its programs run as an unprivileged user."""

    programs: Path
    folder: Path
    port: int
    user: str | None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, scheme: str = "postgresql", password: str = PASSWORD, port: int | None = None) -> str:
        return f"{scheme}://{USER}:{password}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers; after a kill this includes its recovery."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        log = self.folder / "log"
        self._run("pg_ctl", "start", "--wait", "-D", str(self.data), "-l", str(log), "-o", options)

    def kill(self) -> None:
        """SIGKILL to it and all its children, as a machine that loses its power."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        for process in [first, *_children(first)]:
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: not is_alive(first), "the server is gone")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "--mode=immediate", "-D", str(self.data), check=False)

    def create(self, database: str) -> None:
        self.query("postgres", f'create database "{database}"')

    def query(self, database: str, statement: str) -> list[tuple[object, ...]]:
        import psycopg2

        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True
            rows = connection.cursor()
            rows.execute(statement)
            return rows.fetchall() if rows.description else []

    def dump(self, database: str) -> str:
        """All that a database holds, as text."""
        command = [str(self.programs / "pg_dump"), "--dbname", self.url(database)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        """With a log file for its output: a server that is started inherits it, and a pipe would never end."""
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [self.programs / program, *arguments],
                user=self.user,
                group=pwd.getpwnam(self.user).pw_gid if self.user else None,
                extra_groups=[] if self.user else None,
                cwd=self.folder,
                stdout=said,
                stderr=said,
            )
            said.seek(0)
            assert not check or done.returncode == 0, said.read().decode(errors="replace")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A new server with the superuser `ada`, whom it asks for her password; skips where PostgreSQL is absent."""
    pytest.importorskip("psycopg2", reason="no driver: pip install 'llmill[postgres]'")
    versions = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        pytest.skip(f"no PostgreSQL below {PROGRAMS}: apt-get install postgresql")
    user = _unprivileged() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="llmill-postgres-"))  # pytest's own folders are closed to other users
    try:
        from flows.prefect.servers import free_port

        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        server = Postgres(versions[-1].parent, folder, free_port(), user)
        access = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder / 'password'}"]
        server._run("initdb", "--no-sync", "--encoding=UTF8", "--locale=C", *access, str(server.data))
        (folder / "password").unlink()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in known)


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(process) for process in listed.read_text().split()]
