"""Photos of one colour each, and a model whose logits for each colour are laid down by the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from milvus_fghash.core.codes import Logits, pack
from milvus_fghash.core.images import Preprocessing
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.explain import ExplainOptions, ExplainResult, explain
from milvus_fghash.explain.model import Heat, Model, ModelOutputs, Pixels, Sources, View, Views
from tests.helpers.html_page import Page

SIDE = 16
BITS = 8

# number, id, class, split; the first model's code; the second's
PHOTOS = [
    (0, "q1", "robin", "test", "11110000", "000011110000"),
    (1, "q2", "wren", "test", "00001111", "111111111111"),
    (10, "g1", "robin", "train", "11110000", "000011110011"),
    (11, "g2", "robin", "train", "11110011", "000011110000"),
    (12, "g10", "wren", "train", "11100000", "111111111110"),
    (13, "g9", "wren", "train", "11100000", "111111111111"),
    (14, "g5", "", "train", "11110001", "000011110000"),
]


class Planted(Model):
    """Looks up a photo's red value, which is its number; one view, and heat where ``heated``."""

    kind = "bundle"
    lineage = "ab12"
    preprocessing = Preprocessing(size=SIDE, resize=SIDE)
    mean = (0.5, 0.5, 0.5)
    descriptions: Mapping[str, str] = {"attention": "Nowhere in particular."}
    unavailable: Sequence[str] = ("anything else (it is unknown)",)

    def __init__(self, logits: Mapping[int, Sequence[float]], name: str = "planted", heated: bool = False) -> None:
        self.table = {number: np.array(row, np.float32) for number, row in logits.items()}
        self.path, self.method, self.heated = Path(name), name, heated
        self.bits = len(next(iter(self.table.values())))

    def run(self, pixels: Pixels) -> ModelOutputs:
        logits = np.stack([self.table[int(photo[0, 0, 0])] for photo in pixels])
        activities = None
        if self.sources is not None:
            activities = np.array([self.activities[int(photo[0, 0, 0])] for photo in pixels], np.float32)
        return ModelOutputs(pack(logits), logits, self.bit_scores(logits), activities)

    def with_sources(self, sources: Sources, activities: Mapping[int, Sequence[float]]) -> Planted:
        """The same model, with sources of its bits; ``activities``: number of a photo -> that of each source."""
        self.sources, self.activities = sources, activities
        return self

    def bit_scores(self, logits: Logits) -> Logits:
        """As of most methods."""
        return logits

    def views(self, photo: Pixels, max_maps: int) -> Views:
        left_out = f"{max_maps} of 40 <maps>." if max_maps < 40 else ""
        return Views([View("attention", "where the network looks", photo)], left_out)

    def bit_heat(self, pixels: Pixels, bit: int) -> list[Heat] | None:
        return [np.eye(2) for _ in pixels] if self.heated else None


def signs_of(code: str) -> list[float]:
    """ "10..." -> logits of +1 and -1."""
    return [1.0 if bit == "1" else -1.0 for bit in code]


def write_photos(folder: Path, photos: Sequence[tuple[int, str, str, str]]) -> Dataset:
    """(number, id, class, split) -> PNG files of one colour, and their listing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, _, _, _ in photos:
        Image.new("RGB", (SIDE, SIDE), (number, 16 * number % 256, 100)).save(folder / f"{number}.png")
    numbers, ids, labels, splits = zip(*photos, strict=True)
    return Dataset(folder, ids, tuple(f"{number}.png" for number in numbers), labels, splits)


class ExplainPage(Page):
    """A page of `explain`: what a page has, and the figures of each query and bit.

    Attributes:
        sections: by id, such as "query-1" or "bit-0".
    """

    def __init__(self, html: str) -> None:
        self.sections: dict[str, Section] = {}
        self._in_section: Section | None = None
        self._in_figure = False
        super().__init__(html)

    @property
    def files(self) -> list[str]:
        """What images and links name, except for places on the page itself."""
        return self.sources + [href for href in self.hrefs if href[:1] != "#"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        values = {name: value or "" for name, value in attrs}
        if tag == "section" and values.get("id", "").startswith(("query-", "bit-")):
            self._in_section = self.sections[values["id"]] = Section()
        if self._in_section is None:
            return
        groups = self._in_section.groups
        if tag == "div" and values.get("class") in ("views", "tiles"):
            groups.append([])
        elif tag == "figure":
            groups[-1].append(Figure(values.get("class", "")))
            self._in_figure = True
        elif tag == "img":
            groups[-1][-1].files.append(values["src"])

    def handle_endtag(self, tag: str) -> None:
        super().handle_endtag(tag)
        if tag == "figure":
            self._in_figure = False
        if tag == "section":
            self._in_section = None

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if self._in_section is None:
            return
        self._in_section.text += data
        if self._in_figure:
            self._in_section.groups[-1][-1].text += data


class Section:
    """One query or bit: groups of figures, in order, and its text."""

    def __init__(self) -> None:
        self.groups: list[list[Figure]] = []
        self.text = ""


class Figure:
    """Its frame, its picture files and its caption."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.files: list[str] = []
        self.text = ""


def planted(column: int = 4, name: str = "planted", **options: Any) -> Planted:
    return Planted({photo[0]: signs_of(str(photo[column])) for photo in PHOTOS}, name, **options)


def explained(dataset: Dataset, *models: Model, **options: Any) -> tuple[ExplainResult, ExplainPage]:
    out = dataset.root.parent / "out"
    result = explain(models or [planted()], dataset, out, ExplainOptions(**options), overwrite=out.exists())
    return result, ExplainPage.read(out / "index.html")


def captions(page: ExplainPage, section: str, group: int) -> list[tuple[str, str]]:
    return [(figure.kind, figure.text) for figure in page.sections[section].groups[group]]


def query_of(page: ExplainPage, label: str) -> str:
    """Which of the two queries was drawn first is up to a hash."""
    return next(name for name in ("query-1", "query-2") if f": {label}" in page.sections[name].text)
