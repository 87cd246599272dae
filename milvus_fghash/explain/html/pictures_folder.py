"""The pictures of a page in their folder: written once each, under names of our own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.model import Pixels
from milvus_fghash.explain.pictures import png, thumbnail

PHOTOS = "photos"
"""Folder of small photos inside the page's folder."""
SIDE = 224
"""Longest side of a small photo, in pixels."""


@dataclass(frozen=True)
class Album:
    """Photos are shown as the model sees them.

    Attributes:
        folder: where the page will stand; exists, with `PHOTOS` in it.
        gallery: whose rows are shown.
        preprocessing: of the model.
        photos: row -> file of a small photo, of those that were asked for.
    """

    folder: Path
    gallery: Dataset
    preprocessing: Preprocessing
    photos: dict[int, str] = field(default_factory=dict)

    def pixels(self, row: int) -> Pixels:
        """A photo of the gallery, decoded again: a gallery does not fit into memory."""
        return load(self.gallery.file(row), self.preprocessing)

    def photo(self, row: int) -> Pixels:
        """The same, and from now on among the small photos."""
        pixels = self.pixels(row)
        if row not in self.photos:
            self.photos[row] = self.small(f"{row}", pixels)
        return pixels

    def small(self, name: str, picture: Pixels) -> str:
        """Write a JPEG among the small photos; its name from the page."""
        file = f"{PHOTOS}/{name}.jpg"
        (self.folder / file).write_bytes(thumbnail(picture, SIDE))
        return file

    def picture(self, name: str, picture: Pixels | Image.Image) -> str:
        """Write a PNG beside the page; its name."""
        file = f"{name}.png"
        (self.folder / file).write_bytes(png(picture))
        return file
