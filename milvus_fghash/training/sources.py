"""Where the features of a step come from: the trunk, photo by photo, or a cache when the trunk is frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from milvus_fghash.config import Recipe
from milvus_fghash.errors import DataError, TrainingError
from milvus_fghash.methods.base import Batch, HashMethod, derive_seed
from milvus_fghash.training.draws import Step
from milvus_fghash.training.photos import PLAIN, Photos, load
from milvus_fghash.whole_file import written

Report = Callable[[int, int], None]
"""Called with photos done and photos in all."""


class Source(Protocol):
    """Gives the batches of a round, and the plain features of all photos."""

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]: ...

    def plain(self) -> Tensor:
        """(n, n_features) of the centre crops, on the CPU."""
        ...


class PhotoSource:
    """Decodes photos and runs the trunk under gradient, in the recipe's precision."""

    def __init__(self, method: HashMethod, photos: Photos, recipe: Recipe, device: torch.device) -> None:
        self.method, self.photos, self.device = method, photos, device
        self.plan = recipe.training

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]:
        views = [step.views() for step in steps]
        for step, pixels in zip(steps, load(self.photos, views, self.plan.workers), strict=True):
            images = to_input(self.method, pixels, self.device, self.plan.channels_last)
            with autocast(self.device, self.plan.precision):
                features = self.method.embed(images[: len(step.rows)])
                if step.positives is not None:
                    features["positive"] = self.method.represent(images[len(step.rows) :])
            rows = step.rows.to(self.device)
            yield Batch(rows, labels[rows], {name: value.float() for name, value in features.items()})

    def plain(self) -> Tensor:
        return plain_features(self.method, self.photos, self.device, self.plan.workers)


class FeatureSource:
    """Picks, for each photo of a step, one of its cached views at random."""

    def __init__(self, features: dict[str, Tensor], device: torch.device) -> None:
        """``features`` has, for each name of the method's `embed`, (views, n, n_features); view 0 is the plain one."""
        self.features = {name: value.to(device) for name, value in features.items()}
        self.n_views = len(features["anchor"])
        self.device = device

    def batches(self, steps: Sequence[Step], labels: Tensor) -> Iterator[Batch]:
        for step in steps:
            rows, view = step.rows.to(self.device), (step.seeds % self.n_views).to(self.device)
            features = {name: value[view, rows] for name, value in self.features.items()}
            if step.positives is not None:
                other_view = (step.seeds // self.n_views % self.n_views).to(self.device)
                features["positive"] = self.features["anchor"][other_view, step.positives.to(self.device)]
            yield Batch(rows, labels[rows], features)

    def plain(self) -> Tensor:
        return self.features["anchor"][0].cpu()


def cached_features(
    method: HashMethod,
    photos: Photos,
    recipe: Recipe,
    cache: Path,
    device: torch.device,
    report: Report = lambda done, total: None,
    *,
    plain: bool = False,
) -> dict[str, Tensor]:
    """What `embed` gives for the plain view and ``recipe.trunk.views`` augmented ones; name -> (views, n, n_features).

    They are kept in ``cache`` photo by photo, so that another choice of photos computes only what is new, under a key
    of the trunk's weights, the views and the method's embedding. A photo's views follow from its id alone: every seed
    and every choice of photos sees the same. With ``plain`` only the "anchor" of the plain view is computed.
    """
    views = 0 if plain or not method.wants_views else recipe.trunk.views
    path = cache / f"features-{_key(method, recipe, views, plain)}.safetensors"
    stamps = [_stamp(photos.listing.file(row)) for row in range(len(photos))]
    known, kept = _open(path)
    missing = [row for row, stamp in enumerate(stamps) if stamp not in known]
    if missing:
        wanted = [(row, _view_seed(photos, row, view)) for row in missing for view in range(1 + views)]

        def embed(images: Tensor) -> dict[str, Tensor]:
            return {"anchor": method.represent(images)} if plain else method.embed(images)

        computed = compute_features(method, embed, photos, wanted, device, recipe.training.workers, report)
        for name, value in computed.items():
            new = value.view(len(missing), 1 + views, -1)
            kept[name] = torch.cat([kept[name], new]) if name in kept else new
        known |= {stamps[row]: len(known) + place for place, row in enumerate(missing)}
        with written(path) as temporary:
            save_file(kept, temporary, {"photos": json.dumps(list(known))})
    places = torch.tensor([known[stamp] for stamp in stamps])
    return {name: value[places].transpose(0, 1).contiguous() for name, value in kept.items()}


def _open(path: Path) -> tuple[dict[str, int], dict[str, Tensor]]:
    """A cache's photos by stamp, and name -> (photos, views, n_features); empty where there is no file."""
    if not path.exists():
        return {}, {}
    try:
        with safe_open(path, framework="pt") as file:
            photos = json.loads(file.metadata()["photos"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"the cached features in {path} are damaged ({error}); delete the file") from None
    return {stamp: place for place, stamp in enumerate(photos)}, tensors


def _view_seed(photos: Photos, row: int, view: int) -> int:
    """View 0 is the plain one."""
    number = hashlib.blake2b(photos.listing.ids[row].encode(), digest_size=7).digest()
    return derive_seed(view, int.from_bytes(number)) if view else PLAIN


@torch.no_grad()
def compute_features(
    method: HashMethod,
    embed: Callable[[Tensor], dict[str, Tensor]],
    photos: Photos,
    views: Sequence[tuple[int, int]],
    device: torch.device,
    workers: int,
    report: Report = lambda done, total: None,
) -> dict[str, Tensor]:
    """What ``embed`` of a method gives for views, in evaluation mode; name -> (len(views), n_features) on the CPU."""
    was_training = method.training
    method.eval()
    size = 16 if device.type == "cpu" else 256  # what fits the processor's cache runs faster
    batches = [views[start : start + size] for start in range(0, len(views), size)]
    parts: dict[str, list[Tensor]] = {}
    for number, pixels in enumerate(load(photos, batches, workers)):
        for name, value in embed(to_input(method, pixels, device, channels_last=True)).items():
            parts.setdefault(name, []).append(value.float().cpu())
        report(min(size * (number + 1), len(views)), len(views))
    method.train(was_training)
    return {name: torch.cat(values) for name, values in parts.items()}


def plain_features(method: HashMethod, photos: Photos, device: torch.device, workers: int) -> Tensor:
    """(n, n_features) of the centre crops, from the network as it is now."""
    views = [(row, PLAIN) for row in range(len(photos))]

    def embed(images: Tensor) -> dict[str, Tensor]:
        return {"anchor": method.represent(images)}

    return compute_features(method, embed, photos, views, device, workers)["anchor"]


def to_input(method: HashMethod, pixels: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """uint8 (b, 3, h, w) from the loader -> the trunk's normalised input on its device."""
    images = method.trunk.normalise(pixels.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last) if channels_last else images.contiguous()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision for what runs inside, or nothing for float32."""
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    enabled = precision != "float32"
    return torch.autocast(device.type, dtype=kinds[precision] if enabled else None, enabled=enabled)


def _key(method: HashMethod, recipe: Recipe, views: int, plain: bool) -> str:
    digest = hashlib.sha256()
    for name, value in method.trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    described = {
        "representation": method.representation,
        "embedding": "anchor" if plain else method.embedding,
        "views": views,
        "normalisation": [method.trunk.mean, method.trunk.std],
        "preprocessing": recipe.preprocessing.model_dump(),
        "augmentation": recipe.augmentation.model_dump() if views else None,
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _stamp(file: Path) -> str:
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"cannot read the photo {file}: {error.strerror}. Remove it from the listing") from None
    return f"{file.resolve()} {status.st_size} {status.st_mtime_ns}"
