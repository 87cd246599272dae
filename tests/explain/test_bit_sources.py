"""What moves a bit: by hand, on the page, and from a method to the page's model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.bit_sources import SHOWN, Push, bit_pushes
from milvus_fghash.explain.checkpoint_model import CheckpointModel
from milvus_fghash.explain.explain import open_model
from milvus_fghash.explain.model import Pixels, Sources
from milvus_fghash.methods.base import BitSource, BitSources
from milvus_fghash.methods.posterior_code import PosteriorCode
from tests.helpers.planted_models import PHOTOS, Planted, captions, explained, planted
from tests.helpers.quick_training import Make

pytestmark = pytest.mark.full

NAMES = ("robin", "wren", "cluster 1 of classifier 1", "cluster 2 of classifier 1", "robin", "wren")
"""Two classifiers, of which the first has clusters too."""
SOURCES = Sources(
    names=NAMES,
    clusters=np.array([False, False, True, True, False, False]),
    pushes=np.concatenate([[[0.5, -0.25, 0.75, -1.0, 0.25, 0.0]], np.zeros((7, 6))]),
)
ACTIVITIES = {number: [0.0, 0.0, number / 100, 1 - number / 100, 0.0, 0.0] for number, *_ in PHOTOS}


def test_a_class_is_the_sum_over_its_classifiers() -> None:
    found = bit_pushes(0, SOURCES, np.arange(6))
    assert found.classes_on == (Push("robin", 0.75, 0),)
    assert found.classes_off == (Push("wren", -0.25, 1),)
    assert found.clusters_on == (Push("cluster 1 of classifier 1", 0.75, 2),)
    assert found.clusters_off == (Push("cluster 2 of classifier 1", -1.0, 3),)
    assert bit_pushes(1, SOURCES, np.arange(6)).classes_on == ()


def test_the_strongest_come_first_and_no_more_than_fit() -> None:
    pushes = np.array([[0.1, -0.9, 0.5, -0.2, 0.3, 0.4, 0.2]])
    many = Sources([f"c{n}" for n in range(7)], np.zeros(7, bool), pushes)
    found = bit_pushes(0, many, np.arange(7))
    assert [push.name for push in found.classes_on] == ["c2", "c5", "c4", "c6"][:SHOWN]
    assert [push.name for push in found.classes_off] == ["c1", "c3"]


def test_the_page_shows_them_on_their_side(dataset: Dataset) -> None:
    model = planted().with_sources(SOURCES, ACTIVITIES)
    assert isinstance(model, Planted)
    _, page = explained(dataset, model)
    text = page.sections["bit-0"].text
    assert "Classes that move it on: robin (+0.75)" in text
    assert "Classes that move it off: wren (\N{MINUS SIGN}0.25)" in text
    assert captions(page, "bit-0", 1) == [("", "+0.75cluster 1 of classifier 1")]  # photo 14 has no class
    assert captions(page, "bit-0", 3) == [("", "\N{MINUS SIGN}1.00cluster 2 of classifier 1robin")]  # photo 10
    assert "move it" not in page.sections["bit-1"].text
    assert "Classes and clusters of a bit" in page.text
    _, plain = explained(dataset)
    assert "move it" not in plain.text
    assert "Classes and clusters of a bit" not in plain.text


def test_those_of_posterior_itq_are_what_a_certain_photo_adds(make: Make, photos: Pixels, drawn_birds: Dataset) -> None:
    """One output of one head is certain, the others and the features are those of the average photo."""
    model = make("posterior-itq")
    assert model.sources is not None
    code = model.network.head
    assert isinstance(code, PosteriorCode)
    n_heads, n_outputs, _ = code.heads.weight.shape
    assert list(model.sources.names) == list(drawn_birds.classes) * n_heads
    for at in (0, n_outputs, n_heads * n_outputs - 1):
        embedded = code.bits.mean.clone()
        embedded[at // n_outputs * n_outputs :][:n_outputs] = 0
        embedded[at] = n_heads**-0.5
        with torch.no_grad():
            logits = code.bits(embedded[None])[0].numpy()
        np.testing.assert_allclose(logits, model.sources.pushes[:, at], atol=1e-5)
    activities = model.run(photos).activities
    assert activities is not None
    np.testing.assert_allclose((activities**2).sum(axis=1), 1, rtol=1e-4)


def test_a_checkpoint_has_those_of_its_method(
    make: Make, photos: Pixels, drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make("itq")
    assert isinstance(plain, CheckpointModel)
    assert (plain.sources, plain.run(photos).activities) == (None, None)
    method = type(plain.network)
    sources = (BitSource("class", 1, 0), BitSource("cluster", 0, 0), BitSource("cluster", 4, 1))
    pushes = torch.arange(3.0 * plain.bits).reshape(plain.bits, 3)

    def activities(self: object, features: Tensor) -> Tensor:
        return features[:, :3].sigmoid()

    monkeypatch.setattr(method, "bit_sources", lambda self: BitSources(sources, pushes))
    monkeypatch.setattr(method, "source_activities", activities)
    model = open_model(plain.path, device="cpu")
    assert model.sources is not None
    assert model.sources.names[1:] == ["cluster 1 of classifier 1", "cluster 5 of classifier 2"]
    assert model.sources.names[0] == drawn_birds.classes[1]
    np.testing.assert_array_equal(model.sources.pushes, pushes.numpy())
    found = model.run(photos).activities
    assert found is not None
    assert found.shape == (len(photos), 3)
