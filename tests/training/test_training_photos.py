"""A training records which photos it saw; export and evaluation pass it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import TrainingError
from milvus_fghash.evaluation.evaluate import evaluate_bundle
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.training.checkpoint import load_checkpoint
from milvus_fghash.training.run import run_training
from tests.helpers.demo_recipe import recipe

pytestmark = pytest.mark.full


@pytest.mark.parametrize(
    ("method", "galleries"), [("baseline", ["A", "B", "mixed"]), ("itq", ["D-fitted", "D", "mixed"])]
)
def test_an_evaluation_knows_what_the_training_saw(
    drawn_birds: Dataset, tmp_path: Path, method: str, galleries: list[str]
) -> None:
    plan = recipe(method, "training.rounds=2", "backbone.frozen=true", "backbone.views=0")
    run_training(plan, 8, drawn_birds, tmp_path / "run", device="cpu")
    bundle = export(tmp_path / "run", tmp_path / "bundle")
    info = bundle.manifest.training_photos
    assert info is not None
    labels = drawn_birds.classes if method == "baseline" else ()
    assert (info.labelled, info.unlabelled, info.classes) == ((24, 0, labels) if labels else (0, 24, ()))
    further = ["test", "train,test"]
    made = evaluate_bundle(Encoder.open(bundle.path), drawn_birds, dataset_name="birds", further_galleries=further)
    found = [record.training_overlap for record in (made.encoded, *made.further)]
    assert [one.protocol for one in found if one] == galleries
    if made.learned and made.learned.training_overlap:
        assert made.learned.training_overlap.protocol == "A"


def test_the_record_survives_a_resume_and_damage_is_seen(drawn_birds: Dataset, tmp_path: Path) -> None:
    plan = recipe("baseline", "training.rounds=1")
    first = load_checkpoint(run_training(plan, 8, drawn_birds, tmp_path / "run", device="cpu"))
    plan = recipe("baseline", "training.rounds=2")
    last = load_checkpoint(run_training(plan, 8, drawn_birds, tmp_path / "run", resume=True, device="cpu"))
    before, after = first.state.training_photos, last.training_photos()
    assert before is not None
    assert after is not None
    assert after.info == before
    file = last.path / "training-photos.bin"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(TrainingError, match=r"training-photos\.bin cannot be used: it was changed"):
        last.training_photos()
