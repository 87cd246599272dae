"""Folders above photos -> classes and splits: one rule for folders, archives and buckets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.datasets.selection import ClassLevel
from milvus_fghash.datasets.sources.location import Url
from milvus_fghash.errors import DataError

SPLITS = ("train", "test", "val", "valid", "validation")
"""Folders that are splits, whatever their capitals."""

Folders = tuple[str, ...]
"""Names of the folders above a photo, from the top."""


@dataclass(frozen=True)
class Classes:
    """What the folders say of the photos.

    Attributes:
        labels, splits: (n,) "" where there is none.
        source, warnings: as in `ReadReport`.
    """

    labels: tuple[str, ...]
    splits: tuple[str, ...]
    source: str
    warnings: tuple[str, ...] = ()


def read_classes(root: Path | Url, paths: Sequence[str], level: ClassLevel = "auto") -> Classes:
    """Class and split of each photo.

    Where all folders at the top are `SPLITS`, they are the splits; likewise below folders that all photos share. Of the
    folders below the splits, or of all where there are none, ``level`` says which is the class: "top", "leaf" (the one
    that the photo lies in), or a number from 1 (the top). "auto" takes the leaf where all photos in folders lie equally
    deep, and otherwise the first level at which their folders differ. A photo in no such folder has the label "".

    Args:
        paths: POSIX, without ``.`` and empty parts.

    Raises:
        DataError: when there are splits and other folders beside each other, or no photo lies as deep as ``level``.
    """
    parents = [path.rpartition("/")[0] for path in paths]
    folders: dict[str, Folders] = {parent: tuple(parent.split("/")) if parent else () for parent in set(parents)}
    above = _above_classes(root, {names for names in folders.values() if names})
    splits = {parent: names[above - 1].lower() if len(names) >= above > 0 else "" for parent, names in folders.items()}
    below = {parent: names[above:] for parent, names in folders.items()}
    labels, source, warnings = _labels(root, below, level)
    return Classes(
        tuple(labels[parent] for parent in parents), tuple(splits[parent] for parent in parents), source, warnings
    )


def _above_classes(root: Path | Url, folders: Collection[Folders]) -> int:
    """How many folders stand above the classes: the split and what is shared above it; 0 without splits."""
    for level in range(min(map(len, folders), default=0)):
        names = {above[level] for above in folders}
        splits = {name for name in names if name.lower() in SPLITS}
        others = sorted(names - splits)
        if len(splits) > 1 and others:
            raise DataError(
                f"{root} holds the splits {', '.join(sorted(splits))} and beside them {', '.join(others[:3])}; "
                "expected splits alone or class folders alone: move the others away, or exclude them"
            )
        if splits and not others and (level == 0 or any(len(above) > level + 1 for above in folders)):
            return level + 1
        if len(names) > 1:
            break
    return 0


def _labels(
    root: Path | Url, folders: dict[str, Folders], level: ClassLevel
) -> tuple[dict[str, str], str, tuple[str, ...]]:
    """Key -> class, where it is read from, and what is doubtful."""
    inner = {names for names in folders.values() if names}
    depths = {len(names) for names in inner}
    if not depths:
        return dict.fromkeys(folders, ""), "no photo lies in a class folder", ()
    deepest, least = max(depths), min(depths)
    warnings: list[str] = []
    if isinstance(level, int) and level > deepest:
        raise DataError(
            f"no photo in {root} lies {level} class folders deep, the deepest {deepest}; give a smaller level"
        )
    if level == "auto" and least < deepest:
        shared = next((at for at in range(least - 1) if len({names[at] for names in inner}) > 1), least - 1)
        level = shared + 1
        warnings.append(
            f"photos lie {least} to {deepest} folders deep, so the class is folder {level} from the top, and those "
            "below it say nothing; choose the class level where that is wrong"
        )
    if level in ("auto", "leaf"):
        labels = {key: names[-1] if names else "" for key, names in folders.items()}
        warnings += _doubts_of_leaves(inner) if level == "auto" else []
        innermost = (
            f"from the innermost folder, at level {deepest}" if least == deepest else "from the innermost folder"
        )
        return labels, "from the folder of each photo" if deepest == 1 else innermost, tuple(warnings)
    number = 1 if level == "top" else int(level)
    labels = {key: names[number - 1] if len(names) >= number else "" for key, names in folders.items()}
    if deepest == 1:
        return labels, "from the folder of each photo", ()
    return labels, "from the top folder" if number == 1 else f"from the folder at level {number}", tuple(warnings)


def _doubts_of_leaves(folders: Collection[Folders]) -> list[str]:
    """Leaves of one name below several folders become one class, which may be wrong."""
    parents: dict[str, set[Folders]] = {}
    for names in folders:
        parents.setdefault(names[-1], set()).add(names[:-1])
    several = sorted(name for name, above in parents.items() if len(above) > 1)
    if not several:
        return []
    first = sorted("/".join((*above, several[0])) for above in parents[several[0]])[:2]
    return [
        f"{len(several):,} innermost {'folder has a name' if len(several) == 1 else 'folders have names'} that other "
        f"folders have too ({' and '.join(first)}): their photos are one class; choose the class level where that is "
        "wrong"
    ]
