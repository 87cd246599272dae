"""Which photos a grid is fitted on: protocols that share them are one fit, and each draw of classes is another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.evaluation.protocols import PROTOCOLS
from milvus_fghash.experiments.fits import check_methods, fits, split_dataset


def test_protocols_that_fit_on_the_same_photos_share_a_fit() -> None:
    found = fits(("Mn", "B", "D", "E2", "C"), draws=2)
    assert [(fit.protocols, fit.name) for fit in found] == [
        (("A", "B"), ""),
        (("C",), "new-classes-0.5-draw0"),
        (("C",), "new-classes-0.5-draw1"),
        (("D", "D-fitted"), "no-labels"),
        (("E", "E2", "Mk", "Mn"), "unlabelled-new-classes-0.5-draw0"),
        (("E", "E2", "Mk", "Mn"), "unlabelled-new-classes-0.5-draw1"),
    ]
    assert {name for fit in fits(tuple(PROTOCOLS)) for name in fit.protocols} == set(PROTOCOLS)
    assert fits(("C",), new_classes=0.2)[0].name == "new-classes-0.2-draw0"


def test_each_fit_uses_no_label_that_its_protocols_do_not_have(drawn_birds: Dataset) -> None:
    train, test = (drawn_birds.split(name) for name in ("train", "test"))
    for fit in fits(tuple(PROTOCOLS), draws=2):
        splits = split_dataset(drawn_birds, "train", "test", 0.34, fit)
        split = splits["test"]
        assert set(split.fitted.ids) <= set(train.ids)
        assert set(test.ids) - set(split.others.ids) <= set(test.ids)
        used = {name for name in split.fitted.labels if name}
        if not fit.uses_labels:
            assert not used
            assert "trial" not in splits
            continue
        assert len(used) == (4 if fit.draw is None else 2)
        for name, search in split.searches.items():
            asked = {split.labels[row] for row in search.queries.tolist()}
            if name in ("C", "E", "E2", "Mn"):
                assert not asked & used
        assert {name for name in splits["trial"].fitted.labels if name} == used
        assert not set(splits["trial"].others.labels) - used


def test_a_method_that_needs_labels_is_not_fitted_without() -> None:
    first, strict, nameless, catalog = fits(("B", "C", "D", "E"))
    able = {name: [fit.can_train(name) for fit in (first, strict, nameless, catalog)] for name in ("kinhash", "itq")}
    assert able == {"kinhash": [True, True, False, False], "itq": [True] * 4}
    with pytest.raises(ConfigError, match=r"none of the methods can; choose one of lsh, sh, itq, posterior-itq"):
        check_methods(nameless, ["kinhash", "dsh"])
    check_methods(nameless, ["kinhash", "posterior-itq"])


def test_what_is_wrong_is_told(drawn_birds: Dataset) -> None:
    with pytest.raises(ConfigError, match="no protocol 'Z'"):
        fits(("B", "Z"))
    with pytest.raises(ConfigError, match="share of new classes"):
        fits(("C",), new_classes=1.0)
    known = replace(drawn_birds, labels=("a",) * len(drawn_birds))
    with pytest.raises(DataError, match="at least two classes"):
        split_dataset(known, "train", "test", 0.0)
