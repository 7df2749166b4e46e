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
from mobile_multimodal.serving.workers.channel import ChannelClosedError, WorkerChannel
from mobile_multimodal.serving.workers.error_record import record_of_error
from mobile_multimodal.serving.workers.open_model import OpenModel
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
    channel = WorkerChannel(connection)
    control = ControlThread(channel)
    control.start()
    try:
        _work(channel, settings, control)
    except ChannelClosedError:
        os._exit(1)
    except BaseException:  # a defect; joining the control thread would keep a process that does not work
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    control.join()
    channel.close()


def _work(channel: WorkerChannel, settings: PoolSettings, control: ControlThread) -> None:
    try:
        model = OpenModel(settings)
        model.warm_up()
        runner = TaskRunner(model, settings.picture_cache_bytes)
    except (MobileMultiModalError, OSError, MemoryError) as error:
        channel.send({"kind": "failed", "error": record_of_error(error)})
        return  # the front answers with stop
    channel.send({"kind": "ready", "model": model.identity})
    while (items := control.batches.get()) is not None:
        runner.run_batch(items, channel.send)
        del items  # the pictures' bytes, while the worker waits


class ControlThread(threading.Thread):
    """Reads what the front sends while the main thread works: batches, cancellations, questions, the end."""

    def __init__(self, channel: WorkerChannel) -> None:
        super().__init__(name="mobile-mm-control")
        self.batches: queue.SimpleQueue[list[WorkItem] | None] = queue.SimpleQueue()
        self._channel = channel
        self._batch: list[WorkItem] = []

    def run(self) -> None:
        try:
            while True:
                header, body = self._channel.receive()
                if header["kind"] == "run":
                    self._batch = items_of_records(header["jobs"], body)
                    self.batches.put(self._batch)
                elif header["kind"] == "cancel":
                    for item in self._batch:
                        if item.number in header["numbers"]:
                            item.cancellation.cancel()
                elif header["kind"] == "ping":
                    self._channel.send({"kind": "pong"})
                elif header["kind"] == "stop":
                    self.batches.put(None)
                    return
                del body  # the items hold it
        except ChannelClosedError:
            # The front is gone, or wants to be rid of this worker: nobody would read what the main thread is doing.
            os._exit(1)
