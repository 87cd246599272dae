"""A tiny copy of every layout that can be read, file for file as published, and the MATLAB files some of them need."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from milvus_fghash.datasets.read import read
from milvus_fghash.errors import DataError

Files = Mapping[str, str | bytes]


def plant(root: Path, files: Files, **changed: str | bytes) -> Path:
    """Write the files; ``changed`` names some by their stem, with other content."""
    assert set(changed) <= {Path(name).stem for name in files}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = changed.get(path.stem, content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def fault(layout: str, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(layout, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def mat(order: str = "<", **arrays: Sequence[float] | Sequence[str]) -> bytes:
    """A MATLAB file of version 5: numbers as a row of doubles, texts as a column of cells."""

    def element(kind: int, content: bytes) -> bytes:
        if 0 < len(content) <= 4:
            return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(kind: int, shape: tuple[int, int], name: str, content: bytes) -> bytes:
        flags, sizes = struct.pack(f"{order}II", kind, 0), struct.pack(f"{order}ii", *shape)
        return element(14, element(6, flags) + element(5, sizes) + element(1, name.encode()) + content)

    def text(value: str) -> bytes:
        encoded = value.encode("utf-16-le" if order == "<" else "utf-16-be")
        return matrix(4, (1, len(value)), "", element(17, encoded))

    parts = [b"MATLAB 5.0 MAT-file".ljust(124), struct.pack(f"{order}HH", 0x0100, 0x4D49)]
    for name, values in arrays.items():
        texts, numbers = [v for v in values if isinstance(v, str)], [v for v in values if not isinstance(v, str)]
        if texts:
            parts.append(matrix(1, (len(texts), 1), name, b"".join(map(text, texts))))
        else:
            parts.append(matrix(6, (1, len(numbers)), name, element(9, np.array(numbers, f"{order}f8").tobytes())))
    return b"".join(parts)


def pixels(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)


def batch(*photos: tuple[int, int]) -> bytes:
    """(class number, seed of the pixels) pairs -> a file of CIFAR-10: class, red plane, green plane, blue plane."""
    return b"".join(bytes([number]) + pixels(seed).transpose(2, 0, 1).tobytes() for number, seed in photos)


CUB: Files = {
    "images.txt": "1 001.Wren/a.jpg\n2 001.Wren/b c.jpg\n7 002.Jay/a.jpg\n",
    "image_class_labels.txt": "1 1\n2 1\n7 2\n",
    "classes.txt": "1 001.Wren\n2 002.Jay\n",
    "train_test_split.txt": "1 1\n2 0\n7 1\n",
    "bounding_boxes.txt": "1 60.0 27.0 325.0 304.0\n",
    "images/001.Wren/a.jpg": "",
    "images/001.Wren/b c.jpg": "",
    "images/002.Jay/a.jpg": "",
}
NABIRDS: Files = {
    "images.txt": (
        "0000139e-21dc-4d0c-bfe1-4cae3c85c829 0817/0000139e21dc4d0cbfe14cae3c85c829.jpg\n"
        "0000d9fc-4e02-4c06-a0af-a55cfb16b12b 0328/0000d9fc4e024c06a0afa55cfb16b12b.jpg\n"
    ),
    "image_class_labels.txt": "0000139e-21dc-4d0c-bfe1-4cae3c85c829 817\n0000d9fc-4e02-4c06-a0af-a55cfb16b12b 328\n",
    "classes.txt": "0 Birds\n69 Chickadees and Titmice\n181 Harlequin Duck\n328 Harlequin Duck (Male)\n"
    "587 Oak Titmouse\n817 Oak Titmouse\n",
    "train_test_split.txt": "0000139e-21dc-4d0c-bfe1-4cae3c85c829 0\n0000d9fc-4e02-4c06-a0af-a55cfb16b12b 1\n",
    "hierarchy.txt": "69 0\n181 0\n328 181\n587 69\n817 587\n",
    "sizes.txt": "0000139e-21dc-4d0c-bfe1-4cae3c85c829 296 341\n0000d9fc-4e02-4c06-a0af-a55cfb16b12b 640 481\n",
    "bounding_boxes.txt": "0000139e-21dc-4d0c-bfe1-4cae3c85c829 83 59 128 228\n",
    "images/0817/0000139e21dc4d0cbfe14cae3c85c829.jpg": "",
    "images/0328/0000d9fc4e024c06a0afa55cfb16b12b.jpg": "",
}
AIRCRAFT: Files = {
    "data/variants.txt": "707-320\nF/A-18\n",
    "data/images_variant_trainval.txt": "1025794 707-320\n0056978 F/A-18\n",
    "data/images_variant_train.txt": "1025794 707-320\n",
    "data/images_variant_val.txt": "0056978 F/A-18\n",
    "data/images_variant_test.txt": "1514522 707-320\n",
    "data/images_box.txt": "1025794 3 144 998 431\n",
    "data/images/1025794.jpg": "",
    "data/images/0056978.jpg": "",
    "data/images/1514522.jpg": "",
    "README.md": "",
}
VEGFRU: Files = {
    "vegfru_list/vegfru_train.txt": "veg200_images/mint/v_1.jpg 7\nfru92_images/plum-leaf_crab/f_1.jpg 200\n",
    "vegfru_list/vegfru_val.txt": "veg200_images/mint/v_2.jpg 7\n",
    "vegfru_list/vegfru_test.txt": "veg200_images/mint/v_3.jpg 7\n",
    "vegfru_list/supvegfru_train.txt": "veg200_images/mint/v_1.jpg 1\nfru92_images/plum-leaf_crab/f_1.jpg 15\n",
    "veg200_lists/veg_train.txt": "mint/v_1.jpg 7\n",
    "veg200_images/mint/v_1.jpg": "",
    "veg200_images/mint/v_2.jpg": "",
    "veg200_images/mint/v_3.jpg": "",
    "fru92_images/plum-leaf_crab/f_1.jpg": "",
}
FOOD: Files = {
    "meta/classes.txt": "pie\nsoup\n",
    "meta/labels.txt": "Pie\nSoup\n",
    "meta/train.txt": "pie/1\nsoup/2\n",
    "meta/test.txt": "pie/3\n",
    "images/pie/1.jpg": "",
    "images/soup/2.jpg": "",
    "images/pie/3.jpg": "",
}
DOGS: Files = {
    "train_list.mat": mat(
        file_list=["n01-pug/n01_5.jpg", "n02-corgi/n02_4.jpg"],
        annotation_list=["n01-pug/n01_5", "n02-corgi/n02_4"],
        labels=[1, 2],
    ),
    "test_list.mat": mat(file_list=["n01-pug/n01_3.jpg"], annotation_list=["n01-pug/n01_3"], labels=[1]),
    "file_list.mat": mat(file_list=["n01-pug/n01_3.jpg"], annotation_list=["n01-pug/n01_3"], labels=[1]),
    "Annotation/n01-pug/n01_5": "<annotation/>",
    "Images/n01-pug/n01_5.jpg": "",
    "Images/n01-pug/n01_3.jpg": "",
    "Images/n02-corgi/n02_4.jpg": "",
}
FLOWERS: Files = {
    "imagelabels.mat": mat(labels=[77, 77, 2, 102]),
    "setid.mat": mat(trnid=[3, 2], valid=[1], tstid=[4]),
    "jpg/image_00001.jpg": "",
    "jpg/image_00002.jpg": "",
    "jpg/image_00003.jpg": "",
    "jpg/image_00004.jpg": "",
}
CIFAR: Files = {
    "batches.meta.txt": "airplane\nautomobile\nbird\n\n",
    "data_batch_1.bin": batch((2, 10), (0, 11)),
    "data_batch_2.bin": batch((1, 20)),
    "data_batch_3.bin": batch((1, 30)),
    "data_batch_4.bin": batch((1, 40)),
    "data_batch_5.bin": batch((1, 50)),
    "test_batch.bin": batch((0, 60)),
    "readme.html": "",
}
NUS_WIDE: Files = {
    "ConceptsList/Concepts81.txt": "airport\nanimal\nsky\nwater\n",
    "ImageList/Imagelist.txt": "actor\\0001_2124.jpg\nactor\\0002_1749.jpg\nzoo\\0003_99.jpg\nzoo\\0004_5.jpg\n",
    "ImageList/TrainImagelist.txt": "zoo\\0003_99.jpg\nactor\\0001_2124.jpg\n",
    "ImageList/TestImagelist.txt": "actor\\0002_1749.jpg\nzoo\\0004_5.jpg\n",
    "Groundtruth/AllLabels/Labels_airport.txt": "0\n0\n0\n1\n",
    "Groundtruth/AllLabels/Labels_animal.txt": "1\n0\n1\n0\n",
    "Groundtruth/AllLabels/Labels_sky.txt": "1\n1\n0\n0\n",
    "Groundtruth/AllLabels/Labels_water.txt": "1\n0\n0\n0\n",
    "Groundtruth/TrainTestLabels/Labels_sky_Train.txt": "0\n1\n",
    "Groundtruth/TrainTestLabels/Labels_sky_Test.txt": "1\n0\n",
    "Flickr/actor/0001_2124.jpg": "",
    "Flickr/actor/0002_1749.jpg": "",
    "Flickr/zoo/0003_99.jpg": "",
    "Flickr/zoo/0004_5.jpg": "",
}
FOLDER: Files = {"train/n01440764/n01440764_18.JPEG": "", "val/n01440764/ILSVRC2012_val_00000293.JPEG": ""}

LAYOUTS = {
    "cub": CUB,
    "nabirds": NABIRDS,
    "aircraft": AIRCRAFT,
    "vegfru": VEGFRU,
    "food101": FOOD,
    "dogs": DOGS,
    "flowers102": FLOWERS,
    "cifar10": CIFAR,
    "nus-wide": NUS_WIDE,
    "folder": FOLDER,
}
"""Names of `DATASETS`."""
