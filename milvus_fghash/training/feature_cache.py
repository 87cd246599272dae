"""Features of a frozen backbone, on the disk.

FOLDER/features-KEY/SHARD.safetensors   for some photos: name of the method's `embed` -> (photos, 1 + views, n_features)

A shard is written atomically and never changes. A killed process therefore loses the photos of one shard, and several
trainings may fill one folder at the same time (both may compute a photo; the results are equal). Reading takes the
memory of the result and of one shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from milvus_fghash.core.atomic_io import atomic_path
from milvus_fghash.core.bounded_file import check_regular
from milvus_fghash.core.callbacks import Progress
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import DataError, TrainingError
from milvus_fghash.methods.base import HashMethod, derive_seed
from milvus_fghash.recipes.schema import Recipe
from milvus_fghash.training.onnx_features import runtime_features
from milvus_fghash.training.photos import CENTRE_CROP, Loader, Photos, View, check
from milvus_fghash.training.sources import centre_crop_features, computed_features, embed_anchor, in_batches

PHOTOS_PER_SHARD = 1024

Places = dict[str, tuple[Path, int]]
"""Stamp of a photo -> its shard, and its row in it."""


@dataclass(frozen=True)
class FeatureCache:
    """Features of the centre crop and of ``views`` augmented views of some photos, in a folder that trainings share.

    The key of the folder covers the backbone's weights, the views and the method's embedding; photos are cached one by
    one, so another selection of photos computes only the new ones. The id of a photo alone determines its views: they
    are the same for every seed and every selection.
    """

    method: HashMethod
    photos: Photos
    folder: Path
    device: torch.device
    views: int
    """Augmented views per photo besides the centre crop."""
    workers: int = 0
    """Processes that decode photos."""
    centre_crop_only: bool = False
    """Whether only the "anchor" of the centre crop is kept, which is all that encoding needs."""

    def fill(
        self,
        progress: Progress = lambda done, total: None,
        check_progress: Progress = lambda done, total: None,
        *,
        checked: bool = False,
        until: Callable[[], bool] = lambda: False,
    ) -> Places:
        """Compute the features that are missing; returns the place of each photo's features.

        Args:
            progress: called with the number of views computed and their total.
            check_progress: called with the number of photos decoded to check them, and their total.
            checked: the `missing` photos are known to be readable.
            until: called after each batch; from when it is true, no further photo is computed.

        Raises:
            DataError: when a photo cannot be read, or the features cannot be written.
            TrainingError: when a shard is damaged.
        """
        known = self._places()
        missing = self._missing(known)
        if not missing:
            return known
        if not checked:
            check([(self.photos, missing)], self.workers, check_progress)
        embed = embed_anchor(self.method) if self.centre_crop_only else self.method.embed
        if self._needs_pooled_features_only:
            digest, side = self._backbone_hash.hexdigest(), self.photos.preprocessing.size
            views = len(missing) * (1 + self._n_views)
            embed = runtime_features(self.method.backbone, self.folder, digest, side, views, self.device) or embed
        shards = [missing[start : start + PHOTOS_PER_SHARD] for start in range(0, len(missing), PHOTOS_PER_SHARD)]
        batches = [in_batches(self._views(rows), self.device) for rows in shards]
        computing = computed_features(
            self.method,
            embed,
            Loader(self.photos, self.workers),
            [batch for of_shard in batches for batch in of_shard],
            self.device,
        )
        done, total = 0, len(missing) * (1 + self._n_views)
        for rows, of_shard in zip(shards, batches, strict=True):
            parts = []
            ended = False
            for part in islice(computing, len(of_shard)):
                parts.append(part)
                done += len(part["anchor"])
                progress(done, total)
                if ended := until():
                    break
            computed = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            whole = rows[: len(computed["anchor"]) // (1 + self._n_views)]
            if whole:
                views = len(whole) * (1 + self._n_views)
                shard = self._write(whole, {name: value[:views] for name, value in computed.items()})
                known |= {self._stamps[row]: (shard, place) for place, row in enumerate(whole)}
            if ended:
                break
        return known

    def missing(self) -> list[int]:
        """Rows of the photos that `fill` has to compute."""
        return self._missing(self._places())

    def _missing(self, known: Places) -> list[int]:
        return [row for row, stamp in enumerate(self._stamps) if stamp not in known]

    def read(
        self, progress: Progress = lambda done, total: None, check_progress: Progress = lambda done, total: None
    ) -> dict[str, Tensor]:
        """Name -> (1 + views, photos, n_features), the centre crop first; `fill` runs before."""
        return self._read(self.fill(progress, check_progress), slice(None))

    def read_centre_crops(self) -> Tensor:
        """(photos, n_features) of the centre crops, from the method's `features`; `fill` runs before."""
        return self._read(self.fill(), slice(0, 1), ("anchor",))["anchor"][0]

    def _read(self, known: Places, views: slice, only: tuple[str, ...] = ()) -> dict[str, Tensor]:
        rows_of: dict[Path, list[int]] = {}
        for row, stamp in enumerate(self._stamps):
            rows_of.setdefault(known[stamp][0], []).append(row)
        found: dict[str, Tensor] = {}
        for shard, rows in rows_of.items():
            at = torch.tensor([known[self._stamps[row]][1] for row in rows])
            with _opened(shard) as file:
                for name in only or file.keys():
                    kept = file.get_slice(name)[:, views][at].transpose(0, 1)
                    if name not in found:
                        found[name] = kept.new_empty(len(kept), len(self.photos), kept.shape[2])
                    found[name][:, rows] = kept
        return found

    @property
    def views_per_photo(self) -> int:
        """Number of features of each photo: the centre crop and random views."""
        return 1 + self._n_views

    @property
    def _n_views(self) -> int:
        return 0 if self.centre_crop_only or not self.method.wants_views else self.views

    @cached_property
    def _stamps(self) -> list[str]:
        """For each row what determines its features: the id, which determines the views, and the file."""
        return [f"{id} {_stamp(self.photos.dataset.file(row))}" for row, id in enumerate(self.photos.dataset.ids)]

    @property
    def _needs_pooled_features_only(self) -> bool:
        method = self.method
        return method.features_key == HashMethod.features_key and (
            self.centre_crop_only or method.embedding_key == HashMethod.embedding_key
        )

    @cached_property
    def _backbone_hash(self) -> Any:
        digest = hashlib.sha256()
        for name, value in self.method.backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest

    @cached_property
    def _shards(self) -> Path:
        described = {
            "representation": self.method.features_key,
            "embedding": "anchor" if self.centre_crop_only else self.method.embedding_key,
            "views": self._n_views,
            "normalisation": [self.method.backbone.mean, self.method.backbone.std],
            "preprocessing": self.photos.preprocessing.model_dump(),
            "augmentation": self.photos.augmentation.model_dump() if self._n_views else None,
        }
        digest = self._backbone_hash.copy()
        digest.update(json.dumps(described, sort_keys=True).encode())
        return self.folder / f"features-{digest.hexdigest()[:32]}"

    def _places(self) -> Places:
        """Places of all photos in the folder, of this selection or another."""
        places: Places = {}
        for shard in sorted(self._shards.glob("*.safetensors")):
            with _opened(shard) as file:
                stamps = parse_json(file.metadata()["photos"])
                if any(file.get_slice(name).get_shape()[0] != len(stamps) for name in file.keys()):  # noqa: SIM118
                    raise _damaged(shard, "it does not have one row of features per photo")
            places.update({stamp: (shard, place) for place, stamp in enumerate(stamps)})
        return places

    def _views(self, rows: list[int]) -> list[View]:
        """Views of some rows, photo by photo."""
        views: list[View] = []
        for row in rows:
            number = int.from_bytes(hashlib.blake2b(self.photos.dataset.ids[row].encode(), digest_size=7).digest())
            views += [(row, CENTRE_CROP), *((row, derive_seed(view, number)) for view in range(1, 1 + self._n_views))]
        return views

    def _write(self, rows: list[int], computed: dict[str, Tensor]) -> Path:
        stamps = json.dumps([self._stamps[row] for row in rows])
        tensors = {name: value.view(len(rows), 1 + self._n_views, -1) for name, value in computed.items()}
        path = self._shards / f"{hashlib.sha256(stamps.encode()).hexdigest()[:32]}.safetensors"
        try:
            with atomic_path(path) as unfinished:
                save_file(tensors, unfinished, {"photos": stamps})
        except (OSError, SafetensorError) as error:
            raise DataError(f"cannot write the features {path}: {error}") from None
        return path


def dataset_features(
    method: HashMethod, dataset: Dataset, recipe: Recipe, cache: Path, device: torch.device, *, centre_crop_only: bool
) -> Tensor:
    """Centre-crop features (n, n_features) of a trained method, through the cache if the backbone is frozen.

    Args:
        centre_crop_only: as in `FeatureCache`.
    """
    photos = Photos(dataset, recipe.preprocessing, recipe.augmentation)
    if not recipe.backbone.frozen:
        return centre_crop_features(method, Loader(photos, recipe.training.workers), device)
    return FeatureCache(
        method, photos, cache, device, recipe.backbone.views, recipe.training.workers, centre_crop_only
    ).read_centre_crops()


@contextmanager
def _opened(shard: Path) -> Iterator[Any]:
    """An open shard; a damaged one raises TrainingError."""
    try:
        check_regular(shard)
        with safe_open(shard, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _damaged(shard, error) from None


def _damaged(shard: Path, why: object) -> TrainingError:
    return TrainingError(f"the cached features in {shard} are damaged ({why}); delete the file")


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"cannot read the photo {file}: {error.strerror}. Remove it from the list") from None
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
