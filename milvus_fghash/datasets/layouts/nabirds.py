"""NABirds in its official layout (Van Horn et al., CVPR 2015); https://dl.allaboutbirds.org/nabirds."""

from __future__ import annotations

from pathlib import Path

from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.layouts import cub


def read(root: Path) -> Dataset:
    """The files of CUB-200-2011, with UUIDs as ids -> dataset.

    ``classes.txt`` names all 1,011 nodes of a tree, ``hierarchy.txt`` gives the parent of each. Photos belong to the
    555 leaves; the tree is not needed, nor are ``bounding_boxes.txt``, ``sizes.txt`` and ``parts/``. A leaf may have
    the name of its parent, so two classes of one name are rejected if both have photos.

    Raises:
        DataError: as `cub.read`.
    """
    return cub.read(root)
