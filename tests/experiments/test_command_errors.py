"""What is wrong with a grid's options or photos is one clear line, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.synthetic.drawings import draw_birds
from tests.helpers.commands import Run
from tests.helpers.grid_commands import compare, words


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--methods", "lsh,itqq"], 1, "no method named 'itqq'"),
        (["--heads", "linaer"], 1, "no head named 'linaer'. Did you mean linear"),
        (["--query-split", "tset"], 1, "no photo belongs to the split 'tset'"),
        (["--trials", "2"], 1, "the number of trials must be odd"),
        (["--set", "training.round=1"], 1, "unknown key 'training.round'"),
        (["--device", "cuda:99"], 1, "device 'cuda:99' cannot be used"),
        (["--table-only"], 1, "has no results of this grid"),
        (["--bits", "12,x"], 2, "expected comma-separated integers"),
        (["--bits", "7,12"], 2, "a code has 8 to 1024 bits, got 7"),
        (["--methods", ","], 2, "expected comma-separated names"),
        (["--seeds", "0"], 2, "--seeds"),
        (["--jobs", "0"], 2, "--jobs"),
    ],
)
def test_what_is_wrong_is_one_clear_line(
    run: Run, drawn_birds: Dataset, tmp_path: Path, more: list[str], code: int, message: str
) -> None:
    result = run(*compare(drawn_birds.root, "out"), *more)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if code == 1:
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("out/*.jsonl")) or "--device" in more


def test_a_setting_and_an_ablation_have_to_exist(run: Run, drawn_birds: Dataset) -> None:
    result = run("compare", "frozn", "--data", drawn_birds.root, "--out", "out", "--methods", "lsh")
    assert result.exit_code == 1
    assert "no setting named 'frozn'" in result.stderr
    assert "Did you mean frozen" in result.stderr
    result = run("ablate", "demo", "--method", "lsh", "--data", drawn_birds.root, "--out", "out")
    assert result.exit_code == 1
    assert "no ablation of 'lsh'" in result.stderr


def test_other_figures_in_the_folder_are_not_mixed_in(run: Run, drawn_birds: Dataset) -> None:
    assert run(*compare(drawn_birds.root, "out", "--methods", "lsh")).exit_code == 0
    result = run(*compare(drawn_birds.root, "out", "--methods", "lsh"), "--set", "preprocessing.resize=40")
    assert result.exit_code == 1
    assert "cells.jsonl holds lsh-8bits-seed0 with recipe.preprocessing.resize = 32, and now it is 40" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_recipe_is_no_setting(run: Run) -> None:
    result = run("compare", "cub-fcaenet", "--data", ".", "--out", "x", "--methods", "lsh")
    assert result.exit_code == 1
    assert "give cub, with the method fcaenet (--methods)" in result.stderr


def one_class(folder: Path) -> Path:
    """Six photos to learn from, all of one class, and two that ask."""
    birds = draw_birds(folder, classes=2, train_per_class=6, test_per_class=2, size=32)
    for row, label in enumerate(birds.labels):
        if label != birds.classes[0]:
            birds.file(row).unlink()
    return folder


def test_one_class_is_found_before_the_methods_without_labels_are_trained(run: Run, tmp_path: Path) -> None:
    result = run(*compare(one_class(tmp_path / "birds"), "out"))
    assert result.exit_code == 1
    assert "are all of one class" in result.stderr
    assert "lsh-" not in result.stderr


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_photo_that_cannot_be_read_is_found_before_the_first_training(run: Run, tmp_path: Path, split: str) -> None:
    birds = draw_birds(tmp_path / "birds", classes=2, train_per_class=6, test_per_class=2, size=32)
    birds.split(split).file(3).write_bytes(b"no photo")
    result = run(*compare(birds.root, "out"))
    assert result.exit_code == 1
    assert "photos in" in result.stderr
    assert "cannot be used; remove them" in result.stderr
    assert "lsh-" not in result.stderr


@pytest.mark.parametrize(("below", "why"), [("", "is the folder of the photos"), ("new/grid", "lies among the photos")])
def test_nothing_is_written_among_the_photos(run: Run, drawn_birds: Dataset, below: str, why: str) -> None:
    out = drawn_birds.root / below
    result = run(*compare(drawn_birds.root, out))
    assert result.exit_code == 1
    assert why in result.stderr
    assert not (out / "trials.jsonl").exists()


def test_photos_of_all_parts_are_read_before_anything_is_computed(run: Run, tmp_path: Path) -> None:
    birds = draw_birds(tmp_path / "birds", classes=2, train_per_class=6, test_per_class=2, size=32)
    for split in ("train", "test"):
        birds.split(split).file(0).write_bytes(b"no photo")
    result = run(*compare(birds.root, "out"), "--set", "backbone.frozen=true")
    assert result.exit_code == 1
    assert "2 of 16 photos in" in result.stderr
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_what_is_wrong_with_a_cell_does_not_wait_for_its_trials(run: Run, drawn_birds: Dataset) -> None:
    result = run("compare", *words(drawn_birds.root, "out", "--methods", "lsh,kinhash", "--bits", "8"),
                 "--set", "method.options.temperature=3")  # fmt: skip
    assert result.exit_code == 1
    assert "method.options of lsh: unknown key 'temperature'" in result.stderr
    assert "rate" not in result.stderr


@pytest.mark.parametrize(
    ("change", "option"),
    [("head.kind='mlp'", "--heads"), ("training.seed=7", "--seeds"), ("method.options.seed=7", "--seeds"),
     ("method.name='dsh'", "use a recipe of dsh")],
)  # fmt: skip
def test_what_the_grid_decides_is_not_silently_left_out(
    run: Run, drawn_birds: Dataset, change: str, option: str
) -> None:
    result = run("compare", *words(drawn_birds.root, "out", "--methods", "kinhash", "--set", change))
    assert result.exit_code == 1
    assert option in result.stderr


def test_when_every_rate_fails_the_tables_say_so(run: Run, drawn_birds: Dataset, tmp_path: Path) -> None:
    command = ["compare", *words(drawn_birds.root, "out", "--methods", "baseline", "--bits", "8", "--seeds", "1",
               "--heads", "linear", "--set", "training.learning_rate=1e38")]  # fmt: skip
    result = run(*command)
    assert result.exit_code == 0
    assert "| baseline | linear | failed |" in result.stdout
    assert "- baseline-linear at 8 bits: all learning rates failed" in result.stdout
    assert (tmp_path / "out" / "results.json").is_file()
