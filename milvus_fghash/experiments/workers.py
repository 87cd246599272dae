"""Cells one after the other in this process, or side by side in processes that end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import torch

from milvus_fghash.errors import FghashError, TrainingError
from milvus_fghash.experiments.cells import GridContext, Task, run_cell
from milvus_fghash.experiments.records import Record

Done = Generator[tuple[Task, Record], None, None]


def work_through(tasks: Sequence[Task], bench: GridContext, jobs: int, threads: int | None) -> Done:
    """Run all tasks and give each as it is done. Close the iterator to end the workers.

    Args:
        tasks: in the order in which they are begun.
        bench: what they share.
        jobs: processes; 1 runs them in this one.
        threads: of torch in each; default: torch's own number, shared between the jobs.

    Raises:
        FghashError: what the first task that went wrong raised.
        TrainingError: when a worker was killed.
    """
    before = torch.get_num_threads()
    threads = threads or max(1, before // jobs)
    if jobs > 1:
        yield from _side_by_side(tasks, bench, jobs, threads)
        return
    torch.set_num_threads(threads)
    try:
        for task in tasks:
            yield task, run_cell(task, bench)
    finally:
        torch.set_num_threads(before)


def _side_by_side(tasks: Sequence[Task], bench: GridContext, jobs: int, threads: int) -> Done:
    context = multiprocessing.get_context("spawn")  # a forked copy of torch's threads hangs
    waiting = list(reversed(tasks))
    workers: list[SpawnProcess] = []
    busy: dict[Connection, Task] = {}
    try:
        for _ in range(min(jobs, len(tasks))):
            ours, theirs = context.Pipe()
            workers.append(context.Process(target=_serve, args=(theirs, bench, threads)))
            with _without_interrupts():
                workers[-1].start()
            theirs.close()  # so that a worker's death ends the pipe
            busy[ours] = _hand_over(ours, waiting.pop())
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                task = busy.pop(pipe)
                answer = _answer(pipe, task)
                if waiting:
                    busy[pipe] = _hand_over(pipe, waiting.pop())
                else:
                    pipe.close()
                yield task, answer
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()


def _hand_over(pipe: Connection, task: Task) -> Task:
    with suppress(ConnectionError):  # a worker that is gone is found out when its answer is awaited
        pipe.send(task)
    return task


def _answer(pipe: Connection, task: Task) -> Record:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionError):
        raise TrainingError(
            f"the process that ran {task.name} was killed, perhaps for want of memory; run it again to go on, with "
            "fewer trainings at once",
            setting="jobs",
        ) from None
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, Record)
    return answer


def _serve(pipe: Connection, bench: GridContext, threads: int) -> None:
    """A worker: tasks in, records or exceptions out, until the pipe is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    while True:
        try:
            task: Task = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(run_cell(task, bench))
        except FghashError as error:
            pipe.send(error)
        except Exception:
            pipe.send(RuntimeError(f"{task.name} failed in a worker\n{traceback.format_exc()}"))


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """What is started here never hears Ctrl-C, which reaches all processes of a terminal: the grid's own decides."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_with_parent() -> None:
    """A killed grid cannot end its workers, and they would train on without anyone to write it down."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
