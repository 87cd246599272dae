"""Which pairs count, what is remembered, and how a mean is taken; the losses are tested with their methods."""

from pathlib import Path

import pytest
import torch

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.methods import dsh
from milvus_fghash.methods.base import Round
from milvus_fghash.methods.memory_bank import MemoryBank, Pairs
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.run import run_training
from tests.helpers.pair_loops import batch_of
from tests.helpers.small_method import BITS, LABELS, ROWS, N, made


def test_a_photo_is_compared_with_the_others_of_the_round_that_were_seen() -> None:
    method = made(dsh)
    method.bank.keep(torch.tensor([7]), torch.ones(1, BITS))  # seen, but not drawn for this round
    pairs = method.pairs(batch_of((5, 0), 1), torch.ones(2, BITS))
    assert ROWS.tolist() == [3, 0, 5, 1]
    assert pairs.compared.tolist() == [[False, True, False, False], [False, False, True, False]]
    pairs = method.pairs(batch_of((3,), 1), torch.ones(1, BITS))
    assert pairs.compared.tolist() == [[False, True, True, False]]
    assert pairs.similar.tolist() == [[True, True, False, False]]  # photo 3 and the photos 3, 0, 5, 1


def test_outputs_are_remembered_by_row_and_without_gradient() -> None:
    bank = MemoryBank(4, 2)
    bank.keep(torch.tensor([2, 0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True))
    bank.keep(torch.tensor([0]), torch.tensor([[5.0, 6.0]]))
    assert bank.outputs.tolist() == [[5.0, 6.0], [0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]
    assert bank.seen.tolist() == [True, False, True, False]
    assert not bank.outputs.requires_grad


def test_the_photos_of_a_batch_meet_as_they_are_now() -> None:
    method = made(dsh)
    method.pairs(batch_of((5, 0), 1), torch.full((2, BITS), 7.0))
    now = torch.tensor([[1.0], [2.0]]).expand(2, BITS)
    outputs = method.pairs(batch_of((5, 0), 1), now).outputs
    assert outputs[:, 0].tolist() == [0.0, 2.0, 1.0, 0.0]  # photos 3, 0, 5, 1


def test_both_means_worked_by_hand() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    similar = torch.tensor([[True, True, False], [False, True, False]])
    compared = torch.tensor([[True, True, True], [True, False, True]])
    pairs = Pairs(torch.zeros(3, 1), similar, compared)
    assert pairs.mean(values).item() == pytest.approx((1 + 2 + 4 + 8 + 32) / 5)
    # similar 1, 2; dissimilar 4, 8, 32
    assert pairs.mean(values, balanced=True).item() == pytest.approx(3 / 2 + 44 / 3)


def test_without_a_pair_the_mean_is_zero_with_a_gradient_of_zero() -> None:
    values = torch.ones(1, 2, requires_grad=True)
    pairs = Pairs(torch.zeros(2, 1), torch.tensor([[True, True]]), torch.zeros(1, 2, dtype=torch.bool))
    for balanced in (False, True):
        mean = pairs.mean(values, balanced=balanced)
        (gradient,) = torch.autograd.grad(mean, values)
        assert mean.item() == gradient.abs().sum() == 0


def test_a_new_round_brings_its_own_photos_and_keeps_the_memory() -> None:
    method = made(dsh)
    method.loss(batch_of((5, 0), 1))
    method.before_round(Round(1, 2, torch.tensor([6, 5]), LABELS, lambda: torch.empty(0)))
    pairs = method.pairs(batch_of((6,), 1), torch.ones(1, BITS))
    assert pairs.compared.tolist() == [[False, True]]
    assert pairs.similar.tolist() == [[True, False]]  # photo 6 and the photos 6, 5
    assert method.bank.seen.sum() == 3


def test_the_memory_is_saved() -> None:
    method, other = made(dsh), made(dsh)
    method.loss(batch_of((5, 0), 1))
    other.load_state_dict(method.state_dict())
    assert method.bank.outputs.shape == (N, BITS)
    now = batch_of((3, 1), 2)
    assert torch.equal(method.loss(now)["pairs"], other.loss(now)["pairs"])


@pytest.mark.parametrize("name", ["dsh", "dash"])
def test_a_resumed_training_goes_on_bit_for_bit(name: str, drawn_birds: Dataset, tmp_path: Path) -> None:
    quick = ["preprocessing.size=32", "preprocessing.resize=32", "training.epochs_per_round=1", "training.drop_at=[]",
             "training.batch_size=12", "training.learning_rate=0.01"]  # fmt: skip

    def trained(folder: str, rounds: int, resume: bool = False) -> dict[str, torch.Tensor]:
        recipe = load_recipe(f"demo-{name}", [*quick, f"training.rounds={rounds}"])
        path = run_training(recipe, 12, drawn_birds, tmp_path / folder, resume=resume, device="cpu")
        return load_checkpoint(path).method.state_dict()

    whole = trained("whole", 2)
    trained("parts", 1)
    parts = trained("parts", 2, resume=True)
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
