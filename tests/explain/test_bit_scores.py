"""By what the bits of a method are explained whose logits are level where it is sure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from milvus_fghash.core.codes import Logits
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.checkpoint_model import CheckpointModel
from milvus_fghash.explain.explain import ExplainOptions, explain
from milvus_fghash.explain.model import Pixels
from milvus_fghash.explain.pictures import overlay, positive
from milvus_fghash.methods import baseline, kinhash
from tests.helpers.planted_models import PHOTOS, ExplainPage, Planted, explained, signs_of
from tests.helpers.quick_training import BITS, Make
from tests.helpers.small_method import batch, made


@pytest.mark.parametrize("most_weighed", [0, 3_000_000])
def test_bit_scores_is_told_of_the_head_and_leaves_the_code_alone(most_weighed: int) -> None:
    method, other = made(kinhash, most_weighed=most_weighed).eval(), made(baseline).eval()
    assert method.head.weighing == bool(most_weighed)
    features = batch(rows=(0, 1, 2, 3)).features["anchor"]
    logits, temperature = method.head.classes(features), method.head.temperature
    expected = kinhash.unbounded_log_odds(logits, method.head.codes, temperature)
    torch.testing.assert_close(method.bit_scores(features), expected)
    assert method.bit_scores_name == "log odds"
    assert other.bit_scores_name == "logits"
    torch.testing.assert_close(other.bit_scores(features), other.head(features))


@pytest.fixture(scope="module")
def sure(make: Make) -> CheckpointModel:
    """A KinHash that weighs all codes, and is so sure of each photo's class that its logits are level."""
    model = make("kinhash")
    network: Any = model.network
    assert network.head.weighing
    with torch.no_grad():
        for parameter in network.head.classes.parameters():
            parameter.mul_(1e4)
    return model


def test_what_makes_the_code_of_a_method_whose_logits_saturate_is_its_bit_scores(
    sure: CheckpointModel, photos: Pixels
) -> None:
    """Of a photo that is surely of one class, a bit's log odds are its lead over the best class of the other side, / T.

    What a linear head says of that lead at each place is the map, but for the numbers of classes of each side.
    """
    logits, bit_scores = (torch.from_numpy(some) for some in sure.run(photos[:4])[1:3])
    head: Any = sure.network.head
    with torch.no_grad():
        maps = sure.backbone.maps(sure._images(photos[:4]))
        logits_by_place = torch.unflatten(head.classes(maps.permute(0, 2, 3, 1).flatten(0, 2)), 0, (4, *maps.shape[2:]))
    logits_by_place /= head.temperature
    class_logits = logits_by_place.mean(dim=(1, 2))
    signs = torch.where(logits > 0, 1.0, -1.0)
    torch.testing.assert_close(signs, head.codes[class_logits.argmax(dim=1)])
    expected = kinhash.unbounded_log_odds(class_logits, head.codes, 1.0)
    torch.testing.assert_close(bit_scores, expected, rtol=1e-3, atol=1.0)
    assert float(logits.abs().max()) < 10 < float(bit_scores.abs().max())
    expected = torch.zeros(4, *maps.shape[2:])
    for photo in range(4):
        for bit in range(BITS):
            others = (head.codes[:, bit] != signs[photo, bit]).nonzero()[:, 0]
            if len(others):
                second = others[class_logits[photo, others].argmax()]
                expected[photo] += (
                    logits_by_place[photo, :, :, class_logits[photo].argmax()] - logits_by_place[photo, :, :, second]
                )
    heat = torch.from_numpy(sure._activations(sure._images(photos[:4]), signs))
    torch.testing.assert_close(heat, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))
    for photo, one in zip(photos[:4], expected.numpy(), strict=True):
        view = next(view for view in sure.views(photo, 12).shown if view.kind == "code")
        assert view.caption == "what supports the code"
        assert np.ptp(positive(one)) > 0.5
        assert np.abs(view.picture.astype(int) - overlay(photo, positive(one))).max() <= 4
    for bit in range(BITS):
        if not bool((head.codes[:, bit] == head.codes[0, bit]).all()):
            assert min(np.ptp(one) for one in sure.bit_heat(photos[:4], bit)) > 0.25


def test_the_page_says_by_what_bits_are_explained(
    sure: CheckpointModel, model: CheckpointModel, drawn_birds: Dataset, tmp_path: Path
) -> None:
    assert "For kinhash the map explains the log odds of the bits" in sure.descriptions["code"]
    assert "log odds" not in model.descriptions["code"]
    explain([sure], drawn_birds, tmp_path / "out", ExplainOptions(n_queries=1, k=1, bits=(0,)))
    text = ExplainPage.read(tmp_path / "out" / "index.html").text
    assert "the largest and the smallest log odds" in text
    assert "class-activation map of this bit alone, by its log odds" in text


def test_photos_of_a_bit_are_ordered_by_its_bit_scores(dataset: Dataset) -> None:
    class Level(Planted):
        bit_scores_name = "<odds>"

        def bit_scores(self, logits: Logits) -> Logits:
            """Of the five gallery photos, in the order of the list: 1, 3, 2, 5, 4."""
            return np.array([1, 3, 2, 5, 4, 9, 9])[: len(logits), None] * np.ones(logits.shape)

    _, page = explained(dataset, Level({photo[0]: signs_of(str(photo[4])) for photo in PHOTOS}))
    files = [file for figure in page.sections["bit-0"].groups[0] for file in figure.files]
    assert files == [f"photos/{row}.jpg" for row in (3, 4, 1, 2, 0)]
    assert "The photos with the largest and the smallest <odds>" in page.text
    _, page = explained(dataset)
    assert "The photos with the largest and the smallest logits" in page.text
