"""Folders above photos -> classes and splits: one rule for folders, archives and buckets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from milvus_fghash.datasets.selection import ClassLevel
from milvus_fghash.datasets.sources.location import Url
from milvus_fghash.errors import DataError

SPLITS = ("train", "test", "val", "valid", "validation")
"""Folder names that are splits, in any case."""

Folders = tuple[str, ...]
"""Names of the folders above a photo, from the top."""


@dataclass(frozen=True)
class Classes:
    """Classes and splits read from the folders of the photos.

    Attributes:
        labels, splits: (n,) "" for a photo without.
        source, warnings: as in `ReadReport`.
    """

    labels: tuple[str, ...]
    splits: tuple[str, ...]
    source: str
    warnings: tuple[str, ...] = ()


def read_classes(root: Path | Url, paths: Sequence[str], level: ClassLevel = "auto") -> Classes:
    """Class and split of each photo.

    Where all top folders are named as in `SPLITS`, they are the splits; so too below folders that all photos share. Of
    the folders below the splits, or of all without splits, ``level`` selects the class: "top", "leaf" (the innermost),
    or a number from 1 (the top). "auto" takes the innermost where all photos in folders lie equally deep, and otherwise
    the first level at which the folders differ. A photo without such a folder has the label "".

    Args:
        paths: POSIX paths, without ``.`` and empty components.

    Raises:
        DataError: when splits and other folders lie side by side, or no photo lies as deep as ``level``.
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
    """How many folders lie above the classes: the split and the shared ones above it; 0 without splits."""
    for level in range(min(map(len, folders), default=0)):
        names = {above[level] for above in folders}
        splits = {name for name in names if name.lower() in SPLITS}
        others = sorted(names - splits)
        if len(splits) > 1 and others:
            raise DataError(
                f"{root} holds the splits {', '.join(sorted(splits))} next to {', '.join(others[:3])}; expected either "
                "splits or class folders: move the others away, or exclude them"
            )
        if splits and not others and (level == 0 or any(len(above) > level + 1 for above in folders)):
            return level + 1
        if len(names) > 1:
            break
    return 0


def _labels(
    root: Path | Url, folders: dict[str, Folders], level: ClassLevel
) -> tuple[dict[str, str], str, tuple[str, ...]]:
    """Folder -> class; where the classes come from; warnings."""
    inner = {names for names in folders.values() if names}
    depths = {len(names) for names in inner}
    if not depths:
        return dict.fromkeys(folders, ""), "no photo lies in a class folder", ()
    deepest, least = max(depths), min(depths)
    warnings: list[str] = []
    if isinstance(level, int) and level > deepest:
        raise DataError(
            f"no photo in {root} lies {level} class folders deep, the deepest {deepest}; choose a smaller level",
            setting="class_level",
        )
    if level == "auto" and least < deepest:
        shared = next((at for at in range(least - 1) if len({names[at] for names in inner}) > 1), least - 1)
        level = shared + 1
        warnings.append(
            f"photos lie {least} to {deepest} folders deep, so folder {level} from the top is the class, and deeper "
            "ones are ignored; choose the class level if that is wrong"
        )
    if level in ("auto", "leaf"):
        labels = {key: names[-1] if names else "" for key, names in folders.items()}
        warnings += _repeated_leaf_names(inner) if level == "auto" else []
        innermost = (
            f"from the innermost folder, at level {deepest}" if least == deepest else "from the innermost folder"
        )
        return labels, "from the folder of each photo" if deepest == 1 else innermost, tuple(warnings)
    number = 1 if level == "top" else int(level)
    labels = {key: names[number - 1] if len(names) >= number else "" for key, names in folders.items()}
    if deepest == 1:
        return labels, "from the folder of each photo", ()
    return labels, "from the top folder" if number == 1 else f"from the folder at level {number}", tuple(warnings)


def _repeated_leaf_names(folders: Collection[Folders]) -> list[str]:
    """A warning where folders of the same name below several folders become one class."""
    parents: dict[str, set[Folders]] = {}
    for names in folders:
        parents.setdefault(names[-1], set()).add(names[:-1])
    several = sorted(name for name, above in parents.items() if len(above) > 1)
    if not several:
        return []
    first = sorted("/".join((*above, several[0])) for above in parents[several[0]])[:2]
    subject = "innermost folder shares its name" if len(several) == 1 else "innermost folders share their names"
    return [
        f"{len(several):,} {subject} "
        f"with other folders ({' and '.join(first)}): folders of one name are one class; choose the class level if "
        "that is wrong"
    ]
