"""What must hold for every line of the table of methods."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

import milvus_fghash.methods as table
from milvus_fghash.bundle.bundle import Bundle
from milvus_fghash.core.code_length import MAX_BITS
from milvus_fghash.core.codes import pack, unpack
from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.errors import ConfigError
from milvus_fghash.exporters.onnx_bundle import export
from milvus_fghash.methods.base import Sizes
from milvus_fghash.recipes.loader import load_recipe
from milvus_fghash.training.backbones import build_backbone
from milvus_fghash.training.checkpoint import Checkpoint, RoundRecord, build_method, load_checkpoint
from milvus_fghash.training.run import Watcher, run_training

pytestmark = pytest.mark.full

BITS = 12  # not a multiple of 8: two bytes, four spare bits
QUICK = ("preprocessing.size=32", "preprocessing.resize=32", "training.rounds=2", "training.epochs_per_round=1",
         "training.batch_size=8")  # fmt: skip


class KilledError(Exception):
    """Stands for a kill after the first round."""


def kill(record: RoundRecord, rounds: int) -> None:
    raise KilledError


def trained(name: str, photos: Dataset, folder: Path, *, resume: bool = False, watcher: Watcher | None = None) -> Path:
    recipe = load_recipe(f"demo-{name}", QUICK)
    return run_training(recipe, BITS, photos, folder, resume=resume, device="cpu", watcher=watcher or Watcher())


@pytest.fixture(scope="module", params=table.METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def checkpoint(name: str, drawn_birds: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(trained(name, drawn_birds, tmp_path_factory.mktemp(name) / "run"))


def train_labels(checkpoint: Checkpoint) -> torch.Tensor:
    return torch.tensor([checkpoint.state.classes.index(label) for label in checkpoint.state.train_labels])


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(checkpoint.path, tmp_path_factory.mktemp("bundle") / "bundle", check_count=8)


def photos(dataset: Dataset, checkpoint: Checkpoint) -> torch.Tensor:
    pixels = np.stack([load(dataset.file(row), checkpoint.state.recipe.preprocessing) for row in range(8)])
    return checkpoint.method.backbone.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))


def test_outputs_have_a_column_per_bit_and_losses_are_finite(checkpoint: Checkpoint, drawn_birds: Dataset) -> None:
    with torch.no_grad():
        assert checkpoint.method(photos(drawn_birds, checkpoint)).shape == (8, BITS)
    learns = table.METHODS[checkpoint.state.recipe.method.name].learns
    assert bool(checkpoint.state.history) == learns.startswith("network")
    assert all(np.isfinite(value) for record in checkpoint.state.history for value in record.terms.values())


def test_one_seed_gives_one_method_also_when_training_stops_and_goes_on(
    name: str, checkpoint: Checkpoint, drawn_birds: Dataset, tmp_path: Path
) -> None:
    networks = table.card(name).by_gradient
    with pytest.raises(KilledError) if networks else nullcontext():
        trained(name, drawn_birds, tmp_path / "again", watcher=Watcher(round=kill))
    again = load_checkpoint(trained(name, drawn_birds, tmp_path / "again", resume=True)).method.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in checkpoint.method.state_dict().items())


def test_the_code_of_a_photo_does_not_depend_on_its_neighbours(checkpoint: Checkpoint, drawn_birds: Dataset) -> None:
    batch = photos(drawn_birds, checkpoint)
    with torch.no_grad():
        together = checkpoint.method(batch)
        alone = torch.cat([checkpoint.method(photo[None]) for photo in batch])
    # The last summand is what float32 leaves of the difference of two numbers about one, as KinHash's outputs are.
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5 * float(together.abs().max()) + 1e-7)


def test_the_bundle_gives_the_codes_of_the_network(
    checkpoint: Checkpoint, bundle: Bundle, drawn_birds: Dataset
) -> None:
    encoder = Encoder.open(bundle.path)
    files = [drawn_birds.file(row) for row in range(8)]
    codes = encoder.encode_files(files).codes
    with torch.no_grad():
        outputs = checkpoint.method(photos(drawn_birds, checkpoint)).numpy()
    clear = np.abs(outputs) > 1e-4 * np.abs(outputs).max()
    assert codes.shape == (8, 2)
    assert (unpack(codes, BITS) == (outputs > 0))[clear].all()


def test_learned_codes_are_signs_of_every_training_photo_and_go_into_the_bundle(
    checkpoint: Checkpoint, bundle: Bundle
) -> None:
    signs = checkpoint.method.learned_codes(train_labels(checkpoint))
    assert (signs is not None) == table.card(checkpoint.state.recipe.method.name).learns.endswith("codes")
    learned = bundle.learned()
    if signs is None:
        assert learned is None
        return
    assert signs.shape == (len(checkpoint.state.train_ids), BITS)
    assert set(signs.flatten().tolist()) == {1.0, -1.0}
    assert learned is not None
    assert learned.ids == checkpoint.state.train_ids
    np.testing.assert_array_equal(learned.codes, pack(signs.numpy()))


def test_the_table_and_the_folder_agree() -> None:
    folder = Path(table.__file__).parent
    shared = {
        "base",
        "affine",
        "heads",
        "label_sets",
        "asymmetric",
        "erasing",
        "projections",
        "class_codes",
        "clusters",
        "lda",
        "memory_bank",
        "parts",
        "classified",
        "leading_axes",
        "posterior_code",
        "posterior_weight",
    }
    assert {path.stem for path in folder.glob("[!_]*.py")} - shared == {
        name.replace("-", "_") for name in table.METHODS
    }
    for method in table.METHODS:
        module = table.load(method)
        assert module.__doc__
        assert hasattr(module, "Config")
        assert hasattr(module, "Method")


@pytest.mark.parametrize("name", [name for name, card in table.METHODS.items() if card.by_gradient])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_card_names_the_heads_that_a_method_can_have(name: str, kind: str) -> None:
    recipe = load_recipe(f"demo-{name}", [f"head.kind='{kind}'"])
    with nullcontext() if kind in table.card(name).heads else pytest.raises(ConfigError, match=r"head\.kind = 'mlp'"):
        build_method(recipe.method, recipe.head, build_backbone("tiny", "none"), Sizes(BITS, 4, 24))


@pytest.mark.parametrize("name", table.METHODS)
def test_the_longest_code_has_a_finite_logit_for_each_bit(name: str) -> None:
    recipe = load_recipe(f"demo-{name}")
    labels = torch.arange(24) % 4
    method = build_method(recipe.method, recipe.head, build_backbone("tiny", "none"), Sizes(MAX_BITS, 4, 24))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if method.wants_features:
            method.fit(torch.randn(24, 128, generator=random) + 3 * torch.eye(128)[labels], labels)
        logits = method.eval()(torch.randn(4, 3, 64, 64, generator=random))
    assert logits.shape == (4, MAX_BITS)
    assert bool(logits.isfinite().all())
