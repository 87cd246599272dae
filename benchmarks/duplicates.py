"""Which planted copies `dedupe` finds, by kind of change and largest distance.

    python benchmarks/duplicates.py --data PHOTOS --bundle BUNDLE

Draws `--photos` of the photos below PHOTOS. Every other one gets a changed copy; the kinds of change alternate. All are
ingested into a Milvus Lite file, and `dedupe` runs at each distance. Prints a Markdown table:

    a kind      recall: percentage of the copies of this kind that are in one group with their original
    precision   percentage of the pairs within groups that come from the same photo; all pairs of a group count, so
                wrongly joining two large groups costs much
    groups      near groups with rows of one photo only / all near groups
    confirmed   recall and precision of what `--delete near` would delete (copies that a perceptual hash confirms), and
                the number of rows that would be deleted wrongly

`--confirm-within` is the number of bits in which the perceptual hashes of a pair may differ.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from milvus_fghash.core.perceptual_hash import MAX_COPY_DISTANCE
from milvus_fghash.datasets.read import read
from milvus_fghash.dedupe.near_search import default_distance, find_duplicates
from milvus_fghash.dedupe.report import Duplicates, Group, Member, copies
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.api import ingest
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect

Change = Callable[[Image.Image], Image.Image]


def resized(share: float) -> Change:
    return lambda photo: photo.resize((max(1, round(photo.width * share)), max(1, round(photo.height * share))))


def cropped(share: float) -> Change:
    """Removes ``share`` of the width and of the height, half of it on each side."""

    def change(photo: Image.Image) -> Image.Image:
        x, y = round(photo.width * share / 2), round(photo.height * share / 2)
        return photo.crop((x, y, photo.width - x, photo.height - y))

    return change


CHANGES: dict[str, tuple[Change, int]] = {
    "JPEG quality 90": (lambda photo: photo, 90),
    "JPEG quality 60": (lambda photo: photo, 60),
    "JPEG quality 30": (lambda photo: photo, 30),
    "half the size": (resized(0.5), 92),
    "a quarter of the size": (resized(0.25), 92),
    "cropped by 5 %": (cropped(0.05), 92),
    "cropped by 10 %": (cropped(0.1), 92),
    "cropped by 20 %": (cropped(0.2), 92),
    "brighter by 20 %": (lambda photo: ImageEnhance.Brightness(photo).enhance(1.2), 92),
    "contrast up by 30 %": (lambda photo: ImageEnhance.Contrast(photo).enhance(1.3), 92),
    "grey": (lambda photo: ImageOps.grayscale(photo).convert("RGB"), 92),
    "mirrored": (ImageOps.mirror, 92),
}
"""Kind -> change of the photo, and JPEG quality of the copy."""
COPY = "equal file"
PER_CENT = 100


def plant(photos: list[Path], folder: Path) -> dict[str, tuple[str, int]]:
    """Write originals and copies; path -> (kind of change, "" for an original; number of the photo)."""
    kinds = [COPY, *CHANGES]
    planted = {}
    for number, source in enumerate(photos):
        name = f"{number:04}.jpg"
        shutil.copy(source, folder / name)
        planted[name] = ("", number)
        if number % 2 == 0:
            kind = kinds[number // 2 % len(kinds)]
            name = f"{number:04}_copy.jpg"
            if kind == COPY:
                shutil.copy(source, folder / name)
            else:
                change, quality = CHANGES[kind]
                with Image.open(source) as opened:
                    change(opened.convert("RGB")).save(folder / name, quality=quality)
            planted[name] = (kind, number)
    return planted


def share(part: int, whole: int) -> str:
    return f"{PER_CENT * part / whole:.0f}" if whole else "-"


def measure(found: Duplicates, planted: dict[str, tuple[str, int]]) -> dict[str, str]:
    """One column of the table."""
    pairs = {
        pair for group in found.groups for pair in combinations(sorted(one.path for one in group.members), 2)
    }  # exact groups lie within near ones, so pairs repeat
    true = {pair for pair in pairs if planted[pair[0]][1] == planted[pair[1]][1]}
    near = [group for group in found.groups if group.kind == "near"]
    pure = sum(len({planted[one.path][1] for one in group.members}) == 1 for group in near)
    column = {}
    for wanted in (COPY, *CHANGES):
        copies = [path for path, (kind, _number) in planted.items() if kind == wanted]
        joined = sum((path.replace("_copy", ""), path) in true for path in copies)
        column[wanted] = share(joined, len(copies))
    n_copies = sum(bool(kind) for kind, _number in planted.values())
    column["all copies"] = share(len(true), n_copies)
    column["precision"] = share(len(true), len(pairs))
    column["groups"] = f"{pure} / {len(near)}"
    taken = {(one, stays.path) for group in found.groups for one, stays in _confirmed(group, found.confirmed_within)}
    right = sum(planted[one][1] == planted[stays][1] for one, stays in taken)
    column["confirmed copies"] = share(right, n_copies)
    column["confirmed precision"] = f"{share(right, len(taken))} ({len(taken) - right} wrong)"
    column["largest group"] = str(max((len(group.members) for group in found.groups), default=0))
    return column


def _confirmed(group: Group, within: int) -> Iterator[tuple[str, Member]]:
    """Path of each confirmed copy, and the row that is kept."""
    path_of = {one.id: one.path for one in group.members}
    yield from ((path_of[key], stays) for key, stays in copies(group.members, within).items())


def table(columns: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "| | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for row in next(iter(columns.values())):
        yield f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=520)
    parser.add_argument("--largest", type=int, help="largest distance; default: one bit in eight")
    parser.add_argument("--step", type=int, default=1, help="between two distances of the table")
    parser.add_argument("--confirm-within", type=int, default=MAX_COPY_DISTANCE, help="bits of 64")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    drawn = np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.photos]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        planted = plant([files[number] for number in drawn], folder)
        encoder = Encoder.open(arguments.bundle)
        manifest = encoder.bundle.manifest
        with closing(connect(ConnectionConfig(f"{temporary}/d.db"))) as client:
            collection = HashCollection.create(client, "photos", manifest)
            result = ingest(encoder, read("folder", folder), collection)
            assert result.stored == len(planted)
            largest = manifest.bits // 8 if arguments.largest is None else arguments.largest
            distances = range(0, largest + 1, arguments.step)
            columns = {
                str(within): measure(
                    find_duplicates(collection, within, confirm_within=arguments.confirm_within), planted
                )
                for within in distances
            }
    print(f"\n{manifest.method}, {manifest.bits} bits; {len(drawn)} photos of {arguments.data.name}, ", end="")
    print(f"{len(planted) - len(drawn)} changed copies; dedupe's own distance is {default_distance(manifest.bits)}\n")
    print("\n".join(table(columns)))


if __name__ == "__main__":
    main()
