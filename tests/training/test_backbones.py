"""Every backbone of the table, on small photos and random weights; no download."""

import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from milvus_fghash.errors import ConfigError
from milvus_fghash.training.backbones import BACKBONES, build_backbone


@pytest.mark.parametrize("name", BACKBONES)
def test_stages_have_their_strides_and_the_last_one_copies(name: str) -> None:
    backbone = build_backbone(name, "none").eval()
    photo = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = backbone.stage_maps(photo)
        assert [64 // m.shape[2] for m in maps] == [4, 8, 16, 32]
        assert tuple(m.shape[1] for m in maps) == backbone.stage_widths
        assert backbone(photo).shape == (1, backbone.n_features)
        again = backbone.copy_last_stage()
        torch.testing.assert_close(again(maps[2]), maps[3], rtol=0, atol=0)
        assert backbone.copy_last_stage(stride=1)(maps[2]).shape[2:] == maps[2].shape[2:]
    own = {id(parameter) for parameter in backbone.parameters()}
    assert not own & {id(parameter) for parameter in again.parameters()}


def test_pooled_features_are_those_of_torchvision(tmp_path: Path) -> None:
    """The cut backbone computes what the whole network feeds its own classifier."""
    torch.manual_seed(0)
    whole: Any = get_model("mobilenet_v2", weights=None).eval()
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    backbone = build_backbone("mobilenet_v2", str(tmp_path / "whole.safetensors")).eval()
    photo = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(photo), whole.features(photo).mean(dim=(2, 3)))


def test_normalise_worked_by_hand() -> None:
    backbone = build_backbone("tiny", "none")
    backbone.mean, backbone.std = (0.5, 0.5, 0.0), (0.5, 0.25, 1.0)
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    # (1 - 0.5) / 0.5, (0 - 0.5) / 0.25, 0.2 / 1
    torch.testing.assert_close(backbone.normalise(pixels).flatten(), torch.tensor([1.0, -2.0, 0.2]))


@pytest.fixture
def mobilenet_file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "weights.safetensors"
    save_file(
        get_model("mobilenet_v2", weights=None).state_dict(),
        path,
        {"mean": "0.5,0.4,0.3", "std": "0.5,0.5,0.6", "licence": "Apache-2.0"},
    )
    return path


def test_a_safetensors_file_brings_normalisation_and_licence(mobilenet_file: Path) -> None:
    backbone = build_backbone("mobilenet_v2", str(mobilenet_file))
    assert (backbone.mean, backbone.std, backbone.licence) == ((0.5, 0.4, 0.3), (0.5, 0.5, 0.6), "Apache-2.0")


def test_state_dicts_load_and_pickled_code_does_not(tmp_path: Path, mobilenet_file: Path) -> None:
    torch.manual_seed(1)
    state = {f"module.{key}": value for key, value in get_model("mobilenet_v2", weights=None).state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "wrapped.pth")
    same = build_backbone("mobilenet_v2", str(mobilenet_file)).state_dict()
    for key, value in build_backbone("mobilenet_v2", str(tmp_path / "wrapped.pth")).state_dict().items():
        torch.testing.assert_close(value, same[key], rtol=0, atol=0)

    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"weight": Trap()}))
    with pytest.raises(ConfigError, match="never loaded"):
        build_backbone("mobilenet_v2", str(tmp_path / "trap.pth"))
    torch.save({"weight": Trap()}, tmp_path / "trap2.pth")
    with pytest.raises(ConfigError, match="never loaded"):
        build_backbone("mobilenet_v2", str(tmp_path / "trap2.pth"))
    assert not (tmp_path / "sprung").exists()


def test_wrong_weights_are_one_clear_sentence(tmp_path: Path, mobilenet_file: Path) -> None:
    with pytest.raises(ConfigError, match="does not hold weights of resnet18: 100 of 100 tensors are missing"):
        build_backbone("resnet18", str(mobilenet_file))
    with pytest.raises(ConfigError, match="no weights file"):
        build_backbone("resnet18", str(tmp_path / "absent.pth"))
    with pytest.raises(ConfigError, match="Did you mean resnet50"):
        build_backbone("resnet51", "none")
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ConfigError):
            build_backbone("resnet18", str(tmp_path / name))


@pytest.mark.parametrize(("mean", "std"), [("1,2", "1,1,1"), ("nan,0,0", "1,1,1"), ("0,0,0", "1,0,1"), ("0,0,0", "x")])
def test_a_normalisation_that_cannot_be_is_rejected(tmp_path: Path, mean: str, std: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors", {"mean": mean, "std": std})
    with pytest.raises(ConfigError, match="three numbers"):
        build_backbone("resnet18", str(tmp_path / "odd.safetensors"))


def test_a_failed_download_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: Any, **options: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(ConfigError, match=r"cannot download.*no route to host.* as the weights, or 'none'"):
        build_backbone("resnet50", "imagenet")
    with pytest.raises(ConfigError, match="no 'imagenet-v2' weights for resnet18"):
        build_backbone("resnet18", "imagenet-v2")
    with pytest.raises(ConfigError, match="no 'imagenet' weights for tiny"):
        build_backbone("tiny", "imagenet")


@pytest.mark.parametrize("stride", [0, 3])
def test_the_last_stage_has_stride_one_or_two(stride: int) -> None:
    with pytest.raises(ValueError, match="stride 1 or 2"):
        build_backbone("tiny", "none").copy_last_stage(stride=stride)
