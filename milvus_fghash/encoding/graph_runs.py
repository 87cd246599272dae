"""Runs of an ONNX graph with a time limit, which can be ended from outside.

A graph can compute forever, and ONNX Runtime ignores Ctrl-C and Python's exceptions while it does. It checks a flag of
the run before each operator.
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
"""Seconds for one batch, unless another number is given."""
MAX_ENCODE_TIMEOUT: Final = 86_400.0


def check_timeout(seconds: float) -> float:
    """Return ``seconds`` if they are a valid time limit.

    Raises:
        ConfigError: otherwise.
    """
    if not 0 < seconds <= MAX_ENCODE_TIMEOUT:
        raise ConfigError(
            f"the time limit of encoding must be above 0 and at most {MAX_ENCODE_TIMEOUT:.0f} seconds, got {seconds}",
            setting="encode_timeout",
        )
    return seconds


class GraphRuns:
    """The runs of one session. Threads may share it; `end` ends all runs."""

    def __init__(self, session: InferenceSession, bundle: Path, timeout: float) -> None:
        self._session, self._bundle, self._timeout = session, bundle, timeout
        self._lock, self._ended = threading.Lock(), False
        self._under_way: set[RunOptions] = set()

    def run(self, images: NDArray[np.uint8], outputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """Outputs by name.

        Raises:
            BundleError: when the graph fails, exceeds the time limit, or was ended.
        """
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = 4  # what matters is raised
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            options.terminate = True

        with self._lock:
            self._under_way.add(options)
            options.terminate = self._ended
        clock = threading.Timer(self._timeout, end)
        clock.daemon = True
        clock.start()
        try:
            values = cast(list[NDArray[Any]], self._session.run(outputs, {"images": images}, options))
        except Exception as error:  # the exceptions of ONNX Runtime have no common class
            if timed_out.is_set():
                raise BundleError(
                    f"{self._bundle} did not encode a batch of {len(images)} in {self._timeout:g} seconds; allow more "
                    "time if the model is that slow, otherwise export it again",
                    setting="encode_timeout",
                ) from None
            raise BundleError(f"ONNX Runtime cannot run {self._bundle}: {one_line(error)}") from error
        finally:
            clock.cancel()
            with self._lock:
                self._under_way.discard(options)
            clock.join()  # no thread is left behind
        return dict(zip(outputs, values, strict=True))

    def end(self) -> None:
        """End all runs, also later ones, before their next operator; does not wait for them."""
        with self._lock:
            self._ended = True
            for options in self._under_way:
                options.terminate = True
