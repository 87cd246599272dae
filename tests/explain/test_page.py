"""The whole page of planted models: what it says is what was planted, and no name can break out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.errors import BundleError, ConfigError, DataError
from milvus_fghash.explain.explain import ExplainOptions, explain
from milvus_fghash.explain.pictures import FONT_SIZE
from tests.helpers.bundle_parts import folder_of
from tests.helpers.planted_models import (
    PHOTOS,
    ExplainPage,
    Planted,
    captions,
    explained,
    planted,
    query_of,
    signs_of,
    write_photos,
)


def test_hits_have_their_distance_and_the_frame_of_their_class(dataset: Dataset) -> None:
    _, page = explained(dataset)
    assert captions(page, query_of(page, "robin"), 1) == [
        ("right", "0 of 8 bits✓ right class10.png"),
        ("wrong", "1 of 8 bits✗ wrong classwren12.png"),  # g10, g5, g9: as text
        ("", "1 of 8 bits14.png"),  # of no known class
        ("wrong", "1 of 8 bits✗ wrong classwren13.png"),
        ("right", "2 of 8 bits✓ right class11.png"),
    ]
    assert "2 of the 5 nearest photos are of the query's class" in page.sections[query_of(page, "robin")].text


def test_what_is_cut_at_the_last_distance_is_said(dataset: Dataset) -> None:
    _, page = explained(dataset, k=2)
    assert "2 more photos at the distance of the last one are not shown" in page.sections[query_of(page, "robin")].text


def test_maps_that_are_left_out_are_told_of_below_the_others(dataset: Dataset) -> None:
    _, page = explained(dataset, planted(), planted(5, "second"))
    assert page.sections["query-1"].text.count("12 of 40 <maps>.") == 2
    _, page = explained(dataset, max_maps=7)
    assert all(page.sections[name].text.count("7 of 40 <maps>.") == 1 for name in ("query-1", "query-2"))
    _, page = explained(dataset, max_maps=40)
    assert "<maps>" not in page.text


def test_the_picture_of_the_hits_has_their_frames(dataset: Dataset, tmp_path: Path) -> None:
    _, page = explained(dataset, k=2)
    name = f"{query_of(page, 'robin').replace('-', '-0')}-nearest.png"
    sheet = np.asarray(Image.open(tmp_path / "out" / name))
    edge = sheet[8 + FONT_SIZE + 8 + 2]  # through the upper edge of the frames, below the model's name
    colours = [tuple(pixel) for pixel in edge.tolist()]
    assert [colour for colour in dict.fromkeys(colours) if colour != (255, 255, 255)] == [(26, 152, 80), (215, 48, 39)]


def test_the_photos_shown_are_those_that_are_meant(dataset: Dataset, tmp_path: Path) -> None:
    _, page = explained(dataset)
    for number, hit in zip((10, 12, 14, 13, 11), page.sections[query_of(page, "robin")].groups[1], strict=True):
        with Image.open(tmp_path / "out" / hit.files[0]) as photo:
            assert photo.getpixel((8, 8)) == pytest.approx((number, 16 * number, 100), abs=4)
    name = query_of(page, "robin").replace("-", "-0")
    with Image.open(tmp_path / "out" / f"{name}-photo.png") as photo:
        assert photo.getpixel((8, 8)) == (0, 0, 100)


def test_a_bit_that_is_on_for_one_class_shows_its_photos(dataset: Dataset) -> None:
    # Bit 6 is on in g2 alone; bit 3 in all robins and in the photo without a class
    _, page = explained(dataset)
    text = page.sections["bit-3"].text
    assert "On in 60% of the photos, agreement 100%" in text
    assert text.index("On for robin") < text.index("Off for wren")
    assert [text for _, text in captions(page, "bit-3", 0)] == [
        "robin100% of class on",
        "robin100% of class on",
        "",
    ]
    assert [text for _, text in captions(page, "bit-3", 1)] == [
        "wren0% of class on",
        "wren0% of class on",
    ]
    assert re.findall(r"\d+\.png", text) == ["10.png", "11.png", "14.png", "12.png", "13.png"]
    assert "Always on" in page.sections["bit-0"].text
    assert "No photo has this bit off." in page.sections["bit-0"].text
    assert [text for _, text in captions(page, "bit-6", 0)] == ["robin50% of class on"]


def test_bits_are_chosen_and_must_exist(dataset: Dataset) -> None:
    result, page = explained(dataset, bits=(6, 0))
    assert [name for name in page.sections if name.startswith("bit-")] == ["bit-6", "bit-0"]
    assert result.n_bits == 2
    with pytest.raises(ConfigError, match="no bit 8; its bits are 0 to 7"):
        explained(dataset, bits=(3, 8))
    with pytest.raises(ConfigError, match="no bit -1"):
        explained(dataset, bits=(-1,))


def test_heat_of_a_bit_stands_below_its_photos_where_the_model_has_it(dataset: Dataset) -> None:
    _, plain = explained(dataset)
    assert {len(figure.files) for group in plain.sections["bit-3"].groups for figure in group} == {1}
    _, page = explained(dataset, planted(heated=True))
    assert {len(figure.files) for group in page.sections["bit-3"].groups for figure in group} == {2}
    assert page.sections["bit-3"].groups[0][0].files == ["photos/0.jpg", "photos/bit-003-0.jpg"]


def test_every_file_of_the_page_is_there_and_nothing_is_loaded_or_run(dataset: Dataset, tmp_path: Path) -> None:
    _, page = explained(dataset, planted(heated=True), planted(5, "second"))
    written = set(folder_of(tmp_path / "out"))
    assert set(page.files) == written - {"index.html"}
    assert not page.others
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert all(page.alts)


def test_pictures_come_first_and_the_glossary_last(dataset: Dataset, tmp_path: Path) -> None:
    explained(dataset, planted(heated=True))
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    places = [
        html.index(part) for part in ("<dt>Not shown</dt>", "<img", "Glossary: how to read", "Nowhere in particular")
    ]
    assert places == sorted(places)
    assert "<dd>anything else (it is unknown)</dd>" in html
    assert html.rindex("<img") < places[2]
    assert "title=" not in html, "a hint that needs a pointer is lost on a phone"
    assert "img-src data: 'self' file:\"" in html, "the pictures are files beside the page"


def test_photos_by_name_with_and_without_a_class(dataset: Dataset, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (1, 1, 1)).save(tmp_path / "stranger.png")
    result, page = explained(dataset, images=(dataset.file(2), tmp_path / "stranger.png"), k=3)
    assert result.n_queries == 2
    found = captions(page, "query-1", 1)
    assert found[0] == ("wrong", "1 of 8 bits✗ wrong classwren12.png")  # g1 is in the gallery and does not find itself
    assert {kind for kind, _ in captions(page, "query-2", 1)} == {""}
    assert "unknown class" in page.sections["query-2"].text


def test_names_cannot_break_out(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><img src="http://x/ onerror=alert(2)>&<b>\x1b[2J\x1f\u202e'
    name = "'\"><b onclick=x>\udce9.png"
    folder = tmp_path / "photos"
    write_photos(folder, [(0, "a", "", ""), (1, "b", "", "")])
    (folder / "1.png").rename(folder / name)
    (folder / "0.png").rename(folder / "0<u>.png")
    dataset = Dataset(folder, ("a", "b"), ("0<u>.png", name), (evil, f"{evil}2"), ("", ""))
    model = Planted({0: [1.0] * 8, 1: [-1.0] * 8}, evil)
    model.descriptions = {"attention": evil}
    model.unavailable = [evil]
    explain([model], dataset, tmp_path / "out", dataset_name=evil)
    page = ExplainPage.read(tmp_path / "out" / "index.html")
    assert not {"script", "u"} & set(page.tags)
    assert not page.others
    assert all(not file.startswith("http") for file in page.files)
    assert set(page.files) == set(folder_of(tmp_path / "out")) - {"index.html"}
    for section in page.sections.values():
        assert "alert(1)" in section.text
    assert "\\udce9.png" in page.text
    assert "<b>\\x1b[2J\\x1f\\u202e" in page.text
    raw = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in raw.replace("\xa0", " ").split("\n"))


def test_photos_that_cannot_be_read_are_listed_and_in_nothing_else(dataset: Dataset, tmp_path: Path) -> None:
    dataset.file(3).write_bytes(b"<i>no photo")
    dataset.file(0).write_bytes(b"")
    result, page = explained(dataset, planted(), planted(5, "second"))
    assert [(Path(one.path).name, one.reason) for one in result.rejected] == [("0.png", "empty"), ("11.png", "format")]
    assert (result.n_queries, result.n_gallery) == (1, 4)
    assert "Photos that could not be read" in page.text
    assert "11.png" in page.text.split("Photos that could not be read")[-1]
    assert "11.png" not in "".join(section.text for section in page.sections.values())
    assert "wren" in page.sections["query-1"].text


def test_a_query_that_cannot_be_read_gives_its_place_to_the_next(dataset: Dataset) -> None:
    dataset.file(0).write_bytes(b"")
    _, page = explained(dataset, images=(dataset.file(0), dataset.file(1)))
    assert page.sections["query-1"].text.startswith("\nQuery 1: wren\n")
    assert captions(page, "query-1", 1)[0] == ("wrong", "6 of 8 bits✗ wrong classrobin11.png")


@pytest.mark.parametrize(("split", "role"), [("test", "query"), ("train", "gallery")])
def test_when_no_photo_can_be_read_nothing_is_written(dataset: Dataset, tmp_path: Path, split: str, role: str) -> None:
    for row, own in enumerate(dataset.splits):
        if own == split:
            dataset.file(row).write_bytes(b"")
    with pytest.raises(DataError, match=f"none of the . {role} photos can be read; the first: .*zero bytes"):
        explained(dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_failure_in_the_middle_leaves_what_was_there(dataset: Dataset, tmp_path: Path) -> None:
    explained(dataset)
    before = folder_of(tmp_path)

    class Failing(Planted):
        def bit_heat(self, pixels: Any, bit: int) -> Any:
            raise BundleError("the graph fails")

    with pytest.raises(BundleError):
        explained(dataset, Failing({photo[0]: signs_of(str(photo[4])) for photo in PHOTOS}))
    assert folder_of(tmp_path) == before


def test_a_page_takes_only_the_place_of_a_page(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    explain([planted()], dataset, out)
    with pytest.raises(DataError, match="exists"):
        explain([planted()], dataset, out)
    explain([planted()], dataset, out, ExplainOptions(bits=(0,)), overwrite=True)
    assert not (out / "bit-001.png").exists()
    (out / "notes.txt").write_text("mine")
    site = tmp_path / "site"
    (site / "photos").mkdir(parents=True)
    (site / "index.html").write_text("<h1>My photos</h1>")
    for stranger in (out, site, tmp_path / "photos", tmp_path / "photos" / "0.png"):
        with pytest.raises(DataError, match="not overwritten"):
            explain([planted()], dataset, stranger, overwrite=True)


def test_a_gallery_of_the_query_alone(dataset: Dataset) -> None:
    _, page = explained(dataset.take([2]), images=(dataset.file(2),))
    assert "The gallery holds no other photo" in page.sections["query-1"].text


def test_a_disk_that_rejects(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        explain([planted()], dataset, tmp_path / "file" / "out")
