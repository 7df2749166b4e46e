"""Starts worker processes through multiprocessing's fork server, so that they share the pages of what it loaded."""

from __future__ import annotations

import multiprocessing
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from types import ModuleType
from typing import Final

from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.worker_process import run_worker

_PRELOAD: Final = "mobile_multimodal.serving.workers.worker_preload"
_starting: Final = threading.Lock()


def start_worker_process(connection: socket.socket, settings: PoolSettings, name: str) -> ForkServerProcess:
    """A new worker at the other end of `connection`. Blocks for 10 ms, the first time for 0.3 s."""
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=run_worker, args=(connection, settings), name=name)
    with _starting, _main_module_hidden():
        context.set_forkserver_preload([_PRELOAD])  # heeded by the first start alone
        process.start()
    return process


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """multiprocessing imports the main program of a process into its children: a whole web server, in every worker,
    after the fork, so that nothing of it is shared. A worker needs none of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
