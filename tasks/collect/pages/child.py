"""A child process that reads what may hang, crash or explode: web pages, PDF and Word files, one at a time.

Such a file costs itself and nothing else: past its processor time the operating system ends the child, memory has a
limit, and the next request starts a new child. What comes out depends on the file alone: a child that has read others
before and fails is not believed, a new one tries again, and one that takes too long does so by its own processor
time, however busy the machine is.

Messages go over pipes as frames (a length of 8 bytes, then the bytes): the request as JSON, the file, and back the
answer as JSON. Nothing is unpickled.
"""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import IO, Any, Self

from storage.processes import program_environment

WORKER = "tasks.collect.pages.worker"
LENGTH = struct.Struct(">Q")
WALL_FACTOR = 10  # of the processor time, that a child may take by the clock: it waits for nothing but the processor
REQUESTS = 2000  # that a child answers: libraries that leak start anew


class Broken(Exception):
    """The other side of a pipe is gone."""


def write_frame(pipe: IO[bytes], data: bytes) -> None:
    """One message; `read_frame` takes it."""
    pipe.write(LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def read_frame(pipe: IO[bytes]) -> bytes:
    """The next message; raises Broken where it does not come whole."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise Broken
    (length,) = LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        raise Broken
    return data


class Child:
    """Owns the process; a context manager. It is started when it is first needed and ends with its parent."""

    def __init__(self, seconds: float, memory_bytes: int) -> None:
        self._seconds, self._memory_bytes = seconds, memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._answered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, request: Mapping[str, Any], body: bytes) -> dict[str, Any] | str:
        """The answer to a request about some bytes, or the reason why there is none."""
        used = self._process is not None and self._answered > 0
        answer, blamed = self._ask(request, body)
        if used and not blamed:
            answer, _ = self._ask(request, body)
        return answer

    def _ask(self, request: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any] | str, bool]:
        """The answer or reason, and whether it is the file's own: not that of a child that others have filled."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(WALL_FACTOR * self._seconds, kill)
        timer.start()
        try:
            write_frame(process.stdin, json.dumps(request).encode())
            write_frame(process.stdin, body)
            answer: dict[str, Any] = json.loads(read_frame(process.stdout))
        except (Broken, OSError):
            timer.cancel()
            return self._why_ended(process, late.is_set())
        except BaseException:
            self._end()
            raise
        finally:
            timer.cancel()
        self._answered += 1
        if answer.get("spoiled") or self._answered >= REQUESTS:
            self._end()
        reason = answer.get("reason")
        return (reason, not answer.get("spoiled")) if isinstance(reason, str) else (answer, True)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
            limits = [str(self._seconds), str(self._memory_bytes)]
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "storage.processes", str(os.getpid()), WORKER, *limits],
                env=program_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
            self._answered = 0
        return self._process

    def _why_ended(self, process: subprocess.Popen[bytes], late: bool) -> tuple[str, bool]:
        """The reason that a file has no answer, and whether it is to blame; RuntimeError where the program is."""
        status = process.wait()
        log = self._log
        assert log is not None
        if status > 0:
            log.seek(0)
            tail = log.read().decode("utf-8", "replace").strip()[-2000:]
            self._end()
            raise RuntimeError(f"the process that reads pages ended with status {status}: {tail}")
        self._end()
        if late or status == -signal.SIGXCPU:
            return f"timed out after {self._seconds:g} s", True
        return f"its reader crashed ({signal.Signals(-status).name if status else 'no answer'})", False

    def _end(self) -> None:
        process, self._process = self._process, None
        log, self._log = self._log, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what it was too late to read
                    pipe.close()  # type: ignore[union-attr]
        if log is not None:
            log.close()
