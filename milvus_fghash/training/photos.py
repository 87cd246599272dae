"""Photos of a dataset -> batches of pixels for training, as centre crops or with a random crop and flip."""

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
"""Seed of the view that evaluation and serving use."""

MAX_NAMED_PHOTOS = 5
"""Unreadable photos that an error names."""

MAX_KEPT_BYTES = 1 << 30
"""Memory for decoded photos, divided among the processes that decode; the others are decoded for every view."""


class Photos(torch_data.Dataset[Tensor]):
    """Views of photos by (row, seed): uint8 (3, size, size). The seed alone decides crop and flip."""

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
        self.dataset = dataset
        self.preprocessing, self.augmentation = preprocessing, augmentation
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
            photo = self.open(row, every_pixel=True)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)  # manual_seed would also seed the GPU, for good
                photo = self.random_view(photo)
            return torch.from_numpy(np.array(photo)).permute(2, 0, 1)
        return torch.from_numpy(prepare(self.open(row), self.preprocessing)).permute(2, 0, 1)

    def open(self, row: int, every_pixel: bool = False) -> Image.Image:
        """A photo, decoded as evaluation and serving do it.

        Args:
            row: its position in the dataset.
            every_pixel: decode at full scale, for random views: a small part at a reduced scale is too coarse.

        Raises:
            DataError: when it cannot be decoded.
        """
        enough = self.preprocessing.min_decoded_side
        kept = self._kept.get((row, True))
        if kept and not every_pixel and min(kept.size) >= 2 * enough:
            kept = self._kept.get((row, False))
        kept = kept or self._kept.get((row, every_pixel))
        if kept:
            return kept
        try:
            photo = open_rgb(self.dataset.file(row), preprocessing=None if every_pixel else self.preprocessing)
        except ImageRejected as error:
            raise DataError(f"photo rejected ({error.reason}): {error}") from error
        size = 3 * photo.width * photo.height
        worker = get_worker_info()
        if self._kept_bytes + size <= MAX_KEPT_BYTES // (worker.num_workers if worker else 1):
            self._kept[row, every_pixel or min(photo.size) < enough] = photo  # a photo this small was not reduced
            self._kept_bytes += size
        return photo


class _Faults(torch_data.Dataset[str]):
    """Why each photo cannot be read; "" for those that can."""

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


def check(
    parts: Sequence[tuple[Photos, Sequence[int]]], workers: int, progress: Progress = lambda done, total: None
) -> None:
    """Decode photos once, so that all unreadable ones are known before any work is lost to one.

    Args:
        parts: photos below one folder, and the rows of those to check.
        workers: processes that decode.
        progress: called with the number of photos done and their total.

    Raises:
        DataError: names the first few unreadable photos.
    """
    found: list[str] = []
    done, total = 0, sum(len(rows) for _, rows in parts)
    for photos, rows in parts:
        for faults in _faults_of(photos, rows, workers):
            found += filter(None, faults)
            done += len(faults)
            progress(done, total)
    if found:
        named = found[:MAX_NAMED_PHOTOS]
        if len(found) > len(named):
            named.append(f"and {len(found) - len(named)} more")
        raise DataError(
            f"{len(found)} of {total} photos in {parts[0][0].dataset.origin} cannot be "
            f"used; remove them (from a list of photos, their lines): {'; '.join(named)}"
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
    """Decodes views ahead. Its ``workers`` processes live as long as it does, because starting them takes seconds."""

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
        except DataError as error:  # from a worker, with its traceback as text; the last line is the message
            raise DataError(str(error).strip().splitlines()[-1].removeprefix(f"{_full_name(DataError)}: ")) from None


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
