"""Imported by the fork server alone, before it forks: loads what workers share, and leaves stopping to the front.

Pages written before a fork stay shared until somebody writes them again; so all imports are done here, and the
garbage collector is told not to touch what they made.
"""

from __future__ import annotations

import gc
import os
import signal

# A thread for every CPU, and 30 MB of addresses for each, in every worker, for matrix products nobody asks numpy for.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from PIL import Image

import mobile_multimodal.serving.workers.worker_process  # noqa: F401
from mobile_multimodal import native  # noqa: F401

# The plugins of the formats; without, the first WebP or TIFF picture would load all of them in each worker.
Image.preinit()
Image.init()

# A supervisor that signals the whole group would end the fork server, and with it the reaping of workers, while the
# front still drains. It ends by itself when the front and all workers have.
signal.signal(signal.SIGTERM, signal.SIG_IGN)

gc.collect()
gc.freeze()
