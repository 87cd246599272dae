"""Backbones: torchvision networks by name, divided into stages, and a tiny network of this project.

A backbone has stages at strides 4, 8, 16 and 32, pooled features of the last, and copies of the last stage for methods
with attention branches.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from milvus_fghash.errors import ConfigError, nearest
from milvus_fghash.methods.base import Backbone
from milvus_fghash.training.weights import IMAGENET, Normalisation, Weights, load_weights


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
            for parent in list(stage.modules()):
                for name, child in list(parent.named_children()):
                    if isinstance(child, nn.Conv2d) and child.stride == (2, 2):
                        setattr(parent, name, _unstrided(child))
        return stage


def build_backbone(name: str, weights: str = "imagenet") -> StagedBackbone:
    """A backbone by name, with `imagenet` or `imagenet-v2` (official torchvision weights), a file's, or no weights.

    Raises:
        ConfigError: when there is no such backbone, or its weights are not available or do not fit.
    """
    if name not in BACKBONES:
        raise ConfigError(f"no backbone named {name!r}. {nearest(name, BACKBONES)}")
    network = _Tiny() if name == "tiny" else _torchvision(name)
    if weights == "none":
        return StagedBackbone(name, network, IMAGENET, "none: trained from scratch")
    loaded = load_weights(name, weights)
    _fill(network, loaded, name)
    return StagedBackbone(name, network, loaded.normalisation, loaded.licence)


def _torchvision(name: str) -> nn.Module:
    from torchvision.models import get_model

    network: nn.Module = get_model(name, weights=None)
    return network


def _fill(network: nn.Module, weights: Weights, name: str) -> None:
    """Load the weights of a network; those of its classifier may be missing or have another shape."""
    expected = network.state_dict()
    ignored = tuple(key for key in expected if key.startswith(("fc.", "classifier.")))
    if name == "convnext_tiny":
        ignored = tuple(key for key in ignored if not key.startswith("classifier.0."))
    wanted = {key for key in expected if key not in ignored and not key.endswith("num_batches_tracked")}
    missing = sorted(wanted - set(weights.tensors))
    wrong = sorted(key for key in wanted & set(weights.tensors) if weights.tensors[key].shape != expected[key].shape)
    if missing or wrong:
        example = (missing or wrong)[0]
        raise ConfigError(
            f"{weights.source} does not hold weights of {name}: {len(missing)} of {len(wanted)} tensors are missing "
            f"and {len(wrong)} have another shape (first: {example}). Check the backbone's name, or give another file"
        )
    network.load_state_dict({key: weights.tensors[key] for key in wanted}, strict=False)


def _unstrided(conv: nn.Conv2d) -> nn.Module:
    """The same convolution with stride 1 and an output as large as its input."""
    side = conv.kernel_size[0]
    twin = nn.Conv2d(conv.in_channels, conv.out_channels, side, groups=conv.groups, bias=conv.bias is not None)
    twin.load_state_dict(conv.state_dict())
    before, after = (side - 1) // 2, side // 2
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), twin)


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
