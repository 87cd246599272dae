"""The lines of the pictures are the figures of the records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.evaluation.plots import Line, bar_chart, line_chart
from milvus_fghash.experiments import plots
from milvus_fghash.experiments.grid import GridSpec, Results
from tests.helpers.made_up_records import BASELINE, LSH, OTHER, record, results


def test_each_head_and_gallery_has_a_picture_of_its_own(tmp_path: Path) -> None:
    files = plots.write_plots(results(), tmp_path)
    assert [file.name for file in files] == [
        "map-linear-encoded.png",
        "precision-recall-linear-encoded.png",
        "map-linear-learned.png",
        "precision-recall-linear-learned.png",
        "loss-linear.png",
        "map-mlp-encoded.png",
        "precision-recall-mlp-encoded.png",
        "map-mlp-learned.png",
        "seconds.png",
    ]
    for file in files:
        with Image.open(file) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").resize((64, 64)).getcolors(64 * 64) or []) > 10  # something is drawn


def test_map_is_drawn_with_its_spread() -> None:
    lines = plots.map_by_bits(results(), [LSH, BASELINE], "encoded")
    assert lines["lsh"].x == (12, 48)
    assert lines["lsh"].y == pytest.approx((20, 25))
    assert lines["lsh"].spread == pytest.approx((14.142, 0), abs=1e-3)
    assert lines["baseline"].y == pytest.approx((45, 45))
    learned = plots.map_by_bits(results(), [LSH, BASELINE], "learned")
    assert list(learned) == ["baseline"]
    assert learned["baseline"].y == pytest.approx((70, 70))
    bars = line_chart(lines, "title", "x", "y", ticks=(12, 48)).axes[0]
    for line, values in zip(bars.lines[::3], [(20, 25), (45, 45)], strict=True):  # the two between are caps of bars
        assert np.asarray(line.get_ydata()) == pytest.approx(values)
    assert [label.get_text() for label in bars.get_xticklabels()] == ["12", "48"]


def test_where_a_seed_failed_there_is_no_point() -> None:
    made = results()
    made.cells[BASELINE, 12, 1] = record("baseline-12-1", None)
    assert plots.map_by_bits(made, [LSH, BASELINE], "encoded")["baseline"].x == (48,)
    assert plots.seconds(made, "", 12)["baseline, linear"] == 1.5


def test_a_row_looks_alike_in_all_pictures() -> None:
    variants = [LSH, BASELINE]
    both = plots.map_by_bits(results(), variants, "encoded")
    alone = (
        plots.map_by_bits(results(), variants, "learned"),
        plots.precision_recall(results(), variants, "learned", 48),
        plots.losses(results(), variants, 48),
    )
    _, expected = line_chart(both, "title", "x", "y").axes[0].containers
    for lines in alone:
        (line,) = lines.values()
        drawn = line_chart({"baseline": line}, "title", "x", "y").axes[0].lines[0]
        assert (drawn.get_color(), drawn.get_linestyle()) == (expected[0].get_color(), expected[0].get_linestyle())


def test_curves_leave_out_what_is_not_known() -> None:
    lines = plots.precision_recall(results(), [BASELINE, OTHER], "learned", 48)
    assert list(lines) == ["baseline (mAP 60.0 %)"]  # seed 0; the other row was not run at 48 bits
    (line,) = lines.values()
    assert (line.x, line.y) == ((50, 100), (50, 25))


def test_losses_are_shares_of_the_first_rounds() -> None:
    assert plots.losses(results(), [LSH, BASELINE, OTHER], 48) == {"baseline": Line(range(1, 3), [100, 50], style=1)}


def test_of_a_single_round_no_line_is_drawn() -> None:
    made = results()
    made.cells[BASELINE, 48, 0] = record(curve={"pairs": (2.0,)})
    assert plots.losses(made, [BASELINE], 48) == {}


def test_time_is_told_of_each_row() -> None:
    bars = plots.seconds(results(), "", 48)
    assert bars == {"lsh": 1.5, "baseline, linear": 1.5}
    axes = bar_chart(bars, "title", "Seconds").axes[0]
    assert [bar.get_width() for bar in axes.containers[0]] == [1.5, 1.5]


def test_many_names_stand_beside_the_picture_and_no_two_look_alike() -> None:
    chart = line_chart({str(number): Line((1, 2), (1, number)) for number in range(28)}, "title", "x", "y")
    drawn = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in chart.axes[0].lines]
    assert len(set(drawn)) == 28
    assert len({(colour, mark) for colour, _, mark in drawn}) == 28
    assert chart.axes[0].get_legend() is None
    assert len(chart.legends) == 1


def test_pictures_of_rows_that_are_gone_go_and_strange_ones_stay(tmp_path: Path) -> None:
    for name in ("map-mlp-encoded.png", "seconds-boxes.png", "mine.png"):
        (tmp_path / "plots").mkdir(exist_ok=True)
        (tmp_path / "plots" / name).touch()
    made = Results(GridSpec("demo", (LSH,), (12,), 1), {(LSH, 12, 0): record()})
    files = plots.write_plots(made, tmp_path / "plots")
    left = {path.name for path in (tmp_path / "plots").iterdir()}
    assert left == {path.name for path in files} | {"mine.png"}
    assert "map-encoded.png" in left
