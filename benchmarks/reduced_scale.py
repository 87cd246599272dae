"""JPEG decoding at a reduced scale: changed bits and pixels, and saved time, for several margins.

    python benchmarks/reduced_scale.py --bundle bundles/birds --data photos

Each photo of a sample is turned into two large JPEGs: enlarged, which has more pixels but no finer detail, and a mosaic
of photos, which is full of fine detail. The reference is decoding every pixel; "saved again" is the effect of another
compression of the same picture. Times are CPU times of decoding and resizing, the median of several runs.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core import images
from milvus_fghash.core.codes import Codes, differing_bits
from milvus_fghash.core.images import Preprocessing, load, open_rgb
from milvus_fghash.encoding.encoder import Encoder

EVERY_PIXEL = 1_000_000
"""A margin larger than any photo: decode every pixel."""


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    raw = io.BytesIO()
    image.save(raw, "JPEG", quality=quality)
    return raw.getvalue()


def enlarged(photos: Sequence[Path], row: int, size: tuple[int, int]) -> Image.Image:
    return open_rgb(photos[row]).resize(size, Image.Resampling.LANCZOS)


def mosaic(photos: Sequence[Path], row: int, size: tuple[int, int]) -> Image.Image:
    picture = Image.new("RGB", size)
    top, taken = 0, row
    while top < size[1]:
        left, lowest = 0, size[1]
        while left < size[0]:
            tile = open_rgb(photos[taken % len(photos)])
            picture.paste(tile, (left, top))
            left, lowest, taken = left + tile.width, min(lowest, tile.height), taken + 1
        top += lowest
    return picture


def views(files: Sequence[bytes], preprocessing: Preprocessing, margin: int) -> NDArray[np.uint8]:
    """(n, size, size, 3)."""
    with mock.patch.object(images, "MARGIN", margin):
        return np.stack([load(raw, preprocessing) for raw in files])


def milliseconds(files: Sequence[bytes], preprocessing: Preprocessing, margin: int) -> float:
    started = time.process_time()
    views(files, preprocessing, margin)
    return 1000 * (time.process_time() - started) / len(files)


def flips(ours: Codes, theirs: Codes, bits: int) -> str:
    return f"{100 * differing_bits(ours, theirs).mean() / bits:.2f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="Folder of photos, searched for *.jpg.")
    parser.add_argument("--photos", type=int, default=60, help="Photos of each kind and size.")
    parser.add_argument("--sizes", nargs="+", default=["2000x1500", "4000x3000", "4001x3003"])
    parser.add_argument("--margins", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--repeats", type=int, default=3, help="Runs for each time.")
    arguments = parser.parse_args()

    encoder = Encoder.open(arguments.bundle)
    preprocessing = encoder.bundle.manifest.preprocessing
    photos = sorted(arguments.data.rglob("*.jpg"))
    rows = np.random.default_rng(0).permutation(len(photos))[: arguments.photos]
    print("| photos | size | decoded | flipped bits | pixels differ by | ms per photo | speed-up |")
    print("|---|---|---|---|---|---|---|")
    for kind in (enlarged, mosaic):
        for size in arguments.sizes:
            width, height = (int(side) for side in size.split("x"))
            pictures = [kind(photos, row, (width, height)) for row in rows]
            files = [jpeg(picture) for picture in pictures]
            whole = views(files, preprocessing, EVERY_PIXEL)
            codes = encoder.encode_pixels(whole)
            margins = [EVERY_PIXEL, *arguments.margins]
            times: dict[int, list[float]] = {margin: [] for margin in margins}
            for _ in range(arguments.repeats):
                for margin in margins:
                    times[margin].append(milliseconds(files, preprocessing, margin))
            base = statistics.median(times[EVERY_PIXEL])
            start = f"| {kind.__name__} | {size} |"
            print(f"{start} every pixel | | | {base:.1f} | |", flush=True)
            for margin in arguments.margins:
                seen = views(files, preprocessing, margin)
                took = statistics.median(times[margin])
                flipped = flips(codes, encoder.encode_pixels(seen), encoder.bits)
                differ = np.abs(seen.astype(int) - whole).mean()
                print(
                    f"{start} margin {margin} | {flipped} | {differ:.2f} | {took:.1f} | {base / took:.1f} |", flush=True
                )
            again = views([jpeg(picture, 80) for picture in pictures], preprocessing, EVERY_PIXEL)
            differ = np.abs(again.astype(int) - whole).mean()
            flipped = flips(codes, encoder.encode_pixels(again), encoder.bits)
            print(f"{start} saved again, quality 80 | {flipped} | {differ:.2f} | | |", flush=True)


if __name__ == "__main__":
    main()
