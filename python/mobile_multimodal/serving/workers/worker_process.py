"""The life of a worker process: opens the model, does one batch after another, ends with its front."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import signal
import socket
import sys
import threading
import traceback

from mobile_multimodal.errors import MobileMultiModalError
from mobile_multimodal.serving.workers.channel import ChannelClosedError, receive_frame, send_frame
from mobile_multimodal.serving.workers.error_record import record_of_error
from mobile_multimodal.serving.workers.pool_settings import PoolSettings
from mobile_multimodal.serving.workers.task_runner import TaskRunner
from mobile_multimodal.serving.workers.work_item import WorkItem, items_of_records


def run_worker(connection: socket.socket, settings: PoolSettings) -> None:
    """Works until the front says stop or is gone; a front that was killed takes its workers with it."""
    # Ctrl-C and a supervisor's SIGTERM reach the whole group of processes; the front drains first, then ends workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # no error output to write to
        faulthandler.enable()
    control = ControlThread(connection)
    control.start()
    try:
        _work(connection, settings, control)
    except ChannelClosedError:
        os._exit(1)
    except BaseException:  # a defect; joining the control thread would keep a process that does not work
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    control.join()
    connection.close()


def _work(connection: socket.socket, settings: PoolSettings, control: ControlThread) -> None:
    try:
        runner = TaskRunner(settings)
        runner.warm_up()
    except (MobileMultiModalError, OSError, MemoryError) as error:
        send_frame(connection, {"kind": "failed", "error": record_of_error(error)})
        return  # the front answers with stop
    control.runner = runner
    send_frame(connection, {"kind": "ready", "model": runner.identity()})
    while (items := control.batches.get()) is not None:
        runner.run_batch(items, lambda header: send_frame(connection, header))
        del items  # the pictures' bytes, while the worker waits
        hits, misses = runner.feature_cache_changes()
        send_frame(connection, {"kind": "done", "feature_hits": hits, "feature_misses": misses})
    runner.close()


class ControlThread(threading.Thread):
    """Reads what the front sends while the main thread works: batches, cancellations, the end."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(name="mobile-mm-control")
        self.batches: queue.SimpleQueue[list[WorkItem] | None] = queue.SimpleQueue()
        self.runner: TaskRunner | None = None
        self._connection = connection

    def run(self) -> None:
        try:
            while True:
                header, body = receive_frame(self._connection)
                if header["kind"] == "run":
                    self.batches.put(items_of_records(header["jobs"], body))
                    del body  # the items hold it
                elif header["kind"] == "cancel" and self.runner is not None:
                    self.runner.cancel(header["numbers"])
                elif header["kind"] == "stop":
                    self.batches.put(None)
                    return
        except ChannelClosedError:
            # The front is gone, or wants to be rid of this worker: nobody would read what the main thread is doing.
            os._exit(1)
