"""Runs of a graph that come to an end: by themselves, when their time is over, or when nobody waits for them any more.

A graph can compute for ever, and ONNX Runtime hears neither Ctrl-C nor Python's exceptions while it does. It looks at a
flag of the run before each operator.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from milvus_fghash.errors import BundleError, ConfigError, one_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, RunOptions

ENCODE_TIMEOUT: Final = 300.0
"""Seconds for one batch, unless another number is asked for."""
LONGEST_TIMEOUT: Final = 86_400.0


def check_timeout(seconds: float) -> float:
    """``seconds``, if they are a time limit that can be.

    Raises:
        ConfigError: otherwise.
    """
    if not 0 < seconds <= LONGEST_TIMEOUT:
        raise ConfigError(
            f"the time limit of encoding must be above 0 and at most {LONGEST_TIMEOUT:.0f} seconds, got {seconds}"
        )
    return seconds


class GraphRuns:
    """Runs of one session that belong together. Threads may share it; `end` ends them all."""

    def __init__(self, session: InferenceSession, bundle: Path, timeout: float) -> None:
        self._session, self._bundle, self._timeout = session, bundle, timeout
        self._lock, self._ended = threading.Lock(), False
        self._under_way: set[RunOptions] = set()

    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """Outputs by name.

        Raises:
            BundleError: when the graph fails, needs more than its time, or was ended.
        """
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = 4  # what matters is raised
        over = threading.Event()

        def end() -> None:
            over.set()
            options.terminate = True

        with self._lock:
            self._under_way.add(options)
            options.terminate = self._ended
        clock = threading.Timer(self._timeout, end)
        clock.daemon = True
        clock.start()
        try:
            values = cast(list[NDArray[Any]], self._session.run(outputs, {"images": images}, options))
        except Exception as error:  # ONNX Runtime has no exception class of its own above its many
            if over.is_set():
                raise BundleError(
                    f"{self._bundle} did not encode a batch of {len(images)} in {self._timeout:g} seconds, and was "
                    "ended; allow more time if the model is that slow, else export it again"
                ) from None
            raise BundleError(f"ONNX Runtime cannot run {self._bundle}: {one_line(error)}") from error
        finally:
            clock.cancel()
            with self._lock:
                self._under_way.discard(options)
            clock.join()  # no thread is left behind
        return dict(zip(outputs, values, strict=True))

    def end(self) -> None:
        """End those under way before their next operator, and any that begins later; does not wait for it."""
        with self._lock:
            self._ended = True
            for options in self._under_way:
                options.terminate = True
