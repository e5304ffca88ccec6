"""Processes that do not outlive the one that started them."""

import os
import threading
import time

POLL_SECONDS = 0.3


def watch_parent(parent_pid: int) -> None:
    """End this process when its parent is gone, however the parent died.

    A daemon thread polls `getppid()`: a SIGKILL of the parent runs no handler anywhere, and prctl's death signal
    exists on Linux only and follows the parent's thread, not its process. The process ends at once, without
    cleaning up: what must survive a kill is on disk already.
    """

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
