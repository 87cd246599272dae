"""Distances of perceptual hashes: between a photo and its changed copies, and between different photos.

    python benchmarks/perceptual.py --data PHOTOS

Prints three Markdown tables by the number of bits that may differ: the share of copies that are confirmed, for each
change of `benchmarks/duplicates.py`; the share of photos of which a recoloured variant is confirmed, which should be 0;
and the number of pairs of different files. The nearest ones are listed: they may be photos taken or stored twice.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the other benchmark

from benchmarks.duplicates import CHANGES, PER_CENT, Change, table
from milvus_fghash.core.codes import hamming
from milvus_fghash.core.images import Preprocessing, open_rgb
from milvus_fghash.core.perceptual_hash import BITS, MAX_COPY_DISTANCE, phash_distance, phash_to_hex
from milvus_fghash.core.perceptual_hash import perceptual_hash as of_image

WITHIN = (0, 1, 2, 3, 4, 6, 8, 10)
"""Numbers of bits that may differ."""


def swapped(photo: Image.Image) -> Image.Image:
    """Swap red and blue."""
    red, green, blue = photo.split()
    return Image.merge("RGB", (blue, green, red))


def rotated(degrees: int) -> Change:
    """Rotate the hue."""

    def change(photo: Image.Image) -> Image.Image:
        hue, *others = photo.convert("HSV").split()
        steps = round(degrees * 256 / 360)
        return Image.merge("HSV", (hue.point(lambda value: (value + steps) % 256), *others)).convert("RGB")

    return change


COLOURS: dict[str, Change] = {
    "red and blue swapped": swapped,
    "hue turned by 120 degrees": rotated(120),
    "hue turned by 180 degrees": rotated(180),
}
"""Changes that make a photo one of another product, not a copy."""


def hash_of(photo: Path | bytes) -> int:
    """The hash that ingest computes."""
    return of_image(open_rgb(photo, preprocessing=Preprocessing()))


def changed(photo: Path, change: Change, quality: int) -> bytes:
    raw = io.BytesIO()
    with Image.open(photo) as opened:
        change(opened.convert("RGB")).save(raw, "JPEG", quality=quality)
    return raw.getvalue()


def shares(files: list[Path], changes: dict[str, tuple[Change, int]], digits: int = 0) -> dict[str, dict[str, str]]:
    """Percentage of confirmed copies, by the number of bits that may differ and by kind of change."""
    columns: dict[str, dict[str, str]] = {str(within): {} for within in WITHIN}
    for kind, (change, quality) in changes.items():
        apart = [phash_distance(hash_of(file), hash_of(changed(file, change, quality))) for file in files]
        for within, column in columns.items():
            near = sum(one is not None and one <= int(within) for one in apart)
            column[kind] = f"{PER_CENT * near / len(apart):.{digits}f}"
    return columns


def of_pairs(files: list[Path]) -> tuple[NDArray[np.int64], list[tuple[int, Path, Path]]]:
    """Number of pairs at each distance, and the nearest pairs."""
    known = [(file, text) for file in files if (text := phash_to_hex(hash_of(file)))]
    hashes = np.array([list(bytes.fromhex(text)) for _, text in known], np.uint8)
    counts, near = np.zeros(BITS + 1, np.int64), []
    for row in range(len(known) - 1):
        distances = hamming(hashes[row : row + 1], hashes[row + 1 :])[0]
        counts += np.bincount(distances, minlength=BITS + 1)
        near += [
            (int(distances[at]), known[row][0], known[row + 1 + at][0])
            for at in np.flatnonzero(distances <= MAX_COPY_DISTANCE)
        ]
    return counts, sorted(near)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=150, help="photos that are changed in every way")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    drawn = np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.copies]
    print("\n".join(table(shares([files[at] for at in drawn], CHANGES))), "\n")
    print("\n".join(table(shares(files, {kind: (change, 92) for kind, change in COLOURS.items()}, digits=1))), "\n")
    counts, near = of_pairs(files)
    columns = {str(within): {"pairs of different files": f"{counts[: within + 1].sum():,}"} for within in WITHIN}
    print("\n".join(table(columns)))
    print(f"\nof {counts.sum():,} pairs of {len(files):,} files of {arguments.data.name}")
    for distance, one, other in near:
        print(distance, one.relative_to(arguments.data), other.relative_to(arguments.data))


if __name__ == "__main__":
    main()
