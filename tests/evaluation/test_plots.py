"""The plots are files a person can open, show what the record holds, and need no pyplot."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.core.codes import pack
from milvus_fghash.errors import DataError, MissingExtra
from milvus_fghash.evaluation.plots import (
    Line,
    bar_chart,
    bit_balance,
    distances,
    line_chart,
    precision_at_k,
    precision_recall,
    write_figure,
    write_plots,
)
from milvus_fghash.evaluation.record import Evaluation, EvaluationRecord, Subject, evaluate_codes
from tests.helpers.commands import Run

pytestmark = pytest.mark.full

NAMES = ["precision_recall.png", "precision_at_k.png", "distances.png", "bit_balance.png"]


def record(method: str, bits: int = 12) -> EvaluationRecord:
    rng = np.random.default_rng(bits)
    labels = [str(number) for number in rng.integers(0, 3, 40)]
    queries, stored = pack(rng.standard_normal((40, bits))), pack(rng.standard_normal((40, bits)))
    subject = Subject(
        method=method, bits=bits, fingerprint="f", lineage="a", dataset="d", gallery_split="train", query_split="test"
    )
    return evaluate_codes(queries, labels, stored, labels, subject, gallery="encoded", gallery_source="network")


def test_one_evaluation_gives_four_pictures(tmp_path: Path) -> None:
    files = write_plots(Evaluation(encoded=record("lsh"), learned_absent="lsh learns none"), tmp_path / "plots")
    assert [file.name for file in files] == NAMES
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert picture.width > 1000
            assert len(picture.convert("RGB").resize((64, 64)).getcolors(64 * 64) or []) > 10  # something is drawn
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == sorted(NAMES)


def test_curves_show_the_figures_of_each_record() -> None:
    records = {"FCAENet": record("fcaenet"), "LSH, 48 bits": record("lsh", 48)}
    curves, at_k = precision_recall(records).axes[0], precision_at_k(records).axes[0]
    for position, (name, made) in enumerate(records.items()):
        known = [100 * share for share in made.pr_curve.precision if share is not None]
        assert curves.lines[position].get_ydata() == pytest.approx(known)
        assert at_k.lines[position].get_ydata() == pytest.approx([100 * share for share in made.precision_at.values()])
        assert at_k.lines[position].get_label() == name
        assert f"{100 * made.map_exact:.1f} %" in str(curves.lines[position].get_label())
    assert len({line.get_color() for line in curves.lines}) == 2
    assert all(axes.get_xlabel() and axes.get_ylabel() and axes.get_legend() for axes in (curves, at_k))


def test_panels_show_pairs_and_bits() -> None:
    records = {"FCAENet": record("fcaenet"), "LSH, 48 bits": record("lsh", 48)}
    for axes, made in zip(distances(records).axes, records.values(), strict=True):
        other, same = (np.array([bar.get_height() for bar in bars]) for bars in axes.containers)
        assert other.sum() == pytest.approx(100)
        assert same * sum(made.same_class_distances) / 100 == pytest.approx(made.same_class_distances)
    for axes, made in zip(bit_balance(records).axes, records.values(), strict=True):
        heights = [bar.get_height() for bar in axes.containers[0]]
        assert heights == pytest.approx([100 * share for share in made.gallery_health.bit_balance])


def test_names_are_shown_as_they_are_and_nothing_of_them_acts(tmp_path: Path) -> None:
    """Neither a formula (which would fail), nor control characters (of which the font has none, with a warning)."""
    name, shown = "a$\\frac{$b\x1b\u202e", r"a\$\frac{\$b\x1b\u202e"
    charts = [precision_recall({name: record("lsh")}), line_chart({name: Line((0, 1), (0, 1))}, name, "x", "y")]
    for chart in charts:
        legend = chart.axes[0].get_legend()
        assert legend is not None
        assert [text.get_text().partition(" (")[0] for text in legend.get_texts()] == [shown]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plots({name: record("lsh")}, tmp_path)
        write_figure(bar_chart({name: 1.0}, f"of\n{name}", "x"), tmp_path / "bars.png")


def test_no_record_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no evaluation record"):
        write_plots({}, tmp_path)


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()
    with pytest.raises(DataError, match="cannot write"):
        write_plots({"LSH": record("lsh")}, taken)


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [NoMatplotlib(), *sys.meta_path])


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_the_error_names_the_extra() -> None:
    with pytest.raises(MissingExtra, match=r"milvus-fghash\[plot\]"):
        precision_recall({"LSH": record("lsh")})


@pytest.mark.usefixtures("without_matplotlib")
@pytest.mark.parametrize(
    "command",
    ["evaluate {0} --data {0} --plots {0}/plots", "compare frozen --data {0} --weights {0} --out {0}/out"],
)
def test_long_work_that_would_end_without_its_pictures_does_not_begin(run: Run, command: str, tmp_path: Path) -> None:
    """Neither the empty bundle nor the empty data are looked at."""
    result = run(*command.format(tmp_path).split())
    assert result.exit_code == 1
    assert "pip install 'milvus-fghash[plot]'" in result.stderr
    assert not list(tmp_path.iterdir())


class NoMatplotlib:
    """An import system in which matplotlib is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")


def test_the_module_loads_without_matplotlib_and_pyplot_stays_out(tmp_path: Path) -> None:
    probe = (
        "import sys, milvus_fghash.evaluation.plots as plots; assert 'matplotlib' not in sys.modules; "
        "plots._figure(1); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
