"""The picture files of a page: each is written once, under a name that does not come from the data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from milvus_fghash.core.images import Preprocessing, load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.explain.model import Pixels
from milvus_fghash.explain.pictures import png, thumbnail

PHOTOS = "photos"
"""Folder of thumbnails inside the page's folder."""
THUMBNAIL_SIDE = 224
"""Longest side of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Album:
    """Writes photos as the model sees them, and pictures made from them.

    Attributes:
        folder: the page's folder; exists, with `PHOTOS` in it.
        gallery: whose rows are shown.
        preprocessing: of the model.
        thumbnails: row -> file of its thumbnail, for the rows requested so far.
    """

    folder: Path
    gallery: Dataset
    preprocessing: Preprocessing
    thumbnails: dict[int, str] = field(default_factory=dict)

    def photo(self, row: int) -> Pixels:
        """Decode a photo of the gallery (again: a gallery does not fit into memory); writes its thumbnail."""
        pixels = load(self.gallery.file(row), self.preprocessing)
        if row not in self.thumbnails:
            self.thumbnails[row] = self.thumbnail(f"{row}", pixels)
        return pixels

    def thumbnail(self, name: str, picture: Pixels) -> str:
        """Write a small JPEG; returns its path relative to the page."""
        file = f"{PHOTOS}/{name}.jpg"
        (self.folder / file).write_bytes(thumbnail(picture, THUMBNAIL_SIDE))
        return file

    def picture(self, name: str, picture: Pixels | Image.Image) -> str:
        """Write a PNG of full size; returns its path relative to the page."""
        file = f"{name}.png"
        (self.folder / file).write_bytes(png(picture))
        return file
