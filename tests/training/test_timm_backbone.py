"""Backbones of timm: features as timm gives them, stages, weights from a file, a folder, the hub's folder on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.errors import ConfigError
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.recipes.schema import BackboneChoice
from milvus_fghash.training.backbones import build_backbone, chosen_backbone, with_own_preprocessing
from milvus_fghash.training.timm_backbone import TimmBackbone

pytestmark = pytest.mark.full

SIDE = 160
STAGED = ("test_efficientnet", "test_resnet", "test_convnext", "test_byobnet")
TOWERS = ("vit_small_patch14_dinov2", "vit_base_patch32_clip_224", "vit_base_patch16_siglip_224")
"""The image towers of DINOv2, CLIP and SigLIP; they differ in size, in the tokens before the patches, in pooling."""


def photos(side: int = SIDE, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def built(name: str) -> TimmBackbone:
    torch.manual_seed(0)
    backbone = build_backbone(f"timm/{name}", "none").eval()
    assert isinstance(backbone, TimmBackbone)
    return backbone


@torch.no_grad()
def check_features(name: str, side: int) -> None:
    """Those of timm's own network without a classifier, alone and beside the maps."""
    backbone, images = built(name), photos(side)
    whole = timm.create_model(name, num_classes=0).eval()
    whole.load_state_dict(backbone.network.state_dict())
    expected = whole(images)
    assert expected.shape == (2, backbone.n_features)
    assert torch.equal(backbone(images), expected)
    maps, features = backbone.maps_and_features(images)
    assert torch.equal(features, expected)
    assert maps.shape[:2] == (2, backbone.network.num_features)
    assert torch.equal(maps, backbone.maps(images))


@pytest.mark.parametrize("name", [*STAGED, "test_vit", "test_vit2", "test_vit3"])
def test_features_are_those_of_timm(name: str) -> None:
    check_features(name, SIDE)


@pytest.mark.parametrize(
    "name", [tower if "clip" in tower else pytest.param(tower, marks=pytest.mark.slow) for tower in TOWERS]
)
def test_features_of_image_towers_are_those_of_timm(name: str) -> None:
    side = built(name).side
    assert side
    check_features(name, side)


@torch.no_grad()
@pytest.mark.parametrize("name", STAGED)
def test_stages_have_their_strides_and_the_last_one_copies(name: str) -> None:
    backbone, images = built(name), photos()
    maps = backbone.stage_maps(images)
    assert [SIDE // one.shape[2] for one in maps] == [4, 8, 16, 32]
    assert tuple(one.shape[1] for one in maps) == backbone.stage_widths
    assert torch.equal(maps[3], backbone.maps(images))
    assert torch.equal(backbone.pool(maps[3]), backbone(images))
    again = backbone.copy_last_stage()
    torch.testing.assert_close(again.eval()(maps[2]), maps[3], rtol=0, atol=0)
    assert not {id(one) for one in backbone.parameters()} & {id(one) for one in again.parameters()}
    assert backbone.copy_last_stage(stride=1)(maps[2]).shape[2:] == maps[2].shape[2:]
    outputs: list[Tensor] = []
    for stage in backbone.stage_outputs:
        stage.register_forward_hook(lambda module, given, output: outputs.append(output))
    backbone(images)
    assert all(torch.equal(output, one) for output, one in zip(outputs, maps, strict=True))


def test_a_transformer_has_no_stages_and_maps_of_its_patches() -> None:
    backbone, images = built("test_vit"), photos()
    with torch.no_grad():
        tokens = backbone.network.forward_features(images)
        maps = backbone.maps(images)
    across = maps.shape[3]
    assert across**2 == tokens.shape[1] - backbone.network.num_prefix_tokens
    # The patch in row 2, column 3, after the class token.
    assert torch.equal(maps[1, :, 2, 3], tokens[1, backbone.network.num_prefix_tokens + 2 * across + 3])
    assert backbone.stage_outputs == []
    for ask in (lambda: backbone.stage_widths, lambda: backbone.stage_maps(images), backbone.copy_last_stage):
        with pytest.raises(ConfigError, match="no maps at strides 4, 8, 16 and 32"):
            ask()


def test_a_file_of_weights_fills_the_network_and_its_metadata_take_precedence(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole: Any = timm.create_model("test_efficientnet")  # with its classifier
    file = tmp_path / "weights.safetensors"
    save_file(whole.state_dict(), file, {"mean": "0.5,0.4,0.3", "std": "0.5,0.5,0.6", "licence": "MIT"})
    backbone = build_backbone("timm/test_efficientnet", str(file)).eval()
    assert (backbone.mean, backbone.std, backbone.licence) == ((0.5, 0.4, 0.3), (0.5, 0.5, 0.6), "MIT")
    with torch.no_grad():
        expected = whole.eval().forward_head(whole.forward_features(photos()), pre_logits=True)
        assert torch.equal(backbone(photos()), expected)
    bare = {name: value for name, value in whole.state_dict().items() if not name.startswith("classifier")}
    torch.save(bare, tmp_path / "bare.pth")
    backbone = build_backbone("timm/test_efficientnet", str(tmp_path / "bare.pth")).eval()
    assert torch.equal(backbone(photos()), expected)
    config = whole.pretrained_cfg
    assert (backbone.mean, backbone.std, backbone.licence) == (config["mean"], config["std"], "unknown")
    with pytest.raises(ConfigError, match="does not hold weights of timm/test_resnet"):
        build_backbone("timm/test_resnet", str(file))


def hub_files(folder: Path, **changes: Any) -> dict[str, Tensor]:
    """A repository of timm's as on the hub, with random weights; returns them."""
    torch.manual_seed(2)
    network = timm.create_model("test_efficientnet")
    config = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "license": "cc-by-4.0", "input_size": [3, 96, 96],
              "crop_pct": 1.0, "interpolation": "bilinear", "num_classes": 1000, **changes}  # fmt: skip
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "test_efficientnet", "pretrained_cfg": config}))
    weights: dict[str, Tensor] = network.state_dict()
    return weights


def same_weights(backbone: Any, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, weights[name]) for name, value in backbone.network.state_dict().items())


def test_a_folder_as_on_the_hub(tmp_path: Path) -> None:
    weights = hub_files(tmp_path / "repository")
    backbone = build_backbone("timm/test_efficientnet", str(tmp_path / "repository"))
    assert same_weights(backbone, weights)
    assert (backbone.mean, backbone.std, backbone.licence) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "cc-by-4.0")
    change = f"backbone.weights='{tmp_path / 'repository'}'"
    recipe = with_own_preprocessing(load_recipe("frozen-itq", ["backbone.name='timm/test_efficientnet'", change]))
    assert recipe.preprocessing == Preprocessing(size=96, resize=96)
    (tmp_path / "repository" / "config.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"cannot read .*config.json"):
        build_backbone("timm/test_efficientnet", str(tmp_path / "repository"))


def test_published_weights_come_from_the_hubs_folder_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout in which huggingface_hub keeps what it downloaded; the network is not asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--timm--test_efficientnet.r160_in1k"
    weights = hub_files(repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    for name in ("timm/test_efficientnet", "timm/test_efficientnet.r160_in1k"):
        for weights_name in ("imagenet", "pretrained"):
            backbone = build_backbone(name, weights_name)
            assert same_weights(backbone, weights)
            assert backbone.licence == "apache-2.0"
    with pytest.raises(ConfigError, match=r"cannot get the weights of timm/test_resnet .*as the weights, or 'none'"):
        build_backbone("timm/test_resnet", "imagenet")


def test_wrong_names_are_one_clear_sentence() -> None:
    with pytest.raises(ConfigError, match=r"timm has no network named 'resnet51'. Did you mean .*resnet50"):
        build_backbone("timm/resnet51", "none")
    with pytest.raises(ConfigError, match=r"timm has no network named 'resnet50\.nowhere'"):
        build_backbone("timm/resnet50.nowhere", "none")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), Preprocessing(size=260, resize=292, interpolation="bicubic")),
        (("preprocessing.size=224",), Preprocessing(size=224, resize=252, interpolation="bicubic")),
        (("preprocessing.interpolation=bilinear",), Preprocessing(size=260, resize=292)),
        (
            ("preprocessing.size=224", "preprocessing.resize_mode=stretch"),
            Preprocessing(size=224, resize=224, resize_mode="stretch", interpolation="bicubic"),
        ),
    ],
)
def test_what_the_recipe_does_not_say_is_timms_preprocessing(changes: tuple[str, ...], expected: Preprocessing) -> None:
    recipe = load_recipe("frozen-itq", ["backbone.name='timm/tf_efficientnet_lite2'", *changes])
    assert with_own_preprocessing(recipe.at(48)).preprocessing == expected
    assert with_own_preprocessing(load_recipe("frozen-itq", changes)) == load_recipe("frozen-itq", changes)


def test_a_recipe_sets_the_normalisation_and_a_wrong_size_is_rejected() -> None:
    choice = BackboneChoice(name="timm/test_vit", weights="none", mean=(0.1, 0.2, 0.3), std=(1, 1, 2))
    assert chosen_backbone(choice, SIDE).mean == (0.1, 0.2, 0.3)
    with pytest.raises(ConfigError, match=r"takes photos of 160 x 160 pixels, not 224; set preprocessing.size=160"):
        chosen_backbone(choice, 224)
    with pytest.raises(ValueError, match="set both or neither"):
        BackboneChoice(mean=(0, 0, 0))
    with pytest.raises(ValueError, match="three numbers above 0"):
        BackboneChoice(mean=(0, 0, 0), std=(1, 0, 1))
