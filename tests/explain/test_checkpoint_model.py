"""What a checkpoint shows, held against what the network itself computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from milvus_fghash.core.codes import pack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError
from milvus_fghash.explain import checkpoint_model as trained
from milvus_fghash.explain.bundle_model import BundleModel
from milvus_fghash.explain.checkpoint_model import CheckpointModel
from milvus_fghash.explain.explain import ExplainOptions, explain, open_model
from milvus_fghash.explain.model import Pixels
from milvus_fghash.explain.pictures import overlay, positive, stretched
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.methods import fcaenet
from milvus_fghash.methods.erasing import erasing_mask
from milvus_fghash.training.checkpoint import load_checkpoint
from tests.helpers.planted_models import ExplainPage
from tests.helpers.quick_training import BITS, SIZE, Make

pytestmark = pytest.mark.full


def places(model: CheckpointModel, photos: Pixels) -> Tensor:
    """What a linear head says of each place of the last maps alone: (b, n_bits, h, w)."""
    with torch.no_grad():
        maps = model.backbone.maps(model._images(photos))
        by_place: Tensor = model.network.head(maps.permute(0, 2, 3, 1).flatten(0, 2))
    return torch.unflatten(by_place, 0, (len(maps), *maps.shape[2:])).permute(0, 3, 1, 2)


def test_codes_and_outputs_are_those_of_the_network(model: CheckpointModel, photos: Pixels) -> None:
    codes, logits, bit_scores, _activities = model.run(photos)
    with torch.no_grad():
        expected = model.network(model.backbone.normalise(torch.from_numpy(photos).permute(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(codes, pack(logits))
    np.testing.assert_array_equal(bit_scores, logits)
    assert (model.name, model.kind) == ("fcaenet (12 bits)", "checkpoint")


def test_the_map_of_a_code_is_what_a_linear_head_says_of_each_place(model: CheckpointModel, photos: Pixels) -> None:
    by_place = places(model, photos[:4])
    logits = torch.from_numpy(model.run(photos[:4])[1])
    torch.testing.assert_close(by_place.mean(dim=(2, 3)), logits, rtol=1e-3, atol=1e-4)
    signs = torch.where(logits > 0, 1.0, -1.0)
    expected = (by_place * signs[:, :, None, None]).sum(dim=1)
    heat = torch.from_numpy(model._activations(model._images(photos[:4]), signs))
    torch.testing.assert_close(heat, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(heat.mean(dim=(1, 2)), logits.abs().sum(dim=1), rtol=1e-3, atol=1e-3)
    for photo, one in zip(photos[:4], expected.numpy(), strict=True):
        view = next(view for view in model.views(photo, 12).shown if view.kind == "code")
        difference = np.abs(view.picture.astype(int) - overlay(photo, positive(one)))
        assert difference.max() <= 2


@pytest.mark.parametrize("bit", [0, 11])
def test_the_map_of_a_bit_speaks_for_the_side_it_is_on(model: CheckpointModel, photos: Pixels, bit: int) -> None:
    by_place = places(model, photos).numpy()[:, bit]
    logits = model.run(photos)[1][:, bit]
    assert (logits > 0).any()
    assert (logits <= 0).any()
    for heat, one, output in zip(model.bit_heat(photos, bit), by_place, logits, strict=True):
        np.testing.assert_allclose(heat, positive(one if output > 0 else -one), rtol=1e-2, atol=1e-3)


def test_a_map_that_is_the_same_everywhere_says_so(
    model: CheckpointModel, photos: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.network, "bit_scores", lambda features: 0 * features[:, :BITS] + 1)
    view = next(view for view in model.views(photos[0], 12).shown if view.kind == "code")
    assert view.caption == "what supports the code, the same everywhere"


def test_maps_of_one_photo_do_not_depend_on_the_others(model: CheckpointModel, photos: Pixels) -> None:
    together = model.bit_heat(photos, 3)
    for photo, heat in zip(photos, together, strict=True):
        np.testing.assert_allclose(model.bit_heat(photo[None], 3)[0], heat, rtol=1e-3, atol=1e-4)


def test_the_mean_map_is_shown_for_methods_without_attention_of_their_own(
    model: CheckpointModel, photos: Pixels
) -> None:
    view = model.views(photos[0], 12).shown[0]
    with torch.no_grad():
        mean = model.backbone.maps(model._images(photos[:1])).mean(dim=1)[0].numpy()
    assert (view.kind, view.caption) == ("attention", "where the network looks")
    np.testing.assert_array_equal(view.picture, overlay(photos[0], stretched(mean)))


def test_a_checkpoint_and_its_bundle_show_the_same_attention_of_each_part(
    make: Make, photos: Pixels, tmp_path: Path
) -> None:
    model = make("a2net", "method.options.n_maps='bits'", setting="finetune")
    bundle = open_model(export(model.path, tmp_path / "bundle", outputs=["attention"], check_count=2).path)
    assert isinstance(bundle, BundleModel)
    ours, theirs = (one.views(photos[0], 2) for one in (model, bundle))
    assert ours.left_out == theirs.left_out
    assert ours.left_out.startswith("2 of 12 attention maps")
    assert [view.kind for view in ours.shown] == ["attention", "attention", "code", "erased"]
    assert [view.kind for view in theirs.shown] == ["attention", "attention", "occlusion"]
    with torch.no_grad():
        maps = model.network.attentions(model._images(photos[:1]))[0].numpy()
    for own, other, part in zip(ours.shown[:2], theirs.shown[:2], (0, 1), strict=True):
        assert own.caption.startswith(f"part {part + 1} of 12")  # as many as bits, but each bit reads all of them
        assert own.caption == other.caption
        np.testing.assert_array_equal(own.picture, overlay(photos[0], stretched(maps[part])))
        assert np.abs(own.picture.astype(int) - other.picture).max() <= 3


def test_the_erased_region_is_the_one_of_training(model: CheckpointModel, photos: Pixels) -> None:
    """FCAENet itself erases in `embed`; with its own boxes, their size scaled to the photo: 42 -> 12."""
    assert (model.srem.boxes, model.srem.box_at) == (7, "centre")
    images = model._images(photos[:1])
    view = model.views(photos[0], 12).shown[-1]
    with torch.no_grad():
        logits = model.network(images)
        rest = model.network.head(model.network.embed(images)["erased"])
        mask = erasing_mask(model.backbone.maps(images), (SIZE, SIZE), 7, 12, "centre")[0, 0].bool().numpy()
    changed = int(((logits > 0) != (rest > 0)).sum())
    assert view.kind == "erased"
    assert view.caption.endswith(f"{changed} of 12 bits change")
    assert view.caption.startswith(f"{round(100 * float(1 - mask.mean()))}% of the photo")
    np.testing.assert_array_equal(view.picture[mask], photos[0][mask])
    assert (view.picture[~mask] != photos[0][~mask]).any(axis=1).mean() > 0.9


def test_methods_without_erasing_show_the_region_of_the_paper(make: Make) -> None:
    lsh = make("lsh")
    assert lsh.srem == fcaenet.Config()
    assert list(lsh.descriptions) == ["attention", "code", "erased"]


class Branches(nn.Module):
    """As A2-Net: the third stage under an attention through a copy of the last, beside the backbone's own."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.backbone, self.head = network, network.backbone, network.head
        self.bit_scores_name, self.bit_scores = network.bit_scores_name, network.bit_scores
        self.bit_sources = network.bit_sources
        self.local = network.backbone.copy_last_stage()

    def features(self, images: Tensor) -> Tensor:
        *_, third, last = self.backbone.stage_maps(images)
        local = self.local(third * third.mean(dim=1, keepdim=True))
        features: Tensor = self.backbone.pool(last) + self.backbone.pool(local)
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


class Twice(Branches):
    """Runs the backbone on the photo and again on half of it."""

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.features(images) + self.network.features(images[..., ::2, ::2])
        return features


def rebuilt(model: CheckpointModel, network: type[Branches], monkeypatch: pytest.MonkeyPatch) -> CheckpointModel:
    loaded = load_checkpoint(model.path)
    other: Any = network(loaded.method).eval()
    monkeypatch.setattr(trained, "load_checkpoint", lambda path: replace(loaded, method=other))
    return CheckpointModel(model.path, "cpu")


def test_the_map_starts_where_all_of_the_code_still_goes_through(
    model: CheckpointModel, photos: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.stage is model.backbone.stage_outputs[3]
    branching = rebuilt(model, Branches, monkeypatch)
    assert branching.stage is branching.backbone.stage_outputs[2]
    heat = branching._activations(branching._images(photos[:2]), torch.ones(2, BITS))
    assert heat.shape == (2, SIZE // 16, SIZE // 16)
    np.testing.assert_allclose(heat.mean(axis=(1, 2)), branching.run(photos[:2])[1].sum(axis=1), rtol=1e-3)


def test_a_network_whose_stages_run_twice_is_rejected(model: CheckpointModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="once each"):
        rebuilt(model, Twice, monkeypatch)


def test_a_device_that_is_not_there_is_one_line(model: CheckpointModel) -> None:
    with pytest.raises(ConfigError, match="device"):
        CheckpointModel(model.path, "nowhere")


def test_the_page_of_a_checkpoint_has_all_its_views(
    model: CheckpointModel, drawn_birds: Dataset, tmp_path: Path
) -> None:
    explain([model], drawn_birds, tmp_path / "out", ExplainOptions(n_queries=2, k=3, bits=(4,)))
    page = ExplainPage.read(tmp_path / "out" / "index.html")
    for name in ("query-1", "query-2"):
        maps, found = page.sections[name].groups
        assert [figure.text.split()[0] for figure in maps] == [
            "Photo",
            "Attentionwhere",
            "Codewhat",
            maps[3].text.split()[0],
        ]
        assert maps[3].text.startswith("Erased")
        assert len(found) == 3
    on, off = page.sections["bit-4"].groups
    assert {len(figure.files) for figure in on + off} == {2}
