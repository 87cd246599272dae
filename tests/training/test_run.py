"""Training from the outside: what a recipe and some drawings give, and what stops it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, DataError, TrainingError
from milvus_fghash.methods import METHODS
from milvus_fghash.training import loop
from milvus_fghash.training.backbones import _Tiny
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.run import NO_CURVES, Watcher, run_training
from milvus_fghash.training.weights import by_content
from tests.helpers.commands import Run
from tests.helpers.demo_recipe import FROZEN, QUICK, recipe, weights

pytestmark = pytest.mark.full


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("changes", [(), FROZEN], ids=["whole network", "frozen backbone"])
def test_a_training_stopped_and_resumed_is_the_same_bit_for_bit(
    drawn_birds: Dataset, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    plan = recipe("fcaenet", *changes)
    one_go = run_training(plan, 12, drawn_birds, tmp_path / "one go", device="cpu")
    run_training(recipe("fcaenet", *changes, "training.rounds=1"), 12, drawn_birds, tmp_path / "two", device="cpu")
    resumed = run_training(plan, 12, drawn_birds, tmp_path / "two", resume=True, device="cpu")
    assert same(weights(one_go), weights(resumed))
    assert [record.round for record in load_checkpoint(resumed).state.history] == [1, 2, 3]
    # resuming what is finished changes nothing
    again = run_training(plan, 12, drawn_birds, tmp_path / "two", resume=True, device="cpu")
    assert same(weights(again), weights(one_go))


def test_a_killed_training_resumes_bit_for_bit(drawn_birds: Dataset, tmp_path: Path) -> None:
    """kill -9 in the middle of a round, then the command again with --resume."""
    program = str(Path(sys.executable).with_name("milvus-fghash"))
    command = [program, "train", "demo-fcaenet", "--bits", "12", "--device", "cpu",
               "--data", str(drawn_birds.root)]  # fmt: skip
    for change in (*QUICK, "training.rounds=6"):
        command += ["--set", change]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    victim = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], env=environment, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed" / "checkpoints").glob("round-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert load_checkpoint(tmp_path / "killed").state.rounds_done < 6, "it was too quick to be killed half way"
    subprocess.run(
        [*command, "--out", str(tmp_path / "killed"), "--resume"], check=True, env=environment, capture_output=True
    )
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))


def test_one_seed_gives_one_result_and_another_seed_another(drawn_birds: Dataset, tmp_path: Path) -> None:
    results = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        plan = recipe("fcaenet", f"training.seed={seed}")
        results.append(weights(run_training(plan, 12, drawn_birds, tmp_path / name, device="cpu")))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_the_callers_random_state_is_left_alone(drawn_birds: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run_training(recipe("fcaenet", "training.rounds=1"), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert torch.equal(torch.rand(1), expected)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("changes", [(), FROZEN], ids=["whole network", "frozen backbone"])
def test_off_a_terminal_each_stage_and_each_round_is_a_line(
    run: Run, drawn_birds: Dataset, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    settings = [word for change in (*QUICK, *changes) for word in ("--set", change)]
    words = ["train", "demo-fcaenet", "--bits", "12", "--data", drawn_birds.root, *settings, "--out", tmp_path / "out"]
    result = run(*words)
    assert result.exit_code == 0, result.stderr
    output = [line for line in result.stderr.splitlines() if line.startswith("training: ")]
    looks = "features of the frozen backbone for 24 photos, 3 views each" if changes else "checking 24 photos"
    assert output[:2] == ["training: building fcaenet on tiny", f"training: {looks}"]
    assert "training: rounds 1 to 3, 2 passes each, 24 photos" in output
    rounds = [line for line in output if line.startswith("training: round ")]
    assert [line.partition(":")[2].partition(":")[0] for line in rounds] == [f" round {n} of 3" for n in (1, 2, 3)]
    assert output[-1].startswith("training: round 3 of 3: ")


def test_validation_is_held_out_of_the_training_photos(drawn_birds: Dataset, tmp_path: Path) -> None:
    seen = []
    watcher = Watcher(round=lambda record, rounds: seen.append(record.validation_map))
    run = run_training(recipe("fcaenet", "data.validation=0.34"), 12, drawn_birds, tmp_path / "run", watcher=watcher)
    state = load_checkpoint(run).state
    assert len(state.train_ids) == 16  # of 4 classes x 6 photos, 2 a class are held out
    assert len(seen) == 3
    assert all(value is not None and 0 < value <= 1 for value in seen)
    assert state.history[-1].validation_gallery == "learned"
    assert set(state.train_ids) < set(drawn_birds.split("train").ids)


def test_the_checkpoint_explains_itself_and_only_the_newest_stays(drawn_birds: Dataset, tmp_path: Path) -> None:
    run = run_training(recipe("fcaenet", *FROZEN), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["round-0003"]
    values = json.loads((run / "checkpoint.json").read_text())
    assert values["bits"] == 12
    assert values["classes"] == list(drawn_birds.classes)
    assert values["recipe"]["method"]["name"] == "fcaenet"
    assert set(values["history"][0]["terms"]) == {"pairs", "quantisation", "positive", "erased"}
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def test_without_tensorboard_training_says_once_that_no_curves_are_written(
    drawn_birds: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    messages: list[str] = []
    run_training(recipe(), 12, drawn_birds, tmp_path / "run", device="cpu", watcher=Watcher(notify=messages.append))
    assert len(load_checkpoint(tmp_path / "run").state.history) == 3
    assert messages == [NO_CURVES]
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize("name", [name for name, card in METHODS.items() if card.needs == "maps"])
def test_a_method_on_maps_is_rejected_a_frozen_backbone(name: str, drawn_birds: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{name} learns from maps.*backbone\.frozen = false"):
        run_training(recipe(name, "backbone.frozen=true"), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_one_class_is_rejected_but_not_by_lsh(drawn_birds: Dataset, tmp_path: Path) -> None:
    rows = [row for row, label in enumerate(drawn_birds.labels) if label == drawn_birds.classes[0]]
    alone = drawn_birds.take(rows)
    with pytest.raises(DataError, match="all of one class"):
        run_training(recipe(), 12, alone, tmp_path / "run")
    run_training(recipe("lsh"), 12, alone, tmp_path / "lsh")


def test_a_place_that_cannot_be_written_is_known_before_the_work(drawn_birds: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot create the folder"):
        run_training(recipe(), 12, drawn_birds, tmp_path / "file" / "run")
    with pytest.raises(ConfigError, match="cannot create the folder"):
        run_training(recipe(), 12, drawn_birds, tmp_path / "run", feature_cache=tmp_path / "file")


def test_a_folder_in_use_is_not_overwritten(drawn_birds: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_training(recipe("lsh"), 12, drawn_birds, out)
    with pytest.raises(ConfigError, match="resume it"):
        run_training(recipe("lsh"), 12, drawn_birds, out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("training.learning_rate=0.9", r"started with training\.learning_rate = 0.001, and now it is 0\.9"),
        ("method.options.gamma=1", r"started with method\.options\.gamma = 20, and now it is 1"),
    ],
)
def test_a_training_goes_on_only_as_it_began(drawn_birds: Dataset, tmp_path: Path, change: str, message: str) -> None:
    out = tmp_path / "run"
    run_training(recipe("fcaenet", "training.rounds=1"), 12, drawn_birds, out)
    with pytest.raises(ConfigError, match=message):
        run_training(recipe("fcaenet", change), 12, drawn_birds, out, resume=True)
    with pytest.raises(ConfigError, match="started with bits = 12, and now it is 24"):
        run_training(recipe("fcaenet"), 24, drawn_birds, out, resume=True)
    fewer = drawn_birds.take(range(len(drawn_birds) - 1))
    kept = [row for row in range(len(fewer)) if fewer.splits[row] == "train"][1:]
    with pytest.raises(ConfigError, match="other training photos"):
        run_training(recipe("fcaenet"), 12, fewer.take(kept), out, resume=True)
    merged = replace(drawn_birds, labels=tuple(label.partition("-")[0] for label in drawn_birds.labels))
    expected = r"started with other classes for \d+ of these photos: 4 classes then, 3 now \(from the folder of each"
    with pytest.raises(ConfigError, match=expected):
        run_training(recipe("fcaenet"), 12, merged, out, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("method.options.gama=1",), "unknown key 'gama'.*gamma"),
        (("method.name='fcaent'",), "Did you mean fcaenet"),
        (("data.train_split='tran'",), "Did you mean train"),
    ],
)
def test_misspelt_names_are_answered_with_the_nearest(
    drawn_birds: Dataset, tmp_path: Path, changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        run_training(recipe("fcaenet", *changes), 12, drawn_birds, tmp_path / "run")


def test_no_path_of_the_machine_is_told(drawn_birds: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    save_file(_Tiny().state_dict(), file, {"licence": "CC0-1.0"})
    plan = recipe("lsh", f"backbone.weights='{file}'")
    run = run_training(plan, 12, drawn_birds, tmp_path / "run")
    loaded = load_checkpoint(run)
    assert loaded.record["weights"] == f"file {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    assert loaded.state.weights_licence == "CC0-1.0"
    assert str(tmp_path) not in (run / "checkpoint.json").read_text()
    assert run_training(plan, 12, drawn_birds, tmp_path / "run", resume=True) == run
    torch.manual_seed(1)
    save_file(_Tiny().state_dict(), tmp_path / "others.safetensors")
    others = recipe("lsh", f"backbone.weights='{tmp_path / 'others.safetensors'}'")
    with pytest.raises(ConfigError, match=r"started with backbone\.weights = file"):
        run_training(others, 12, drawn_birds, tmp_path / "run", resume=True)


def test_the_command_says_how_to_go_on_and_when_there_is_nothing_to_go_on_with(
    run: Run, drawn_birds: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "demo-fcaenet", "--bits", "12", "--data", str(drawn_birds.root), "--out", "run", "--resume"]
    for change in QUICK:
        command += ["--set", change]

    def stopped(method: Any, source: Any, labels: Any, plan: Any, number: int, *rest: Any) -> Any:
        if number == 1:
            raise KeyboardInterrupt
        return loop.train_round(method, source, labels, plan, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("milvus_fghash.training.run.train_round", stopped)
        result = run(*command)
    assert result.exit_code == 130
    assert "run has no checkpoint to resume from; training starts from the beginning.\n" in result.stderr
    message = "Run the same command with --resume to continue after the last completed round.\nInterrupted.\n"
    assert message in result.stderr
    result = run(*command)
    assert result.exit_code == 0
    assert "no checkpoint to resume" not in result.stderr
    assert [record.round for record in load_checkpoint(Path("run")).state.history] == [1, 2, 3]


def test_a_weights_file_is_known_by_what_is_in_it_now(drawn_birds: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    plan = recipe("lsh", f"backbone.weights='{file}'")
    known = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        save_file(_Tiny().state_dict(), file)
        known.append(by_content(plan).backbone.weights)
    assert known[0] != known[1]


def test_a_training_goes_on_under_another_description(drawn_birds: Dataset, tmp_path: Path) -> None:
    plan = recipe("lsh")
    run = run_training(plan, 12, drawn_birds, tmp_path / "run")
    reworded = plan.model_copy(update={"description": "said in another way"})
    assert run_training(reworded, 12, drawn_birds, tmp_path / "run", resume=True) == run


def test_what_a_kill_left_half_written_goes_with_the_next_round(drawn_birds: Dataset, tmp_path: Path) -> None:
    left = tmp_path / "run" / "checkpoints" / ".round-0001.5a"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    run_training(recipe("fcaenet", *FROZEN), 12, drawn_birds, tmp_path / "run", device="cpu")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["round-0003"]


def test_where_each_class_has_one_photo_none_can_be_held_out(drawn_birds: Dataset, tmp_path: Path) -> None:
    photos = drawn_birds.split("train")
    one_each = photos.take([photos.labels.index(label) for label in photos.classes])
    with pytest.raises(DataError, match=r"only one training photo.*data.validation=0"):
        run_training(recipe("fcaenet", "data.validation=0.5"), 12, one_each, tmp_path / "run", device="cpu")


def test_the_seed_of_the_command_is_the_methods_too(run: Run, drawn_birds: Dataset) -> None:
    codes = {}
    for seed in ("0", "1"):
        result = run(
            "train", "demo-lsh", "--bits", "12", "--data", str(drawn_birds.root), "--out", seed, "--seed", seed
        )
        assert result.exit_code == 0, result.stderr
        loaded = load_checkpoint(Path(seed))
        assert (loaded.state.recipe.training.seed, loaded.state.recipe.method.options["seed"]) == (int(seed),) * 2
        codes[seed] = weights(Path(seed))["head.weight"]
    assert not torch.equal(codes["0"], codes["1"])


def test_a_damaged_checkpoint_is_one_clear_error(drawn_birds: Dataset, tmp_path: Path) -> None:
    run = run_training(recipe("lsh"), 12, drawn_birds, tmp_path / "run")
    (run / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(TrainingError, match="cannot be used"):
        load_checkpoint(run)
    values: dict[str, Any] = json.loads((run / "checkpoint.json").read_text())
    (run / "checkpoint.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(TrainingError, match="newer"):
        load_checkpoint(run)
    (run / "checkpoint.json").write_text("{")
    with pytest.raises(TrainingError, match="no readable"):
        load_checkpoint(run)
    with pytest.raises(TrainingError, match="no checkpoint in"):
        load_checkpoint(tmp_path)
