"""How photos are read and decoded: limits, worker processes, time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from milvus_fghash.core.images import DEFAULT_LIMITS, Limits
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.paths import FolderBoundary
from milvus_fghash.datasets.sources.location import InvalidSource, Source
from milvus_fghash.errors import ConfigError

DEFAULT_WORKERS: Final = min(8, os.cpu_count() or 1) if os.name == "posix" else 0
"""Decoder processes, unless another number is given."""
DECODE_TIMEOUT: Final = 30.0
"""Seconds for one photo, unless another number is given."""
MAX_DECODE_TIMEOUT: Final = 86_400.0
OUTSIDE: Final = "outside"
"""Reason of a photo outside the folder, to which a link leads."""
MAX_PHOTOS_WITHOUT_WORKERS: Final = 64
"""So many photos are decoded in this process before worker processes have started."""


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """How photos are read and decoded.

    Attributes:
        limits: of the bytes and pixels of a photo; a larger one is rejected.
        workers: processes that decode. With workers, a photo that crashes its decoder, hangs it or fills its memory is
            rejected, and all others are decoded. 0: decode in this process. Default: one per core, at most 8.
        decode_timeout: seconds for one photo, where there are workers.
        follow_links: also read photos outside the folder of the photos to which a link in it leads.

    Raises:
        ConfigError: when workers or the time limit are out of range.

    Examples:
        >>> DecodeOptions(workers=2, decode_timeout=5).workers
        2
    """

    limits: Limits = DEFAULT_LIMITS
    workers: int | None = None
    decode_timeout: float = DECODE_TIMEOUT
    follow_links: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"the number of workers must be 0 or more, got {self.workers}", setting="workers")
        if not 0 < self.decode_timeout <= MAX_DECODE_TIMEOUT:
            raise ConfigError(
                f"the time limit of decoding must be above 0 and at most {MAX_DECODE_TIMEOUT:.0f} seconds, got "
                f"{self.decode_timeout}",
                setting="decode_timeout",
            )

    @property
    def worker_count(self) -> int:
        """Processes that decode; 0: none."""
        return DEFAULT_WORKERS if self.workers is None else self.workers

    def sources_of(self, dataset: Dataset) -> Callable[[int], Source]:
        """The source of each photo of a dataset.

        Args:
            dataset: the photos.

        Returns:
            A function from the row to its source, which is an `InvalidSource` if a link leads out of the folder and
            links are not followed.
        """
        boundary = FolderBoundary(dataset.root)

        def source(row: int) -> Source:
            found, path = dataset.source(row), dataset.paths[row]
            if self.follow_links or not isinstance(found, Path) or path in boundary:
                return found
            message = f"{path} is a link that leads out of the folder of the photos; follow links to read it"
            return InvalidSource(path, "", OUTSIDE, message)

        return source

    def for_photos(self, count: int) -> Self:
        """A copy for a number of photos: a few are decoded in this process, unless ``workers`` is set.

        Args:
            count: number of photos.

        Returns:
            The copy.
        """
        if self.workers is not None:
            return self
        return replace(self, workers=DEFAULT_WORKERS if count > MAX_PHOTOS_WITHOUT_WORKERS else 0)


DEFAULT_DECODE_OPTIONS: Final = DecodeOptions()
