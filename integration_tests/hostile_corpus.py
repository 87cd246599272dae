"""A folder of files that mean harm, and good ones of known colours among them.

    python -m integration_tests.hostile_corpus OUT

makes OUT/photos, OUT/outside (what links lead to, and nobody may read) and OUT/photos/photos.csv (a list of most).
Everything is drawn; the same seed gives the same files. What cannot be made on this system (device files need root, a
name may be rejected by the file system) is left out, and said.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from integration_tests import hostile_files as files

Fate = Literal["stored", "rejected", "either"]
GIANT = 10 * 1024**3
"""Bytes of a file that takes no room on the disk."""
PATH_MAX = 4096
"""Bytes of the longest path that Linux opens, with the NUL behind it."""
LEVELS = 1200
"""Folders in each other, deeper than Python recurses."""

GOOD_NAMES = (
    "new\nline.png", "tab\t.png", "carriage\rreturn.png", "bell\a.png", "delete\x7f.png", "clear\x1b[2J\x1b[1;31m.png",
    "title\x1b]0;owned\a.png", "c1\x9b2J.png", "right-to-left\u202egnp.png", "zero\u200bwidth.png", "bom\ufeff.png",
    "line\u2028separator.png", "bird\U0001f426.png", "cafe\u0301.png", "caf\u00e9.png", "\u732b.png", "\U000e0041.png",
    "-rf.png", "--help.png", "$(touch owned).png", "`touch owned`.png", "; touch owned #.png", "| cat.png",
    "%s%n%x.png", "{0.__class__}.png", "[bold red]rich.png", "'; DROP TABLE photos; --.png",
    "\" or id != \"\" or path == \".png", "' or 1 == 1 or '.png", "<img src=x onerror=alert(1)>.png", "&lt;b&gt;.png",
    "\"}], \"stored\": 9, [{\".png",
    "=cmd|' !A0.png", "NUL.png", "CON.jpg.png", " .png", "space .png", "a,b;c.png", "~.png", "*?.png", "a%00b.png",
    "a\u2400b.png", "UPPER.PNG", "x" * 251 + ".png", "\u732b" * 83 + ".png",
)  # fmt: skip
"""Of good pictures: whatever a name says, it is a name."""
BAD_PATHS = (
    b"names/latin-caf\xe9.png", b"names/\xff\xfe.png", b"names/overlong\xc0\xaf.png", b"names/cut\xe7\x8c.png",
    b"names/surrogate\xed\xa0\x80.png", b"folder-\xff/photo.png", b"a\\..\\..\\windows.png", b"\\root.png",
    b"C:drive.png", b"c:\\windows\\win.png",
)  # fmt: skip
"""Of good pictures too: no UTF-8, or a path that leads away on another system."""


@dataclass
class Corpus:
    """What was made."""

    root: Path
    outside: Path
    fates: dict[str, Fate] = field(default_factory=dict)
    """Path below ``root`` -> what becomes of it; only what bears the name of a photo."""
    colours: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of those that are stored: all pixels."""
    left_out: list[str] = field(default_factory=list)
    """What could not be made here."""

    @property
    def photos(self) -> Path:
        return self.root / "photos"

    def add(self, path: str, raw: bytes, fate: Fate, colour: tuple[int, ...] | None = None) -> None:
        """Write a file; without a colour, one that is stored has the colour that Pillow sees in it."""
        place = self.photos / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(raw)
        self.fates[path] = fate
        if fate == "stored":
            self.colours[path] = colour or seen(raw)

    def expect(self, path: str, fate: Fate) -> Path:
        """The place of something that is made otherwise than by `add`."""
        place = self.photos / path
        place.parent.mkdir(parents=True, exist_ok=True)
        self.fates[path] = fate
        return place


def seen(raw: bytes) -> tuple[int, ...]:
    """Colour of every pixel."""
    with Image.open(io.BytesIO(raw)) as image:
        (colour,) = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    return tuple(int(value) for value in colour)


def solids(seed: int) -> Iterator[Image.Image]:
    """Pictures of one colour, each another."""
    draw = np.random.default_rng(seed)
    while True:
        yield Image.new("RGB", (40, 40), tuple(int(value) for value in draw.integers(0, 256, 3)))


def make(root: Path, seed: int = 0) -> Corpus:
    """Fill a folder that is not there yet, or is empty."""
    corpus = Corpus(root, root / "outside")
    corpus.photos.mkdir(parents=True)
    colours = solids(seed)
    with warnings.catch_warnings(action="ignore"):  # Pillow has something to say of such files
        add_codecs(corpus, colours, seed)
    for name in GOOD_NAMES:
        corpus.add(f"names/{name}", files.encoded(next(colours), "PNG"), "stored")
    for path in BAD_PATHS:
        corpus.add(os.fsdecode(path), files.encoded(next(colours), "PNG"), "rejected")
    corpus.add("names/no\x1b]0;owned\a\nphoto\u202e.png", b"no photo", "rejected")
    add_links(corpus, files.encoded(next(colours), "PNG"), files.encoded(next(colours), "PNG"))
    add_specials(corpus, files.encoded(next(colours), "PNG"))
    add_deep(corpus, files.encoded(next(colours), "PNG"))
    write_list(corpus.photos / "photos.csv", corpus.fates)
    return corpus


def add_codecs(corpus: Corpus, colours: Iterator[Image.Image], seed: int) -> None:
    """What only a decoder can tell from a photo."""
    for name, raw in files.whole(next(colours)).items():
        grey = None
        if name == "grey16.png":  # Pillow's own way to RGB is another
            grey = (int(np.asarray(Image.open(io.BytesIO(raw)))[0, 0]) // 257,) * 3
        corpus.add(f"good/{name}", raw, "stored", grey)
    for name, raw in files.damaged(files.whole(files.drawn(seed)), seed):
        corpus.add(f"damaged/{name}", raw, "either")
    for name, raw in files.with_odd_exif(next(colours)):
        corpus.add(f"blocks/{name}", raw, "stored")
    held = True
    for name, raw in files.disguised(next(colours)).items():
        held = held and name != "postscript.jpg"
        corpus.add(f"disguised/{name}", raw, "stored" if held else "rejected")
    for folder, made in (("bombs", files.bombs()), ("loops", files.loops()), ("slow", files.slow())):
        for name, raw in made.items():
            corpus.add(f"{folder}/{name}", raw, "rejected" if folder == "slow" else "either")


def add_links(corpus: Corpus, picture: bytes, secret: bytes) -> None:
    """Links that lead out, nowhere, to themselves and round in circles."""
    corpus.outside.mkdir()
    (corpus.outside / "secret.png").write_bytes(secret)
    (corpus.outside / "folder").mkdir()
    (corpus.outside / "folder" / "secret.png").write_bytes(secret)
    targets: dict[str, str | Path] = {
        "secret.png": corpus.outside / "secret.png", "climbing.png": "../../outside/secret.png",
        "passwd.jpg": "/etc/passwd", "zero.jpg": "/dev/zero", "memory.jpg": "/proc/self/mem", "tty.jpg": "/dev/tty",
        "itself.png": "itself.png", "tick.png": "tock.png", "tock.png": "tick.png", "dangling.png": "nothing.png",
        "dangling-outside.png": "/nonexistent/nothing.png", "long.png": "x/" * 1000 + "x",
    }  # fmt: skip
    for name, target in targets.items():
        corpus.expect(f"links/{name}", "rejected").symlink_to(target)
    corpus.add("links/real.png", picture, "stored")
    for name, target in {"inside.png": "real.png", "twice.png": "inside.png", "above.png": "../links/real.png"}.items():
        corpus.expect(f"links/{name}", "stored").symlink_to(target)
        corpus.colours[f"links/{name}"] = seen(picture)
    os.link(corpus.photos / "links" / "real.png", corpus.expect("links/hard.png", "stored"))
    corpus.colours["links/hard.png"] = seen(picture)
    folders: dict[str, str | Path] = {
        "loop": ".",
        "up": "..",
        "everything.png": "/",
        "outside": corpus.outside / "folder",
        "a": "b",
        "b": "a",
    }
    for name, target in folders.items():  # links to folders are not followed, whatever they are called
        (corpus.photos / "links" / name).symlink_to(target)


def add_specials(corpus: Corpus, picture: bytes) -> None:
    """Files that are no files."""
    with open(corpus.expect("special/giant.png", "rejected"), "wb") as giant:
        giant.write(picture)
        giant.truncate(GIANT)
    os.mkfifo(corpus.expect("special/pipe.jpg", "rejected"))
    place = corpus.expect("special/socket.jpg", "rejected")
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(place.parent)  # the path of a socket has at most 108 bytes
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(place.name)
    finally:
        os.fchdir(here)
        os.close(here)
    try:
        os.mknod(corpus.photos / "special" / "zero.png", 0o600 | 0o020000, os.makedev(1, 5))
        corpus.fates["special/zero.png"] = "rejected"
    except OSError as error:
        corpus.left_out.append(f"a device file ({error.strerror})")
    for name in ("folder.jpg", "photo.png"):
        corpus.add(f"special/{name}/inside.png", picture, "stored")
    (corpus.photos / "special" / "empty.png").mkdir()
    closed = corpus.expect("special/closed.png", "rejected")
    closed.write_bytes(picture)
    closed.chmod(0)
    if os.geteuid() == 0:  # who may read everything
        corpus.fates["special/closed.png"] = "stored"
        corpus.colours["special/closed.png"] = seen(picture)
    corpus.add("special/changing.png", picture[:-4], "either")
    for name in (".hidden.png", "notes.txt", "photo.png.exe", "png"):  # no photos, so nobody looks at them
        (corpus.photos / "special" / name).write_bytes(picture)


def add_deep(corpus: Corpus, picture: bytes) -> None:
    """Folders in folders: more than Python recurses into, and longer paths than the system opens."""
    for part, levels in (("d", LEVELS), ("long" * 60, 30)):
        above = corpus.photos / "deep"
        above.mkdir(exist_ok=True)
        handle, path = os.open(above, os.O_RDONLY), "deep"
        for _ in range(levels):
            os.mkdir(part, dir_fd=handle)
            below = os.open(part, os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle, path = below, f"{path}/{part}"
            if len(os.fsencode(corpus.photos)) + len(path) + 1 >= PATH_MAX:
                corpus.fates.setdefault(path, "rejected")  # the folder itself: nobody can list it
                break
        else:
            with open(os.open("bottom.png", os.O_WRONLY | os.O_CREAT, dir_fd=handle), "wb") as file:
                file.write(picture)
            corpus.fates[f"{path}/bottom.png"] = "stored"
            corpus.colours[f"{path}/bottom.png"] = seen(picture)
        os.close(handle)


def write_list(file: Path, paths: Iterable[str]) -> list[str]:
    """A list of those files that a list can name, which are returned."""
    named = [path for path in paths if os.fsencode(path) not in BAD_PATHS]
    with open(file, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["path"], *([path] for path in named)])
    return named


def remove(root: Path) -> None:
    """Delete it all, folders too deep for `shutil.rmtree` included."""
    subprocess.run(["rm", "-rf", "--", str(root)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    corpus = make(given.out, given.seed)
    counts = {fate: list(corpus.fates.values()).count(fate) for fate in ("stored", "rejected", "either")}
    print(f"{len(corpus.fates)} files below {corpus.photos}: {counts}")
    for what in corpus.left_out:
        print(f"left out: {what}", file=sys.stderr)


if __name__ == "__main__":
    main()
