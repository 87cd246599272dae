"""Run the trainings of a grid, one after the other in this process or in parallel in worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue

import torch

from milvus_fghash.errors import TrainingError
from milvus_fghash.experiments.cells import GridContext, Task, run_cell
from milvus_fghash.experiments.records import Record

Finished = Generator[tuple[Task, Record], None, None]
Begun = SimpleQueue[tuple[int, str]]
"""Gets the process and the name of each training that begins."""
_begun: Begun | None = None
"""In a worker: the queue of its grid."""


def run_tasks(tasks: Sequence[Task], context: GridContext, jobs: int, threads: int | None) -> Finished:
    """Run all tasks and yield each with its record as it finishes. Closing the generator ends the workers.

    Args:
        tasks: started in this order.
        context: what they share.
        jobs: number of worker processes; 1 runs the tasks in this process.
        threads: torch threads per training; default: torch's own number divided by ``jobs``.

    Raises:
        FghashError: the error of the first task that fails.
        TrainingError: when a worker process was killed.
    """
    before = torch.get_num_threads()
    threads = threads or max(1, before // jobs)
    if jobs > 1 and tasks:
        yield from _run_in_workers(tasks, context, min(jobs, len(tasks)), threads)
        return
    torch.set_num_threads(threads)
    try:
        for task in tasks:
            yield task, run_cell(task, context)
    finally:
        torch.set_num_threads(before)


def _run_in_workers(tasks: Sequence[Task], context: GridContext, jobs: int, threads: int) -> Finished:
    spawn = multiprocessing.get_context("spawn")  # a forked copy of torch's threads hangs
    begun: Begun = spawn.SimpleQueue()
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_start_worker, initargs=(threads, begun))
    others = multiprocessing.active_children()
    current: dict[int, str] = {}
    try:
        with _interrupts_ignored():  # the workers inherit this
            futures = {pool.submit(_run_begun, task, context): task for task in tasks}
        workers = [one for one in multiprocessing.active_children() if one not in others]
        for future in as_completed(futures):
            _read_all(begun, current)  # a full pipe would block the workers
            yield futures[future], future.result()
    except BrokenProcessPool:
        pool.shutdown()  # waits for the other workers, which the pool has ended
        _read_all(begun, current)
        killed = [worker.pid for worker in workers if worker.exitcode not in (0, -signal.SIGTERM)]
        names = " or ".join(current[pid] for pid in killed if pid in current) or "that was about to begin"
        raise TrainingError(
            f"the process of the training {names} was killed, perhaps because memory ran out; finished trainings are "
            "recorded: run the same command again with fewer trainings at once",
            setting="jobs",
        ) from None
    finally:
        # `shutdown` alone would wait for trainings whose results nobody takes.
        for worker in multiprocessing.active_children():
            if worker not in others:
                worker.terminate()
        pool.shutdown(cancel_futures=True)


def _read_all(begun: Begun, current: dict[int, str]) -> None:
    """Update which training each process runs, which the pool does not know."""
    while not begun.empty():
        pid, name = begun.get()
        current[pid] = name


def _start_worker(threads: int, begun: Begun) -> None:
    global _begun
    _begun = begun
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _run_begun(task: Task, context: GridContext) -> Record:
    """`run_cell`, after the grid was told which training this process runs."""
    assert _begun is not None
    _begun.put((os.getpid(), task.name))
    return run_cell(task, context)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; only the grid's own process must react to it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """End a worker whose parent was killed: the parent cannot end it, and nobody would record its training."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
