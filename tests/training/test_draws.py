import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from milvus_fghash.methods.base import generator
from milvus_fghash.recipes.schema import TrainingPlan
from milvus_fghash.training.draws import draw_positives, epoch_steps, learning_rate, round_rows, with_least_steps


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 1000))
def test_a_positive_is_another_photo_of_the_class(classes: list[int], seed: int) -> None:
    labels = torch.tensor(classes)
    rows = torch.randperm(len(labels), generator=generator(seed))[: max(1, len(labels) // 2)]
    drawn = draw_positives(rows, labels, generator(seed, 1))
    assert torch.equal(labels[drawn], labels[rows])
    for row, other in zip(rows.tolist(), drawn.tolist(), strict=True):
        assert (other == row) == (classes.count(classes[row]) == 1)
        mates = [mate for mate in rows.tolist() if mate != row and classes[mate] == classes[row]]
        assert not mates or other in mates  # the round's own photos first


def test_positives_are_drawn_evenly() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    drawn = torch.stack([draw_positives(torch.arange(4), labels, generator(seed)) for seed in range(600)])
    counts = torch.bincount(drawn[:, 0], minlength=4)
    assert counts[0] == 0
    assert all(150 < count < 250 for count in counts[1:])


def test_a_round_is_a_sample_without_replacement() -> None:
    plan = TrainingPlan(samples_per_round=7, seed=3)
    rows = round_rows(20, plan, 0)
    assert len(rows) == len(set(rows.tolist())) == 7
    assert torch.equal(rows, round_rows(20, plan, 0))
    assert not torch.equal(rows, round_rows(20, plan, 1))
    assert len(round_rows(5, plan, 0)) == 5
    assert len(round_rows(20, TrainingPlan(samples_per_round=0), 0)) == 20


@pytest.mark.parametrize("m", [2, 5, 8, 9, 12])
def test_an_epoch_passes_each_photo_once_and_no_batch_is_single(m: int) -> None:
    plan = TrainingPlan(batch_size=4)
    rows = torch.arange(100, 100 + m)
    labels = torch.zeros(200, dtype=torch.int64)
    steps = epoch_steps(rows, labels, plan, 0, 0, positives=True)
    assert sorted(torch.cat([step.rows for step in steps]).tolist()) == rows.tolist()
    assert min(len(step.rows) for step in steps) >= 2
    assert all(step.positives is not None and len(step.positives) == len(step.rows) for step in steps)
    other = epoch_steps(rows, labels, plan, 0, 1, positives=False)
    assert other[0].positives is None
    assert m < 3 or not torch.equal(other[0].rows, steps[0].rows) or not torch.equal(other[0].seeds, steps[0].seeds)


def test_learning_rate_as_printed() -> None:
    # 32 and 48 bits: 60 rounds, divided by 10 at 30, 45 and 55
    plan = TrainingPlan(rounds=60, learning_rate=1e-3, drop_at=(30, 45, 55))
    rates = [learning_rate(plan, number, 0) for number in (0, 29, 30, 44, 45, 54, 55, 59)]
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])


def test_the_rate_falls_on_a_cosine_from_pass_to_pass() -> None:
    plan = TrainingPlan(rounds=3, epochs_per_round=4, learning_rate=0.8, schedule="cosine")
    # 12 passes: the full rate, (1 + cos 30 deg) / 2 of it, a half after six, (1 + cos 165 deg) / 2 in the last
    rates = [learning_rate(plan, *place) for place in ((0, 0), (0, 2), (1, 2), (2, 3))]
    assert rates == pytest.approx([0.8, 0.8 * 0.9330127, 0.4, 0.8 * 0.0170371])


@pytest.mark.parametrize(
    ("n", "changes", "epochs"),
    [
        (3000, {}, 28),  # 24 batches a pass are 672 steps
        (300, {}, 200),  # 3 batches a pass
        (300, {"gradient_steps": 3}, 600),
        (300, {"rounds": 2}, 100),
        (3000, {"samples_per_round": 128}, 600),
        (300, {"least_steps": 0}, 28),
    ],
)
def test_few_photos_get_as_many_epochs_as_the_least_number_of_steps_needs(
    n: int, changes: dict[str, int], epochs: int
) -> None:
    fixed = {"rounds": 1, "epochs_per_round": 28, "samples_per_round": 0, "batch_size": 128, "least_steps": 600}
    assert with_least_steps(TrainingPlan.model_validate(fixed | changes), n).epochs_per_round == epochs
