"""Backbones of timm, named `timm/NAME`: convolutional networks, and the image towers of ViT, DINOv2, CLIP and SigLIP.

The features are those that timm gives its classifier. Networks with maps at strides 4, 8, 16 and 32 also have stages,
for the methods that work on maps; timm's `feature_info` says where a stage ends.
"""

from __future__ import annotations

import copy
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import timm
import torch
from torch import Tensor, nn

from milvus_fghash.core.bounded_file import MAX_RECORD_BYTES, read_bounded
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.core.text_file import parse_json
from milvus_fghash.errors import ConfigError, one_line, suggestion
from milvus_fghash.methods.base import Backbone
from milvus_fghash.training.strides import remove_strides
from milvus_fghash.training.weights import IMAGENET, PRETRAINED, Normalisation, fill, load_file, weights_file

STRIDES: Final = (4, 8, 16, 32)
PROBE_SIDE: Final = 64
"""Side of the drawn photo on which the layers are tried one after the other, in pixels."""


class TimmBackbone(Backbone):
    """A network of timm without its classifier."""

    computed_once: ClassVar[str] = "last_layer"

    def __init__(self, name: str, network: Any, normalisation: Normalisation, licence: str) -> None:
        super().__init__()
        self.name = name
        self.network: Any = network
        self.n_features = int(self.network.head_hidden_size)
        config = self.network.pretrained_cfg
        self.side = config["input_size"][1] if config.get("fixed_input_size") else None
        self.mean, self.std = normalisation.mean, normalisation.std
        self.licence = licence

    def last_layer(self, images: Tensor) -> Tensor:
        """The output of the last layer before pooling: maps (b, c, h, w) or (b, h, w, c), or tokens (b, n, c)."""
        last: Tensor = self.network.forward_features(images)
        return last

    def maps(self, images: Tensor) -> Tensor:
        """(b, c, h, w): the last maps; of a transformer, the tokens of its patches where these lie in the photo."""
        return self._as_maps(self.last_layer(images))

    def forward(self, images: Tensor) -> Tensor:
        """(b, n_features), pooled as timm does it: by averaging, a class token, or attention."""
        return self._pooled(self.last_layer(images))

    def maps_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        last = self.last_layer(images)
        return self._as_maps(last), self._pooled(last)

    def pool(self, maps: Tensor) -> Tensor:
        """Maps of the last stage -> (b, n_features).

        Raises:
            ConfigError: when the network has no stages, as it then does not pool maps.
        """
        self._check_stages()
        return self._pooled(maps)

    @property
    def stage_widths(self) -> tuple[int, int, int, int]:  # type: ignore[override]
        self._check_stages()
        width_at = {one["reduction"]: one["num_chs"] for one in self.network.feature_info}
        return width_at[4], width_at[8], width_at[16], self.n_features

    @property
    def stage_outputs(self) -> Sequence[nn.Module]:
        return [self.network.get_submodule(layers[-1]) for layers in self._stages]

    def stage_maps(self, images: Tensor, n_stages: int = 4) -> list[Tensor]:
        self._check_stages()
        maps = []
        for layers in self._stages[:n_stages]:
            for layer in layers:
                images = self.network.get_submodule(layer)(images)
            maps.append(images)
        return maps

    def copy_last_stage(self, *, stride: int = 2) -> nn.Module:
        self._check_stages()
        stage = nn.Sequential(*(copy.deepcopy(self.network.get_submodule(layer)) for layer in self._stages[3]))
        if stride == 1:
            remove_strides(stage)
        return stage

    def _pooled(self, last: Tensor) -> Tensor:
        features: Tensor = self.network.forward_head(last, pre_logits=True)
        return features

    def _as_maps(self, last: Tensor) -> Tensor:
        if last.ndim == 4:
            return last if last.shape[1] == self.network.num_features else last.permute(0, 3, 1, 2)
        patches = last[:, getattr(self.network, "num_prefix_tokens", 0) :].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        if side**2 != patches.shape[2]:
            raise ConfigError(f"the tokens of {self.name} are no square of patches, so they give no maps")
        return torch.unflatten(patches, 2, (side, side))

    def _check_stages(self) -> None:
        if not self._stages:
            raise ConfigError(
                f"{self.name} has no maps at strides 4, 8, 16 and 32, which this method needs. Choose a method that "
                "works on pooled features, such as itq or kinhash, or a convolutional network such as timm/resnet50"
            )

    @cached_property
    def _stages(self) -> list[list[str]]:
        """Names of the layers of each of the four stages; none if the network has no such stages."""
        end_at = {one["reduction"]: one["module"] for one in self.network.feature_info}
        layers = self._layers_before_pooling() if end_at.keys() >= set(STRIDES) else []
        inside = [[name for name in layers if f"{name}.".startswith(f"{end_at[stride]}.")] for stride in STRIDES[:3]]
        if not all(inside) or self.n_features != self.network.num_features:
            return []
        cuts = [0, *(layers.index(names[-1]) + 1 for names in inside), len(layers)]
        return [layers[start:end] for start, end in itertools.pairwise(cuts)]

    @torch.no_grad()
    def _layers_before_pooling(self) -> list[str]:
        """Names of the layers that give `last_layer` when they run one after the other; none if no layers do."""
        weight = next(self.network.parameters())
        images = torch.linspace(-1, 1, 3 * PROBE_SIDE**2, dtype=weight.dtype, device=weight.device)
        images = images.view(1, 3, PROBE_SIDE, PROBE_SIDE)
        names, training = [], self.network.training
        self.network.eval()
        try:
            expected = self.last_layer(images)
            for name, layer in _layers(self.network):
                images = layer(images)
                names.append(name)
                if images.shape == expected.shape and torch.allclose(images, expected, rtol=1e-3, atol=1e-5):
                    return names
        except Exception:  # a layer that takes photos of another size, or more than the output of the one before
            return []
        finally:
            self.network.train(training)
        return []


def build_timm(name: str, weights: str) -> TimmBackbone:
    """A network of timm.

    Args:
        name: ``timm/NAME``; the tag of its weights may follow, as in ``timm/resnet50.a1_in1k``.
        weights: ``imagenet`` or ``pretrained``: what timm publishes, from Hugging Face's hub or its copy on this
            machine; ``none``; a file; or a folder with `config.json` and `model.safetensors`, as on the hub.

    Raises:
        ConfigError: when there is no such network, or its weights are not available or do not fit.
    """
    if weights in PRETRAINED:
        network = _create(name, pretrained=True)
        config: Mapping[str, Any] = network.pretrained_cfg
        return TimmBackbone(name, network, _normalisation(config), _licence(config))
    network = _create(name, pretrained=False)
    if weights == "none":
        return TimmBackbone(name, network, _normalisation(network.pretrained_cfg), "none: trained from scratch")
    file = weights_file(Path(weights))
    config = network.pretrained_cfg | (_hub_config(file.parent) if Path(weights).is_dir() else {"license": None})
    loaded = load_file(file)
    fill(network, loaded, name)
    return TimmBackbone(
        name, network, loaded.normalisation or _normalisation(config), loaded.licence or _licence(config)
    )


def timm_preprocessing(name: str, weights: str) -> Preprocessing:
    """The preprocessing with which a network was trained: size, crop, interpolation.

    Raises:
        ConfigError: as `build_timm`, and when photos are not prepared as squares.
    """
    known = timm.get_pretrained_cfg(_known(name))
    config: dict[str, Any] = dict(vars(known)) if known else {}
    if Path(weights).is_dir():
        config |= _hub_config(Path(weights))
    _, height, width = config["input_size"]
    if height != width:
        raise ConfigError(f"{name} takes photos of {width} x {height} pixels; only squares are supported")
    return Preprocessing(
        size=height,
        resize=math.floor(height / config["crop_pct"]),
        resize_mode="stretch" if config.get("crop_mode") == "squash" else "shorter_side",
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )


def _known(name: str) -> str:
    """timm's own name of a network.

    Raises:
        ConfigError: when timm has none of this name or tag.
    """
    own = name.removeprefix("timm/")
    try:
        timm.get_pretrained_cfg(own, allow_unregistered=False)
    except RuntimeError:
        raise ConfigError(
            f"timm has no network named {own!r}. {suggestion(own, timm.list_models())}timm.list_models() lists all"
        ) from None
    return own


def _create(name: str, *, pretrained: bool) -> Any:
    known = _known(name)
    try:
        with warnings.catch_warnings(action="ignore"):
            return timm.create_model(known, pretrained=pretrained, num_classes=0)
    except Exception as error:  # of the hub's client, of the network, of timm: they have no common class
        raise ConfigError(
            f"cannot get the weights of {name} ({one_line(error)}). Download them on a machine with internet and give "
            "the file or folder as the weights, or 'none' to train the backbone from scratch",
            setting="weights",
        ) from error


def _hub_config(folder: Path) -> dict[str, Any]:
    """The entries of `config.json` about the weights beside it.

    Raises:
        ConfigError: when it cannot be read.
    """
    try:
        values = parse_json(read_bounded(folder / "config.json", MAX_RECORD_BYTES))
        config = values.get("pretrained_cfg", {})
        return {key: value for key, value in config.items() if value is not None}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"cannot read {folder / 'config.json'} ({one_line(error)}); a folder of weights has a config.json, as "
            "Hugging Face's hub has it for timm, and model.safetensors. Or give the file of weights alone"
        ) from None


def _normalisation(config: Mapping[str, Any]) -> Normalisation:
    mean, std = config.get("mean"), config.get("std")
    return Normalisation(tuple(mean), tuple(std)) if mean and std else IMAGENET


def _licence(config: Mapping[str, Any]) -> str:
    return str(config.get("license") or "unknown")


def _layers(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Name and module of each layer, in order; the layers of a sequence one by one."""
    for name, module in network.named_children():
        if isinstance(module, nn.Sequential) and len(module):
            yield from _layers(module, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", module
