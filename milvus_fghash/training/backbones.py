"""Backbones by name: torchvision networks, divided into stages, a tiny network of this project, and those of timm.

A backbone has stages at strides 4, 8, 16 and 32, pooled features of the last, and copies of the last stage for methods
with attention branches.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from torch import Tensor, nn

from milvus_fghash.core.file_models import read_model
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.errors import ConfigError, nearest, optional_extra
from milvus_fghash.methods.base import Backbone
from milvus_fghash.recipes.schema import BackboneChoice, Recipe
from milvus_fghash.training.strides import remove_strides
from milvus_fghash.training.weights import IMAGENET, Normalisation, fill, load_weights

TIMM: Final = "timm/"
"""Beginning of the names of timm's networks."""
ONNX: Final = "onnx"
"""Name of a backbone that is an ONNX file."""


@dataclass(frozen=True)
class BackboneCard:
    """How a network is divided into stages.

    Attributes:
        widths: channels of the maps of each stage.
        layers: returns the modules that make up the backbone, in order.
        cuts: number of layers in the first stage, in the first two, and in the first three.
        neck: returns the module applied after pooling.
    """

    widths: tuple[int, int, int, int]
    layers: Callable[[nn.Module], list[nn.Module]]
    cuts: tuple[int, int, int]
    neck: Callable[[nn.Module], nn.Module] = field(default=lambda network: nn.Identity())


def _features(network: nn.Module) -> list[nn.Module]:
    return list(network.get_submodule("features").children())


def _resnet(network: nn.Module) -> list[nn.Module]:
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return [network.get_submodule(name) for name in names]


BACKBONES: dict[str, BackboneCard] = {
    "resnet18": BackboneCard((64, 128, 256, 512), _resnet, (5, 6, 7)),
    "resnet34": BackboneCard((64, 128, 256, 512), _resnet, (5, 6, 7)),
    "resnet50": BackboneCard((256, 512, 1024, 2048), _resnet, (5, 6, 7)),
    "mobilenet_v2": BackboneCard((24, 32, 96, 1280), _features, (4, 7, 14)),
    "mobilenet_v3_small": BackboneCard((16, 24, 48, 576), _features, (2, 4, 9)),
    "mobilenet_v3_large": BackboneCard((24, 40, 112, 960), _features, (4, 7, 13)),
    "efficientnet_b0": BackboneCard((24, 40, 112, 1280), _features, (3, 4, 6)),
    # Its last layer norm comes after pooling, before the classifier.
    "convnext_tiny": BackboneCard(
        (96, 192, 384, 768), _features, (2, 4, 6), lambda network: network.get_submodule("classifier.0")
    ),
    "tiny": BackboneCard((32, 64, 96, 128), _features, (2, 3, 4)),
}
"""`tiny` is a small network of this project, without pretrained weights, for demonstrations and tests."""


class StagedBackbone(Backbone):
    """A network in four stages, with the normalisation of its input and the licence of its weights."""

    def __init__(self, name: str, network: nn.Module, normalisation: Normalisation, licence: str) -> None:
        super().__init__()
        card = BACKBONES[name]
        layers, bounds = card.layers(network), (0, *card.cuts, None)
        self.stages = nn.ModuleList(nn.Sequential(*layers[bounds[i] : bounds[i + 1]]) for i in range(4))
        self.neck = card.neck(network)
        self.name = name
        self.stage_widths = card.widths
        self.n_features = card.widths[-1]
        self.mean, self.std = normalisation.mean, normalisation.std
        self.licence = licence

    @property
    def stage_outputs(self) -> Sequence[nn.Module]:
        """The stages: their outputs are the maps."""
        return list(self.stages)

    def stage_maps(self, images: Tensor, n_stages: int = 4) -> list[Tensor]:
        """Maps of the first stages of normalised photos (b, 3, h, w), at strides 4, 8, 16 and 32."""
        maps = []
        for stage in self.stages[:n_stages]:
            images = stage(images)
            maps.append(images)
        return maps

    def maps(self, images: Tensor) -> Tensor:
        """The last stage's maps, (b, n_features, h/32, w/32)."""
        return self.stage_maps(images)[-1]

    def pool(self, maps: Tensor) -> Tensor:
        """Spatial average of the last stage's maps, (b, n_features)."""
        pooled: Tensor = self.neck(maps.mean(dim=(2, 3), keepdim=True))
        return pooled.flatten(1)

    def copy_last_stage(self, *, stride: int = 2) -> nn.Module:
        """A copy of the last stage with its own weights; with ``stride=1`` it keeps the size of its input."""
        if stride not in (1, 2):
            raise ValueError(f"the last stage has stride 1 or 2, got {stride}")
        stage = copy.deepcopy(self.stages[3])
        if stride == 1:
            remove_strides(stage)
        return stage


def chosen_backbone(choice: BackboneChoice, side: int) -> Backbone:
    """The backbone of a recipe.

    Args:
        side: of the photos, in pixels.

    Raises:
        ConfigError: as `build_backbone`; also when it takes photos of another size, or cannot be trained.
        MissingExtra: as `build_backbone`.
    """
    normalisation = Normalisation(choice.mean, choice.std) if choice.mean and choice.std else None
    if choice.name == ONNX and not choice.frozen:
        raise ConfigError("the backbone onnx cannot be trained; set backbone.frozen=true, or choose one of timm")
    if choice.name == ONNX:
        from milvus_fghash.training.onnx_backbone import build_onnx

        backbone: Backbone = build_onnx(choice.weights, normalisation)
    else:
        backbone = build_backbone(choice.name, choice.weights)
    if normalisation:
        backbone.mean, backbone.std = normalisation.mean, normalisation.std
    if backbone.side not in (None, side):
        raise ConfigError(
            f"{choice.name} takes photos of {backbone.side} x {backbone.side} pixels, not {side}; set "
            f"preprocessing.size={backbone.side}"
        )
    return backbone


def with_own_preprocessing(recipe: Recipe) -> Recipe:
    """A recipe in which the preprocessing is complete: what it does not set is that of its timm or ONNX backbone.

    A size without a resize keeps the share of the crop; `stretch` without a resize takes the whole photo.

    Raises:
        ConfigError: when the backbone's own cannot be read.
        MissingExtra: when timm is needed and not installed.
    """
    choice = recipe.backbone
    own: Preprocessing | None = None
    if choice.name.startswith(TIMM):
        with optional_extra("timm"):
            from milvus_fghash.training.timm_backbone import timm_preprocessing
        own = timm_preprocessing(choice.name, choice.weights)
    elif choice.name == ONNX:
        from milvus_fghash.training.onnx_backbone import onnx_input

        own = found.preprocessing if (found := onnx_input(choice.weights)) else None
    if own is None:
        return recipe
    given = recipe.preprocessing.model_dump(exclude_unset=True) if "preprocessing" in recipe.model_fields_set else {}
    values = own.model_dump() | given
    if "resize" not in given and given.get("resize_mode") == "stretch":
        values["resize"] = values["size"]
    elif "resize" not in given:
        values["resize"] = round(own.resize * values["size"] / own.size)
    preprocessing = read_model(Preprocessing, values, "preprocessing")
    return recipe.model_copy(update={"preprocessing": preprocessing})


def build_backbone(name: str, weights: str = "imagenet") -> Backbone:
    """A backbone by name, with published weights, a file's, or no weights.

    Args:
        name: one of `BACKBONES`, or ``timm/NAME``.
        weights: ``imagenet`` or ``imagenet-v2`` (official torchvision weights; for timm ``pretrained`` or
            ``imagenet``), ``none``, or the path of a file.

    Raises:
        ConfigError: when there is no such backbone, or its weights are not available or do not fit.
        MissingExtra: when timm is needed and not installed.
    """
    if name.startswith(TIMM):
        with optional_extra("timm"):
            from milvus_fghash.training.timm_backbone import build_timm
        return build_timm(name, weights)
    if name not in BACKBONES:
        raise ConfigError(f"no backbone named {name!r}. {nearest(name, [*BACKBONES, f'{TIMM}NAME', ONNX])}")
    network = _Tiny() if name == "tiny" else _torchvision(name)
    if weights == "none":
        return StagedBackbone(name, network, IMAGENET, "none: trained from scratch")
    loaded = load_weights(name, weights)
    ignored = ("classifier.2.",) if name == "convnext_tiny" else ("fc.", "classifier.")
    fill(network, loaded, name, ignored)
    return StagedBackbone(name, network, loaded.normalisation or IMAGENET, loaded.licence or "unknown")


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    network: nn.Module = get_model(name, weights=None)
    return network


class _Tiny(nn.Module):
    """Nine convolutions, 0.4 M weights: trained from scratch on a laptop's processor in a minute."""

    def __init__(self) -> None:
        super().__init__()
        widths = (24, 32, 64, 96, 128)
        layers = [_conv(3, widths[0])]
        for before, after in itertools.pairwise(widths):
            layers.append(nn.Sequential(_conv(before, after), _conv(after, after, stride=1)))
        self.features = nn.Sequential(*layers)


def _conv(before: int, after: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
