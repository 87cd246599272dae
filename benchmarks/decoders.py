"""JPEG decoders compared: photos per second on one core, from the bytes of a file to the input of a network.

    python benchmarks/decoders.py --data photos

Every decoder is followed by the same resizing and cropping (`images.prepare`); "own resizing" rows use the library's
own. Candidates take turns over the same photos, all in memory; times are CPU times, the median of several rounds. The
pixels are compared with this project's. Libraries that are not installed are named and left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from milvus_fghash.core import images
from milvus_fghash.core.images import Preprocessing, load, prepare

Pixels = NDArray[np.uint8]
Decoder = Callable[[bytes], Pixels]
"""Bytes of a JPEG -> (size, size, 3) RGB."""


def ours(preprocessing: Preprocessing) -> dict[str, Decoder]:
    def whole(raw: bytes) -> Pixels:
        with mock.patch.object(images, "MARGIN", 1_000_000):
            return load(raw, preprocessing)

    return {"Pillow (ours)": partial(load, preprocessing=preprocessing), "Pillow, every pixel": whole}


def by_simplejpeg(preprocessing: Preprocessing) -> dict[str, Decoder]:
    library: Any = import_module("simplejpeg")

    def whole(raw: bytes) -> Pixels:
        return prepare(Image.fromarray(library.decode_jpeg(raw)), preprocessing)

    def reduced(raw: bytes) -> Pixels:
        enough = preprocessing.min_decoded_side
        height, width, *_ = library.decode_jpeg_header(raw)
        least = {"min_height": enough, "min_width": enough} if min(height, width) > enough else {}
        return prepare(Image.fromarray(library.decode_jpeg(raw, **least)), preprocessing)

    return {"simplejpeg, every pixel": whole, "simplejpeg, reduced scale": reduced}


def by_opencv(preprocessing: Preprocessing) -> dict[str, Decoder]:
    library: Any = import_module("cv2")
    library.setNumThreads(1)

    def pixels(raw: bytes, how: int) -> Any:
        return library.cvtColor(library.imdecode(np.frombuffer(raw, np.uint8), how), library.COLOR_BGR2RGB)

    def whole(raw: bytes) -> Pixels:
        return prepare(Image.fromarray(pixels(raw, library.IMREAD_COLOR)), preprocessing)

    def own(raw: bytes) -> Pixels:
        image = pixels(raw, library.IMREAD_COLOR)
        factor = preprocessing.resize / min(image.shape[:2])
        side = (int(image.shape[1] * factor), int(image.shape[0] * factor))
        return centre(library.resize(image, side, interpolation=library.INTER_AREA), preprocessing.size)

    return {"opencv, every pixel": whole, "opencv, own resizing": own}


def by_torchvision(preprocessing: Preprocessing) -> dict[str, Decoder]:
    torch, library = import_module("torch"), import_module("torchvision.io")
    functional = import_module("torchvision.transforms.v2.functional")
    torch.set_num_threads(1)

    def pixels(raw: bytes) -> Any:
        buffer = torch.from_numpy(np.frombuffer(raw, np.uint8).copy())
        return library.decode_image(buffer, mode=library.ImageReadMode.RGB)

    def whole(raw: bytes) -> Pixels:
        image = pixels(raw).permute(1, 2, 0).contiguous().numpy()
        return prepare(Image.fromarray(image), preprocessing)

    def own(raw: bytes) -> Pixels:
        image = functional.resize(pixels(raw), [preprocessing.resize], antialias=True)
        return centre(image.permute(1, 2, 0).numpy(), preprocessing.size)

    return {"torchvision, every pixel": whole, "torchvision, own resizing": own}


def centre(image: Any, size: int) -> Pixels:
    top, left = (round((side - size) / 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size], np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="Folder of photos, searched for *.jpg.")
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5, help="Rounds over all photos.")
    parser.add_argument("--enlarge", metavar="WIDTHxHEIGHT", help="Enlarge the photos to this size first.")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    preprocessing = Preprocessing()
    decoders = ours(preprocessing)
    for name, candidates in (("simplejpeg", by_simplejpeg), ("cv2", by_opencv), ("torchvision", by_torchvision)):
        try:
            decoders |= candidates(preprocessing)
        except ImportError as error:
            print(f"{name} is left out: {error}")

    photos = sorted(arguments.data.rglob("*.jpg"))
    chosen = np.random.default_rng(0).permutation(len(photos))[: arguments.photos]
    files = [photos[row].read_bytes() for row in chosen]
    if arguments.enlarge:
        width, height = (int(side) for side in arguments.enlarge.split("x"))
        jpeg = import_module("reduced_scale").jpeg
        files = [jpeg(images.open_rgb(raw).resize((width, height), Image.Resampling.LANCZOS)) for raw in files]

    views = {name: [decode(raw) for raw in files] for name, decode in decoders.items()}
    reference = next(iter(views.values()))
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(arguments.repeats):
        for name, decode in decoders.items():
            started = time.process_time()
            for raw in files:
                decode(raw)
            seconds[name].append(time.process_time() - started)
    print("| decoder | photos per second | mean difference of pixels |")
    print("|---|---|---|")
    for name, runs in seconds.items():
        differ = np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(views[name], reference, strict=True)])
        print(f"| {name} | {len(files) / statistics.median(runs):.0f} | {differ:.2f} |")


if __name__ == "__main__":
    main()
