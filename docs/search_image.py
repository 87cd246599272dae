"""Draw docs/images/search.png: generated birds as queries, and their nearest neighbours by the built-in bundle.

Run it from the root of the repository: `python docs/search_image.py`. The same seed gives the same picture.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from milvus_fghash import Catalog
from milvus_fghash.datasets.synthetic.drawings import draw_splits
from milvus_fghash.demo.shipped import CATALOG, SIZE, shipped_bundle

OUT = Path(__file__).parent / "images" / "search.png"
SEED = 1
QUERIES = (("test", 1), ("test", 7), ("val", 4), ("val", 3))
"""Split and class number of the queries, one row each: the classes of val are new to the network."""
HITS = 7
TILE, FRAME, GAP, TEXT = 96, 3, 10, 18
"""Pixels: a drawing, its frame, the space between drawings, and the line with the distance below a drawing."""
SAME, OTHER = "#2e9e5b", "#c9cdd3"


def main() -> None:
    step = TILE + 2 * FRAME + GAP
    picture = Image.new("RGB", (step * (HITS + 1) + 3 * GAP, (step + TEXT) * len(QUERIES) + GAP), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    with tempfile.TemporaryDirectory() as folder:
        photos = draw_splits(Path(folder) / "drawings", CATALOG, SIZE, SEED)
        with Catalog.open(Path(folder) / "birds.db", "birds", bundle=shipped_bundle()) as catalog:
            catalog.ingest(photos, split="train")
            for number, (split, kind) in enumerate(QUERIES):
                unseen = photos.split(split)
                row = unseen.labels.index(unseen.classes[kind])
                top = GAP + number * (step + TEXT)
                tiles = [(unseen.file(row), unseen.labels[row], "query")]
                tiles += [
                    (photos.root / hit.path, hit.label, str(hit.distance))
                    for hit in catalog.search(tiles[0][0], k=HITS)
                ]
                for place, (file, label, text) in enumerate(tiles):
                    left = GAP + place * step + (2 * GAP if place else 0)
                    frame = OTHER if not place or label != tiles[0][1] else SAME
                    draw.rectangle((left, top, left + TILE + 2 * FRAME - 1, top + TILE + 2 * FRAME - 1), fill=frame)
                    with Image.open(file) as bird:
                        picture.paste(bird.convert("RGB").resize((TILE, TILE)), (left + FRAME, top + FRAME))
                    middle = left + FRAME + TILE // 2
                    draw.text((middle, top + TILE + 2 * FRAME + 4), text, "#333333", font, anchor="mt")
    OUT.parent.mkdir(exist_ok=True)
    picture.quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
