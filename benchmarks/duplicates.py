"""Which planted copies `dedupe` finds by perceptual hashes, and which by codes of several methods.

    python benchmarks/duplicates.py --data PHOTOS --bundle BUNDLE [BUNDLE ...]

Draws `--photos` of the photos below PHOTOS. Every other one gets a changed copy; the kinds of change alternate. All are
ingested into a Milvus Lite file. Prints a Markdown table with a column for each distance of perceptual hashes, and for
three distances of the codes of each bundle: `default_distance`, an eighth and a sixth of the bits. The columns of codes
are those of a collection without perceptual hashes.

    a kind      recall: percentage of the copies of this kind that are in one group with their original
    precision   percentage of the pairs within groups that come from the same photo; all pairs of a group count, so
                wrongly joining two large groups costs much
    groups      near groups with rows of one photo only / all near groups
    confirmed   recall and precision of what `--delete near` would delete (copies that a perceptual hash within
                `MAX_COPY_DISTANCE` confirms), and the number of rows that would be deleted wrongly
    seconds     that `dedupe` takes
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from milvus_fghash.core.perceptual_hash import phash_to_hex
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


def lettered(photo: Image.Image) -> Image.Image:
    """A line of white letters on a black bar, a third of the width and a fourteenth of the height, in the corner."""
    photo, width, height = photo.copy(), photo.width, photo.height
    pen = ImageDraw.Draw(photo)
    pen.rectangle((width - width // 3, height - height // 14, width, height), fill="black")
    pen.text((width - width // 3 + 2, height - height // 14), "(c) 2026 example.com", fill="white")
    return photo


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
    "brighter by 50 %": (lambda photo: ImageEnhance.Brightness(photo).enhance(1.5), 92),
    "contrast up by 30 %": (lambda photo: ImageEnhance.Contrast(photo).enhance(1.3), 92),
    "small text": (lettered, 92),
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


def measure(found: Duplicates, planted: dict[str, tuple[str, int]], phashes: dict[str, str]) -> dict[str, str]:
    """One column of the table; ``phashes``: path -> perceptual hash, where the collection has none."""
    pairs = {
        pair for group in found.groups for pair in combinations(sorted(one.path for one in group.members), 2)
    }  # exact groups lie within near ones, so pairs repeat
    true = {pair for pair in pairs if planted[pair[0]][1] == planted[pair[1]][1]}
    near = [group for group in found.groups if group.kind == "near"]
    pure = sum(len({planted[one.path][1] for one in group.members}) == 1 for group in near)
    column = {}
    for wanted in (COPY, *CHANGES):
        copied = [path for path, (kind, _number) in planted.items() if kind == wanted]
        joined = sum((path.replace("_copy", ""), path) in true for path in copied)
        column[wanted] = share(joined, len(copied))
    n_copies = sum(bool(kind) for kind, _number in planted.values())
    column["all copies"] = share(len(true), n_copies)
    column["precision"] = share(len(true), len(pairs))
    column["groups"] = f"{pure} / {len(near)}"
    taken = {(one, stays.path) for group in found.groups for one, stays in _confirmed(group, phashes)}
    right = sum(planted[one][1] == planted[stays][1] for one, stays in taken)
    column["confirmed copies"] = share(right, n_copies)
    column["confirmed precision"] = f"{share(right, len(taken))} ({len(taken) - right} wrong)"
    column["largest group"] = str(max((len(group.members) for group in found.groups), default=0))
    return column


def _confirmed(group: Group, phashes: dict[str, str]) -> Iterator[tuple[str, Member]]:
    """Path of each confirmed copy, and the row that is kept."""
    members = [one.model_copy(update={"phash": phashes[one.path]}) for one in group.members]
    path_of = {one.id: one.path for one in members}
    yield from ((path_of[key], stays) for key, stays in copies(members).items())


def table(columns: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "| | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for row in next(iter(columns.values())):
        yield f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, nargs="+", required=True)
    parser.add_argument("--photos", type=int, default=520)
    parser.add_argument("--hash-distances", type=int, nargs="+", default=[3, 4, 6, 8], help="bits of 64")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    drawn = np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.photos]
    columns: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "photos"
        folder.mkdir()
        planted = plant([files[number] for number in drawn], folder)
        phashes: dict[str, str] = {}

        def add_column(
            name: str, collection: HashCollection, *, max_distance: int | None = None, confirm_within: int | None = None
        ) -> None:
            started = time.perf_counter()
            found = find_duplicates(collection, max_distance, confirm_within=confirm_within)
            seconds = time.perf_counter() - started
            columns[name] = {**measure(found, planted, phashes), "seconds": f"{seconds:.1f}"}

        with closing(connect(ConnectionConfig(f"{temporary}/d.db"))) as client:
            for number, path in enumerate(arguments.bundle):
                encoder = Encoder.open(path)
                manifest = encoder.bundle.manifest
                hashed = HashCollection.create(client, f"hashed_{number}", manifest)
                assert ingest(encoder, read("folder", folder), hashed).stored == len(planted)
                by_code = HashCollection.create(client, f"codes_{number}", manifest, phash=False)
                for rows in hashed.scan():
                    phashes |= dict(zip(rows.paths, map(phash_to_hex, rows.phashes), strict=True))
                    by_code.upsert(replace(rows, phashes=()))
                if number == 0:  # the hashes are the same with every bundle
                    for within in arguments.hash_distances:
                        add_column(f"hash {within}", hashed, confirm_within=within)
                for within in sorted({default_distance(manifest.bits), manifest.bits // 8, manifest.bits // 6}):
                    add_column(f"{manifest.method} {manifest.bits}: {within}", by_code, max_distance=within)
    print(f"\n{len(drawn)} photos of {arguments.data.name}, {len(planted) - len(drawn)} changed copies\n")
    print("\n".join(table(columns)))


if __name__ == "__main__":
    main()
