"""Photos of a listing -> batches of pixels for training, as centre crops or with a random crop and flip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data
from torch.utils.data import DataLoader, get_worker_info
from torchvision.transforms import v2

from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.images import Preprocessing, open_rgb, prepare
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError, ImageRejected
from milvus_fghash.recipes.schema import Augmentation

View = tuple[int, int]
"""(row, seed)."""


CENTRE_CROP = -1
"""A view's seed that stands for the centre crop of evaluation and serving."""

FEW = 5
"""Photos that an error names."""

KEPT_BYTES = 1 << 30
"""Decoded photos kept in memory, shared out among the processes that decode; the rest is decoded for every view."""


class Photos(torch_data.Dataset[Tensor]):
    """Views of photos by (row, seed): uint8 (3, size, size). The seed alone decides crop and flip."""

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
        self.dataset = dataset
        self.preprocessing = preprocessing
        self._kept: dict[tuple[int, bool], Image.Image] = {}
        self._kept_bytes = 0
        interpolation = v2.InterpolationMode(preprocessing.interpolation)
        self.random_view = v2.Compose(
            [
                v2.RandomResizedCrop(
                    preprocessing.size, augmentation.scale, augmentation.ratio, interpolation, antialias=True
                ),
                v2.RandomHorizontalFlip(augmentation.flip),
            ]
        )

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, view: View) -> Tensor:
        row, seed = view
        if seed != CENTRE_CROP:
            photo = self.open(row, whole=True)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU too, for good
                photo = self.random_view(photo)
            return torch.from_numpy(np.array(photo)).permute(2, 0, 1)
        return torch.from_numpy(prepare(self.open(row), self.preprocessing)).permute(2, 0, 1)

    def open(self, row: int, whole: bool = False) -> Image.Image:
        """Decoded as evaluation and serving do it.

        Args:
            whole: with every pixel. A random view may show a small part, where a reduced scale would be too coarse.

        Raises:
            DataError: when it cannot be.
        """
        enough = self.preprocessing.min_decoded_side
        kept = self._kept.get((row, True))
        if kept and not whole and min(kept.size) >= 2 * enough:
            kept = self._kept.get((row, False))
        kept = kept or self._kept.get((row, whole))
        if kept:
            return kept
        try:
            photo = open_rgb(self.dataset.file(row), preprocessing=None if whole else self.preprocessing)
        except ImageRejected as error:
            raise DataError(f"photo rejected ({error.reason}): {error}") from error
        size = 3 * photo.width * photo.height
        worker = get_worker_info()
        if self._kept_bytes + size <= KEPT_BYTES // (worker.num_workers if worker else 1):
            self._kept[row, whole or min(photo.size) < enough] = photo  # such a small one was not reduced
            self._kept_bytes += size
        return photo


class _Faults(torch_data.Dataset[str]):
    """What is wrong with each photo; "" for those that can be read."""

    def __init__(self, photos: Photos, rows: Sequence[int]) -> None:
        self.photos, self.rows = photos, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> str:
        try:
            self.photos.open(self.rows[place])
        except DataError as error:
            return str(error)
        return ""


def check(photos: Photos, rows: Sequence[int], workers: int, report: Progress = lambda done, total: None) -> None:
    """Decode photos once: what cannot be read is known at once, and all of it, before any work is lost.

    Args:
        report: called with the number of photos done, and of all.

    Raises:
        DataError: names the first few.
    """
    check_all([(photos, rows)], workers, report)


def check_all(
    parts: Sequence[tuple[Photos, Sequence[int]]], workers: int, report: Progress = lambda done, total: None
) -> None:
    """`check` of the photos of several listings below one folder."""
    found: list[str] = []
    done, total = 0, sum(len(rows) for _, rows in parts)
    for photos, rows in parts:
        for faults in _faults_of(photos, rows, workers):
            found += filter(None, faults)
            done += len(faults)
            report(done, total)
    if found:
        told = [*found[:FEW], *([f"and {len(found) - FEW} more"] if len(found) > FEW else [])]
        raise DataError(
            f"{len(found)} of {total} photos in {parts[0][0].dataset.origin} cannot be "
            f"used; remove them (from a list of photos, their lines): {'; '.join(told)}"
        )


def _faults_of(photos: Photos, rows: Sequence[int], workers: int) -> Iterator[list[str]]:
    loader: DataLoader[str] = DataLoader(
        _Faults(photos, rows),
        batch_size=64,
        collate_fn=list,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader


class Loader:
    """Decodes views ahead; starting its ``workers`` processes takes seconds, so they live as long as it does."""

    def __init__(self, photos: Photos, workers: int) -> None:
        self.photos = photos
        self._views: list[Sequence[View]] = []
        self._loader: DataLoader[Tensor] = DataLoader(
            photos,
            batch_sampler=self._views,  # type: ignore[arg-type]  # any sequence of batches of keys will do
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def batches(self, views: Sequence[Sequence[View]]) -> Iterator[Tensor]:
        """Batches of views, uint8 (b, 3, size, size), in order; one call at a time.

        Raises:
            DataError: when a photo cannot be decoded.
        """
        self._views[:] = views
        try:
            yield from self._loader
        except DataError as error:  # a worker's comes with the text of its whole traceback; the last line is the error
            raise DataError(str(error).strip().splitlines()[-1].removeprefix(f"{_full_name(DataError)}: ")) from None


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
