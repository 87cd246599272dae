"""A checkpoint: attention, class-activation maps and the erased region. The only file of this folder with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import ConfigError
from milvus_fghash.explain import attention
from milvus_fghash.explain.attention import attention_views, noted
from milvus_fghash.explain.model import BATCH, Heat, Model, ModelOutputs, Pixels, Sources, View, Views, percent
from milvus_fghash.explain.pictures import erased, overlay, positive
from milvus_fghash.methods import fcaenet
from milvus_fghash.methods.base import BitSources
from milvus_fghash.methods.erasing import erasing_mask, side_of_box
from milvus_fghash.training.checkpoint import find_checkpoint, load_checkpoint
from milvus_fghash.training.device import device_named

DESCRIPTIONS = {
    "attention": attention.DESCRIPTION,
    "code": (
        "A class-activation map (Grad-CAM) of all bits of the code. Bright places support the bits as they are, the "
        "brightest of this photo the most; dark places do not, or support the opposite bits."
    ),
    "erased": (
        "The region that selective region erasing (SREM) removes: where the mean feature map is highest. The caption "
        "gives the size of the region, and how many bits of the code change without it."
    ),
}
BY_BIT_SCORES = (
    " For {method} the map explains the {bit_scores} of the bits, because its logits saturate where it is certain. For "
    "a photo of uncertain class, a bit can differ from the sign of its {bit_scores}."
)


class CheckpointModel(Model):
    """Attention of the method, Grad-CAM of the code and of single bits, and the region that SREM erases."""

    kind = "checkpoint"
    unavailable = ()

    def __init__(self, path: Path, device: str | None = None) -> None:
        if find_checkpoint(path) is None:
            raise ConfigError(f"{path} is neither a bundle nor a training; expected a folder made by export or train")
        loaded = load_checkpoint(path)
        state = loaded.state
        self.checkpoint = loaded.path
        self.path, self.method, self.bits, self.lineage = path, state.recipe.method.name, state.bits, state.lineage
        self.preprocessing = state.recipe.preprocessing
        self.device = device_named(device)
        self.network = loaded.method.to(self.device).requires_grad_(False)
        self.backbone = self.network.backbone
        self.mean, self.bit_scores_name = self.backbone.mean, self.network.bit_scores_name
        self.sources = _named(self.network.bit_sources(), state.classes)
        self.descriptions = dict(DESCRIPTIONS)
        if self.bit_scores_name != Model.bit_scores_name:
            self.descriptions["code"] += BY_BIT_SCORES.format(method=self.method, bit_scores=self.bit_scores_name)
        self.stage = self._last_common_stage()
        own = self.network.config if isinstance(self.network, fcaenet.Method) else None
        self.srem = own or fcaenet.Config()

    @property
    def folder(self) -> Path:
        return self.checkpoint

    def run(self, pixels: Pixels) -> ModelOutputs:
        with torch.inference_mode():
            features = [
                self.network.features(self._images(pixels[start : start + BATCH]))
                for start in range(0, len(pixels), BATCH)
            ]
            computed: list[Callable[[Tensor], Tensor]] = [self.network.head, self.network.bit_scores]
            computed += [self.network.source_activities] if self.sources else []
            logits, bit_scores, *activities = (
                torch.cat([compute(some) for some in features]).float().cpu().numpy() for compute in computed
            )
        return ModelOutputs(pack(logits), logits, bit_scores, *activities)

    def views(self, photo: Pixels, max_maps: int) -> Views:
        images = self._images(photo[None])
        with torch.inference_mode():
            maps = self.network.attentions(images)[0].float().cpu().numpy()
            logits = self.network(images)
        views = attention_views(photo, maps, max_maps)
        signs = torch.where(logits > 0, 1.0, -1.0)
        (heat,) = self._activations(images, signs)
        heat = positive(heat)
        code = View("code", noted("what supports the code", heat), overlay(photo, heat))
        return Views([*views.shown, code, self._erased(photo, images, logits)], views.left_out)

    def bit_heat(self, pixels: Pixels, bit: int) -> list[Heat]:
        images = self._images(pixels)
        with torch.inference_mode():
            signs = torch.where(self.network(images)[:, bit] > 0, 1.0, -1.0)
        weights = torch.zeros(len(images), self.bits, device=self.device)
        weights[:, bit] = signs
        return [positive(heat) for heat in self._activations(images, weights)]

    def _activations(self, images: Tensor, weights: Tensor) -> Any:
        """Grad-CAM (Selvaraju et al., ICCV 2017) of sum_k weights_k score_k, (b, n_bits) -> (b, h, w), not cut at 0.

        A constant makes the mean of the map equal to the score. With pooled maps and a linear head, each place then
        holds the head's output for that place alone: the class-activation map with its bias (Zhou et al., CVPR 2016).
        """
        with torch.enable_grad(), _cut(self.stage) as cuts:
            scores = (self.network.bit_scores(self.network.features(images)) * weights).sum(dim=1)
            (gradient,) = torch.autograd.grad(scores.sum(), cuts)
        heat = (gradient.sum(dim=(2, 3), keepdim=True) * cuts[0]).sum(dim=1)
        heat += (scores - heat.mean(dim=(1, 2)))[:, None, None]
        return heat.detach().float().cpu().numpy()

    def _last_common_stage(self) -> nn.Module:
        """The deepest stage of the backbone on which the whole code depends; methods may branch off before the last."""
        size = self.preprocessing.size
        for stage in reversed(self.backbone.stage_outputs):
            images = torch.zeros(1, 3, size, size, device=self.device, requires_grad=True)
            with torch.enable_grad(), _cut(stage) as cuts:
                logits = self.network(images)
                if len(cuts) == 1:
                    inside, around = torch.autograd.grad(logits.sum(), (cuts[0], images), allow_unused=True)
                    if inside is not None and around is None:
                        return stage
        if not self.backbone.stage_outputs:
            raise ConfigError(
                f"the backbone of {self.path} has no stages of maps to show; export the training and explain the bundle"
            )
        raise ConfigError(f"{self.method} does not run its photos through the backbone's stages exactly once each")

    def _erased(self, photo: Pixels, images: Tensor, logits: Tensor) -> View:
        with torch.inference_mode():
            maps, side = self.backbone.maps(images), side_of_box(self.srem.box_size, self.preprocessing.size)
            remaining = self.network(fcaenet.erased(images, maps, self.backbone, self.srem))
            mask = erasing_mask(maps.float(), photo.shape[:2], self.srem.boxes, side, self.srem.box_at)
        changed = int(((remaining > 0) != (logits > 0)).sum())
        kept = mask[0, 0].bool().cpu().numpy()
        caption = f"{percent(float(1 - kept.mean()))} of the photo; {changed} of {self.bits} bits change"
        colour = (0, 0, 0) if self.srem.erased_to == "black" else self.mean_colour
        return View("erased", caption, erased(photo, kept, colour))

    def _images(self, pixels: Pixels) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return self.backbone.normalise(batch.permute(0, 3, 1, 2))


def _named(found: BitSources | None, classes: Sequence[str]) -> Sources | None:
    if found is None:
        return None
    several = len({source.classifier for source in found.sources}) > 1
    return Sources(
        names=[
            classes[source.number]
            if source.kind == "class"
            else f"cluster {source.number + 1}" + (f" of classifier {source.classifier + 1}" if several else "")
            for source in found.sources
        ],
        clusters=np.array([source.kind == "cluster" for source in found.sources], bool),
        pushes=found.pushes.detach().float().cpu().numpy(),
    )


@contextmanager
def _cut(stage: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, gradients end at the output of ``stage``; collects this output each time the stage runs."""
    cuts: list[Tensor] = []

    def restart(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        cuts.append(output.detach().requires_grad_())
        return cuts[-1]

    handle = stage.register_forward_hook(restart)
    try:
        yield cuts
    finally:
        handle.remove()
