"""A checkpoint: what gradients and maps show of a network. The only file of this part that imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import ConfigError
from milvus_fghash.explain.attention import READING, attention_views, noted
from milvus_fghash.explain.html.tags import percent
from milvus_fghash.explain.model import BATCH, Heat, Model, ModelOutputs, Pixels, View, Views
from milvus_fghash.explain.pictures import erased, overlay, positive
from milvus_fghash.methods import fcaenet
from milvus_fghash.methods.erasing import erasing_mask, side_of_box
from milvus_fghash.training.backbones import StagedBackbone
from milvus_fghash.training.checkpoint import find_checkpoint, load_checkpoint
from milvus_fghash.training.device import device_named

READINGS = {
    "attention": READING,
    "code": (
        "Code: a class-activation map of the whole code. Bright places speak for the bits as they are, the brightest "
        "of this photo the most; dark ones do nothing for them, or speak for the other side."
    ),
    "erased": (
        "Erased: the region that selective region erasing (SREM) takes away, the hottest of the mean feature map. "
        "The caption says how many bits of the code change when only the rest is seen."
    ),
}
BY_BIT_SCORES = (
    " Of {method}, what speaks for bits is read from their {bit_scores}: its logits are level where it is sure. In a "
    "doubtful photo a bit can stand against them, and more then speaks for the other side."
)


class CheckpointModel(Model):
    """Attention of the method, Grad-CAM of the code and of single bits, and SREM's region."""

    kind = "checkpoint"
    absent = ()

    def __init__(self, path: Path, device: str | None = None) -> None:
        if find_checkpoint(path) is None:
            raise ConfigError(f"{path} is neither a bundle nor a training; expected a folder that export or train made")
        loaded = load_checkpoint(path)
        state = loaded.state
        self.checkpoint = loaded.path
        self.path, self.method, self.bits, self.lineage = path, state.recipe.method.name, state.bits, state.lineage
        self.preprocessing = state.recipe.preprocessing
        self.device = device_named(device)
        self.network = loaded.method.to(self.device).requires_grad_(False)
        self.backbone = cast(StagedBackbone, self.network.backbone)
        self.mean, self.bit_scores_name = self.backbone.mean, self.network.bit_scores_name
        self.readings = dict(READINGS)
        if self.bit_scores_name != Model.bit_scores_name:
            self.readings["code"] += BY_BIT_SCORES.format(method=self.method, bit_scores=self.bit_scores_name)
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
            logits, bit_scores = (
                torch.cat([told(some) for some in features]).float().cpu().numpy()
                for told in (self.network.head, self.network.bit_scores)
            )
        return ModelOutputs(pack(logits), logits, bit_scores)

    def views(self, photo: Pixels, most_maps: int) -> Views:
        images = self._images(photo[None])
        with torch.inference_mode():
            attentions = self.network.attentions(images)[0].float().cpu().numpy()
            whole = self.network(images)
        looks = attention_views(photo, attentions, most_maps)
        signs = torch.where(whole > 0, 1.0, -1.0)
        (heat,) = self._activations(images, signs)
        heat = positive(heat)
        code = View("code", noted("what makes the code", heat), overlay(photo, heat))
        return Views([*looks.shown, code, self._erased(photo, images, whole)], looks.left_out)

    def bit_heat(self, pixels: Pixels, bit: int) -> list[Heat]:
        images = self._images(pixels)
        with torch.inference_mode():
            signs = torch.where(self.network(images)[:, bit] > 0, 1.0, -1.0)
        weights = torch.zeros(len(images), self.bits, device=self.device)
        weights[:, bit] = signs
        return [positive(heat) for heat in self._activations(images, weights)]

    def _activations(self, images: Tensor, weights: Tensor) -> Any:
        """Grad-CAM (Selvaraju et al., ICCV 2017) of sum_k weights_k score_k, (b, n_bits) -> (b, h, w), not cut at 0.

        A constant makes the map's mean the score itself. With pooled maps and a linear head each place then holds what
        the head says of that place alone, which is the class-activation map with its bias (Zhou et al., CVPR 2016).
        """
        with torch.enable_grad(), _cut(self.stage) as cuts:
            scores = (self.network.bit_scores(self.network.features(images)) * weights).sum(dim=1)
            (gradient,) = torch.autograd.grad(scores.sum(), cuts)
        heat = (gradient.sum(dim=(2, 3), keepdim=True) * cuts[0]).sum(dim=1)
        heat += (scores - heat.mean(dim=(1, 2)))[:, None, None]
        return heat.detach().float().cpu().numpy()

    def _last_common_stage(self) -> nn.Module:
        """The deepest stage of the backbone that all of a code goes through; methods may branch off before the last."""
        size = self.preprocessing.size
        for stage in reversed(self.backbone.stages):
            images = torch.zeros(1, 3, size, size, device=self.device, requires_grad=True)
            with torch.enable_grad(), _cut(stage) as cuts:
                logits = self.network(images)
                if len(cuts) == 1:
                    inside, around = torch.autograd.grad(logits.sum(), (cuts[0], images), allow_unused=True)
                    if inside is not None and around is None:
                        return stage
        raise ConfigError(f"{self.method} does not run its photos through the backbone's stages once each")

    def _erased(self, photo: Pixels, images: Tensor, whole: Tensor) -> View:
        with torch.inference_mode():
            maps, side = self.backbone.maps(images), side_of_box(self.srem.box_size, self.preprocessing.size)
            rest = self.network(fcaenet.erased(images, maps, self.backbone, self.srem))
            mask = erasing_mask(maps.float(), photo.shape[:2], self.srem.boxes, side, self.srem.box_at)
        changed = int(((rest > 0) != (whole > 0)).sum())
        kept = mask[0, 0].bool().cpu().numpy()
        caption = f"{percent(float(1 - kept.mean()))} of the photo; {changed} of {self.bits} bits change"
        colour = (0, 0, 0) if self.srem.erased_to == "black" else self.mean_colour
        return View("erased", caption, erased(photo, kept, colour))

    def _images(self, pixels: Pixels) -> Tensor:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device)
        return self.backbone.normalise(batch.permute(0, 3, 1, 2))


@contextmanager
def _cut(stage: nn.Module) -> Iterator[list[Tensor]]:
    """While it lasts, gradients start at what ``stage`` gives; collects that, once for each time it runs."""
    cuts: list[Tensor] = []

    def restart(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        cuts.append(output.detach().requires_grad_())
        return cuts[-1]

    handle = stage.register_forward_hook(restart)
    try:
        yield cuts
    finally:
        handle.remove()
