"""A pool of processes for work that holds Python's lock: decoding and rendering pictures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from lazydiffusion.errors import OutOfMemory


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool(workers: int) -> Iterator[Executor | None]:
    """A pool, or None for one worker: the caller then does the work itself.

    Spawned, not forked: torch's threads and a CUDA context do not survive a fork. When the block is left by an
    error, tasks that have not started are dropped. Raises OutOfMemory if the system ends a worker.
    """
    if workers == 1:
        yield None
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise OutOfMemory(
            f"One of {workers} worker processes was ended, most likely for want of memory: use fewer workers."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
