"""Two models on a page: their names, what they have in common, and what is rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.core.codes import pack
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import ConfigError, DataError
from milvus_fghash.explain.checkpoint_model import CheckpointModel
from milvus_fghash.explain.explain import ExplainOptions, explain, open_model
from milvus_fghash.explain.model import ModelOutputs
from milvus_fghash.explain.pictures import montage
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.training.checkpoint import load_checkpoint
from tests.helpers.planted_models import PHOTOS, ExplainPage, Planted, captions, explained, planted, query_of, signs_of

pytestmark = pytest.mark.full


def test_a_second_model_with_other_bits_stands_below(dataset: Dataset) -> None:
    _, page = explained(dataset, planted(), planted(5, "second"), k=2)
    section = page.sections[query_of(page, "robin")]
    assert [len(group) for group in section.groups] == [
        2,
        2,
        2,
        2,
    ]  # of each model: views, then nearest photos
    assert captions(page, query_of(page, "robin"), 1)[0] == ("right", "0 of 8 bits✓ right class10.png")
    assert captions(page, query_of(page, "robin"), 3) == [
        ("right", "0 of 12 bits✓ right class11.png"),
        ("", "0 of 12 bits14.png"),
    ]
    first, second = section.text.split("second (12 bits)", 1)
    assert "planted (8 bits)" in first
    for text in (first, second):
        assert "1 of the 2 nearest photos are of the query's class" in text
    assert len([name for name in page.sections if name.startswith("bit-")]) == 8  # the first model's


@pytest.mark.parametrize(
    ("paths", "ends"),
    [
        (("runs/one", "runs/two"), ("one", "two")),
        (("runs/birds", "bundles/birds"), ("runs/birds", "bundles/birds")),  # as in README
        (("runs/birds", "runs/old/birds"), ("runs/birds", "old/birds")),
        (("/birds", "/runs/birds"), ("/birds", "runs/birds")),
    ],
)
def test_models_of_one_name_differ_by_the_ends_of_their_paths(
    dataset: Dataset, paths: tuple[str, str], ends: tuple[str, str]
) -> None:
    first, second = planted(), planted()
    first.path, second.path = map(Path, paths)
    _, page = explained(dataset, first, second)
    assert f"What planted (8 bits), {ends[0]} and planted (8 bits), {ends[1]} learned" in page.text
    for end in ends:
        assert f"planted (8 bits), {end}\n" in page.sections["query-1"].text


def test_models_of_two_names_need_no_paths(dataset: Dataset) -> None:
    first, second = planted(), planted(5)
    first.path, second.path = Path("runs/birds"), Path("bundles/birds")
    _, page = explained(dataset, first, second)
    assert "What planted (8 bits) and planted (12 bits) learned" in page.text


def test_a_model_is_not_compared_with_itself(dataset: Dataset, tmp_path: Path) -> None:
    first, second = planted(), planted()
    second.path = Path("elsewhere") / ".." / first.path
    with pytest.raises(
        ConfigError, match=r"planted is compared with itself; expected another .* or none, to see this one alone"
    ):
        explained(dataset, first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_training_is_not_compared_with_its_own_checkpoint(dataset: Dataset, model: CheckpointModel) -> None:
    newest = load_checkpoint(model.path).path
    assert newest != model.path
    with pytest.raises(ConfigError, match="is compared with itself"):
        explained(dataset, open_model(newest, device="cpu"), open_model(model.path, device="cpu"))


def test_models_without_a_map_in_common_both_use_occlusion(dataset: Dataset, tmp_path: Path) -> None:
    """As a checkpoint beside a bundle without attention."""

    class Answering(Planted):
        def run(self, pixels: Any) -> Any:
            """Encodes photos with covered squares too."""
            logits = pixels.mean(axis=(1, 2))[:, :1] - np.linspace(0, 60, 8)
            return ModelOutputs(pack(logits), logits, logits)

    def shown(*kinds: str) -> list[list[str]]:
        models = [Answering({0: [1.0] * 8}, name) for name in ("first", "second")]
        for model, kind in zip(models, kinds, strict=True):
            model.descriptions = dict.fromkeys(kind.split(), f"{kind}: ...")
        _, page = explained(dataset, *models)
        return [[figure.text for figure in group] for group in page.sections["query-1"].groups[::2]]

    added = shown("attention", "occlusion")
    assert [len(texts) for texts in added] == [3, 2]
    assert added[0][2].startswith("Occlusionthe most important square takes")
    assert (tmp_path / "out" / "query-01-a2-occlusion.png").is_file()
    for kinds in (("attention", "attention occlusion"), ("occlusion", "occlusion"), ("attention", "attention")):
        assert [len(texts) for texts in shown(*kinds)] == [2, 2]


def test_the_picture_of_the_hits_names_its_rows(dataset: Dataset, tmp_path: Path, monkeypatch: Any) -> None:
    names: list[Any] = []

    def noting(rows: Any, **options: Any) -> Image.Image:
        names.append(options.get("names"))
        return montage(rows, **options)

    monkeypatch.setattr("milvus_fghash.explain.explain.montage", noting)
    explained(dataset, planted(), planted(5, "second"), bits=())
    assert names == [["planted (8 bits)", "second (12 bits)"]] * 2


def test_photos_that_go_between_two_models_are_noticed(dataset: Dataset, tmp_path: Path) -> None:
    class Taking(Planted):
        def run(self, pixels: Any) -> Any:
            dataset.file(0).unlink(missing_ok=True)
            return super().run(pixels)

    with pytest.raises(DataError, match="were added or removed"):
        explained(dataset, Taking({photo[0]: signs_of(str(photo[4])) for photo in PHOTOS}), planted(5, "second"))
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_beside_a_bundle_without_attention_uses_occlusion_too(
    model: CheckpointModel, drawn_birds: Dataset, tmp_path: Path
) -> None:
    bundle = open_model(export(model.path, tmp_path / "bundles" / "run", check_count=2).path)
    explain([model, bundle], drawn_birds, tmp_path / "out", ExplainOptions(n_queries=1, k=1, bits=()))
    page = ExplainPage.read(tmp_path / "out" / "index.html")
    ours, theirs = page.sections["query-1"].groups[::2]
    assert [figure.text[:5] for figure in ours] == ["Photo", "Atten", "Codew", "Erase", "Occlu"]
    assert [figure.text[:5] for figure in theirs] == ["Photo", "Occlu"]
    assert ours[-1].text == theirs[-1].text  # the same network
    pictures = [np.asarray(Image.open(tmp_path / "out" / one[-1].files[0]), int) for one in (ours, theirs)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 3
