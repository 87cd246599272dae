"""The loop's options: each is seen in what moves the weights, or in what the network is given."""

from pathlib import Path
from typing import Any

import pytest
import torch

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import NotFinite
from milvus_fghash.training import loop
from milvus_fghash.training.backbones import StagedBackbone
from milvus_fghash.training.device import reproducible
from milvus_fghash.training.run import Watcher, run_training
from tests.helpers.demo_recipe import FROZEN, recipe, weights

pytestmark = pytest.mark.full


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_and_its_friends_train(
    drawn_birds: Dataset, tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    real = StagedBackbone.stage_maps

    def watched(backbone: StagedBackbone, images: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
        maps = real(backbone, images, *rest)
        if backbone.training:
            seen.add((maps[-1].dtype, images.is_contiguous(memory_format=torch.channels_last)))
        return maps

    monkeypatch.setattr(StagedBackbone, "stage_maps", watched)
    changes = (f"training.precision='{precision}'", "training.channels_last=true", "training.gradient_steps=2")
    run = run_training(recipe("fcaenet", *changes), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert all(torch.isfinite(value).all() for value in weights(run).values() if value.is_floating_point())
    assert seen == {(getattr(torch, precision), True)}


def test_the_backbone_learns_at_a_rate_of_its_own(drawn_birds: Dataset, tmp_path: Path) -> None:
    rates = ("training.rounds=1", "training.weight_decay=0", "training.momentum=0", "training.epochs_per_round=1",
             "training.batch_size=24", "method.options.alpha=0", "method.options.beta=0")  # fmt: skip
    still, moving, whole = (
        weights(run_training(recipe("fcaenet", *rates, f"training.backbone_factor={factor}"), 12, drawn_birds,
                      tmp_path / str(factor), device="cpu"))
        for factor in (1e-9, 0.25, 1)
    )  # fmt: skip
    (name, *_) = [name for name in still if name.startswith("backbone") and name.endswith("weight")]
    step, quarter = whole[name] - still[name], moving[name] - still[name]
    assert step.abs().max() > 0
    torch.testing.assert_close(quarter, step / 4, rtol=1e-3, atol=1e-7)
    assert torch.equal(still["head.bits.weight"], whole["head.bits.weight"])


def test_gradients_of_small_batches_add_up(drawn_birds: Dataset, tmp_path: Path) -> None:
    """Two halves of a batch with gradient_steps=2 move the weights like the whole batch."""
    common = ("backbone.frozen=true", "backbone.views=0", "method.options.alpha=0", "method.options.beta=0",
              "training.epochs_per_round=1", "training.rounds=1")  # fmt: skip
    whole = recipe("fcaenet", *common, "training.batch_size=24")
    # 24 photos in batches of 12 and groups of 3: the only group has two batches, and is averaged over two
    halves = recipe("fcaenet", *common, "training.batch_size=12", "training.gradient_steps=3")
    first = weights(run_training(whole, 12, drawn_birds, tmp_path / "whole", device="cpu"))
    second = weights(run_training(halves, 12, drawn_birds, tmp_path / "halves", device="cpu"))
    torch.testing.assert_close(first["head.bits.weight"], second["head.bits.weight"])


def test_a_loss_that_is_not_finite_stops_with_advice(drawn_birds: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotFinite, match=r"not finite in round 1, epoch 1.*learning_rate"):
        run_training(recipe("fcaenet", "method.options.gamma=1e39"), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_advice_is_not_what_is_so_already(precision: str, drawn_birds: Dataset, tmp_path: Path) -> None:
    changes = ("method.options.gamma=1e39", f"training.precision='{precision}'", "training.learning_rate=0.25")
    with pytest.raises(NotFinite, match=r"Lower training.learning_rate, which is 0.25") as caught:
        run_training(recipe("fcaenet", *changes), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert ("use training.precision = 'float32'" in str(caught.value)) == (precision != "float32")


def test_progress_tells_of_the_loss_within_a_pass(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "TERMS_EVERY", 2)
    terms: list[dict[str, float]] = []
    watcher = Watcher(step=lambda progress: terms.append(progress.terms))
    plan = recipe("fcaenet", *FROZEN, "training.rounds=1", "training.epochs_per_round=1")
    run_training(plan, 12, drawn_birds, tmp_path / "run", device="cpu", watcher=watcher)
    assert [bool(one) for one in terms] == [False, True, True, True, True]  # 24 photos in batches of 6; the end
    assert terms[1] != terms[3]


@pytest.mark.parametrize("warn_only", [False, True])
def test_the_callers_determinism_is_left_alone(warn_only: bool) -> None:
    try:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
        with reproducible(deterministic=False):
            assert not torch.are_deterministic_algorithms_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(False)
