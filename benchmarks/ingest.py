"""How near `ingest` comes to what the machine allows, and to what one would write instead.

    python benchmarks/ingest.py --data CUB_100 --bundle BUNDLE --checkpoint RUN

All ways put the same photos into collections of one Milvus server (started for this, unless --uri names one), in turn,
`--repeats` times; figures are medians. Alone, each with all cores: e, ONNX Runtime on ready pixels, in batches as the
pipeline makes them; d, decoding and preparing; s, writing rows of the real schema. One machine that does all three
cannot be faster than 1 / (1/e + 1/d + 1/s). Beside it:

    by torch   the checkpoint in torch, torchvision's transforms in a DataLoader, one insert a batch
    plain      a loop with Pillow and ONNX Runtime, at the best of several batch sizes, inserts of 1,000 rows

With ``--enlarge 2000x1500 --photos 300`` the photos are as large as those of a camera.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))  # the server of the integration tests

from integration_tests.milvus_server import milvus_server
from milvus_fghash.core.codes import Codes, differing_bits, pack
from milvus_fghash.core.images import load
from milvus_fghash.datasets.dataset import Dataset
from milvus_fghash.datasets.read import detect, read
from milvus_fghash.encoding.decode_options import DEFAULT_WORKERS, DecodeOptions
from milvus_fghash.encoding.decode_stream import Photo, decode
from milvus_fghash.encoding.encoder import Encoder
from milvus_fghash.ingest.api import ingest
from milvus_fghash.milvus.collection import HashCollection
from milvus_fghash.milvus.connection import ConnectionConfig, connect
from milvus_fghash.milvus.rows import Rows, photo_id
from milvus_fghash.state.journal import Journal

BATCHES = (1, 4, 8, 32, 128)
"""Batch sizes that the plain loop tries, on so many photos:"""
TRIED = 500
ROWS = 1000


@dataclass
class Bench:
    """The photos, the model and the server."""

    encoder: Encoder
    dataset: Dataset
    client: Any
    folder: Path
    checkpoint: Path | None
    usual_session: InferenceSession
    """As ONNX Runtime opens it by default."""
    codes: dict[str, Codes] = field(default_factory=dict)
    """Way -> codes of all photos, in the order of the dataset."""

    def __len__(self) -> int:
        return len(self.dataset)

    def collection(self) -> HashCollection:
        """A new one."""
        return HashCollection.create(self.client, f"bench_{uuid.uuid4().hex[:8]}", self.encoder.bundle.manifest)

    def keep(self, way: str, collection: HashCollection) -> None:
        """Remember the codes, and drop the collection."""
        rows = Rows.concatenate(list(collection.scan()), self.encoder.dim // 8)
        code_of = dict(zip(rows.ids, rows.codes, strict=True))
        self.codes[way] = np.stack([code_of[photo_id("", path)] for path in self.dataset.paths])
        HashCollection.drop(self.client, collection.name)

    def row(self, number: int, code: NDArray[np.uint8], sha: str) -> dict[str, Any]:
        """As `HashCollection.upsert` writes it."""
        path, label = self.dataset.paths[number], self.dataset.labels[number]
        split = {"split": self.dataset.splits[number]} if self.dataset.splits[number] else {}
        key = photo_id("", path)
        row = {"id": key, "code": code.tobytes(), "path": path, "label": label, "content_sha": sha, "meta": split}
        return {**row, "phash": 0}


def ours(bench: Bench) -> float:
    collection = bench.collection()
    with closing(Journal.open(bench.folder / collection.name, collection.uid)) as journal:
        started = time.perf_counter()
        ingest(bench.encoder, bench.dataset, collection, journal=journal)
        seconds = time.perf_counter() - started
    bench.keep("ours", collection)
    return seconds


def by_torch(bench: Bench) -> float:
    import torch
    from torch.utils.data import DataLoader, Dataset

    from milvus_fghash.training.checkpoint import load_checkpoint

    transforms: Any = import_module("torchvision.transforms")
    assert bench.checkpoint is not None
    method = load_checkpoint(bench.checkpoint).method
    prepared = bench.encoder.bundle.manifest.preprocessing
    steps = [transforms.Resize(prepared.resize), transforms.CenterCrop(prepared.size), transforms.ToTensor()]
    steps.append(transforms.Normalize(method.backbone.mean, method.backbone.std))
    transform = transforms.Compose(steps)

    class Photos(Dataset[Any]):
        def __len__(self) -> int:
            return len(bench)

        def __getitem__(self, number: int) -> Any:
            raw = bench.dataset.file(number).read_bytes()
            with Image.open(bench.dataset.file(number)) as image:
                return transform(image.convert("RGB")), number, hashlib.sha256(raw).hexdigest()

    collection = bench.collection()
    started = time.perf_counter()
    with torch.inference_mode():
        for images, numbers, shas in DataLoader(Photos(), batch_size=32, num_workers=os.cpu_count() or 1):
            codes = pack(method(images).numpy())
            rows = [bench.row(int(n), code, sha) for n, code, sha in zip(numbers, codes, shas, strict=True)]
            bench.client.insert(collection.name, rows)
    seconds = time.perf_counter() - started
    bench.keep("by torch", collection)
    return seconds


def plain(bench: Bench, batch: int) -> float:
    collection = bench.collection()
    preprocessing = bench.encoder.bundle.manifest.preprocessing.model_copy(update={"scale": "whole"})
    session = bench.usual_session
    waiting: list[dict[str, Any]] = []
    started = time.perf_counter()
    for first in range(0, len(bench), batch):
        numbers = range(first, min(first + batch, len(bench)))
        raws = [bench.dataset.file(number).read_bytes() for number in numbers]
        pixels = np.stack([load(raw, preprocessing) for raw in raws])
        codes: Any = session.run(["codes"], {"images": pixels})[0]
        for number, code, raw in zip(numbers, codes, raws, strict=True):
            waiting.append(bench.row(number, code, hashlib.sha256(raw).hexdigest()))
        if len(waiting) >= ROWS:
            bench.client.insert(collection.name, waiting)
            waiting = []
    if waiting:
        bench.client.insert(collection.name, waiting)
    seconds = time.perf_counter() - started
    bench.keep(f"plain, {batch} at once", collection)
    return seconds


def encoding_alone(bench: Bench, pixels: NDArray[np.uint8]) -> float:
    """Seconds for as many photos as the dataset has, in the pipeline's batches."""
    size = bench.encoder.batch_size
    ready = [Photo(row, one, "") for row, one in enumerate(pixels)]
    groups = [ready[start : start + size] for start in range(0, len(ready), size)]
    started = time.perf_counter()
    for _ in bench.encoder.encode_batches(itertools.islice(itertools.cycle(groups), -(-len(bench) // size))):
        pass
    return time.perf_counter() - started


def decoding_alone(bench: Bench) -> float:
    files = (bench.dataset.file(number) for number in range(len(bench)))
    preprocessing = bench.encoder.bundle.manifest.preprocessing
    started = time.perf_counter()
    with closing(decode(files, preprocessing, DecodeOptions())) as decoded:
        assert all(isinstance(one, Photo) for one in decoded)
    return time.perf_counter() - started


def writing_alone(bench: Bench, codes: Codes) -> float:
    collection = bench.collection()
    dataset, seconds = bench.dataset, 0.0
    for first in range(0, len(bench), ROWS):
        numbers = range(first, min(first + ROWS, len(bench)))
        rows = Rows(
            ids=tuple(photo_id("", dataset.paths[number]) for number in numbers),
            codes=codes[numbers.start : numbers.stop],
            paths=dataset.paths[numbers.start : numbers.stop],
            labels=dataset.labels[numbers.start : numbers.stop],
            content_shas=("0" * 64,) * len(numbers),
            metas=tuple({"split": dataset.splits[number]} for number in numbers),
        )
        started = time.perf_counter()
        collection.upsert(rows)
        seconds += time.perf_counter() - started
    HashCollection.drop(bench.client, collection.name)
    return seconds


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, help="Training that the bundle comes from; none: no row by torch.")
    parser.add_argument("--out", type=Path, required=True, help="Folder for the journals.")
    parser.add_argument("--photos", type=int, default=0, help="Number of photos, spread over the dataset; 0: all.")
    parser.add_argument("--enlarge", help="Width and height, such as 2000x1500, of JPEGs to make of them before.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--uri", help="A server that may be written to; by default one is started.")
    arguments = parser.parse_args()
    dataset = read(detect(arguments.data), arguments.data)
    if 0 < arguments.photos < len(dataset):
        dataset = dataset.take(np.linspace(0, len(dataset) - 1, arguments.photos).astype(np.int64))
    encoder = Encoder.open(arguments.bundle, for_many=True)
    with (
        TemporaryDirectory() as scratch,
        nullcontext(arguments.uri) if arguments.uri else milvus_server() as uri,
        closing(connect(ConnectionConfig(uri))) as client,
    ):
        if arguments.enlarge:
            dataset = enlarged(dataset, arguments.enlarge, Path(scratch))
        usual = InferenceSession(encoder.bundle.graph())
        bench = Bench(encoder, dataset, client, arguments.out, arguments.checkpoint, usual)
        report(bench, arguments.repeats)


def enlarged(dataset: Dataset, size: str, folder: Path) -> Dataset:
    """Copies as JPEG, as a camera would give them."""
    width, height = map(int, size.split("x"))
    paths = tuple(f"{number}.jpg" for number in range(len(dataset)))
    for number, path in enumerate(paths):
        with Image.open(dataset.file(number)) as image:
            large = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        large.save(folder / path, quality=90)
    return replace(dataset, root=folder, ids=paths, paths=paths)


def report(bench: Bench, repeats: int) -> None:
    preprocessing = bench.encoder.bundle.manifest.preprocessing
    pixels = np.stack([load(bench.dataset.file(number), preprocessing) for number in range(min(256, len(bench)))])
    some = replace(bench, dataset=bench.dataset.take(range(min(TRIED, len(bench)))))
    batch = min(BATCHES, key=lambda size: plain(some, size))
    ways: dict[str, Callable[[], float]] = {"ours": lambda: ours(bench)}
    ways[f"plain, {batch} at once"] = lambda: plain(bench, batch)
    if bench.checkpoint:
        ways["by torch"] = lambda: by_torch(bench)
    ways["e"] = lambda: encoding_alone(bench, pixels)
    ways["d"] = lambda: decoding_alone(bench)
    ways["s"] = lambda: writing_alone(bench, bench.codes["ours"])
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            seconds[way].append(run())
    rate = {way: len(bench) / statistics.median(times) for way, times in seconds.items()}
    rate["bound"] = 1 / sum(1 / rate[stage] for stage in "eds")
    rows = []
    for way in ("e", "d", "s", "bound", *(way for way in ways if way not in "eds")):
        runs = ", ".join(f"{len(bench) / one:.0f}" for one in seconds.get(way, []))
        share = "–"
        if way in bench.codes:
            share = f"{differing_bits(bench.codes[way], bench.codes['ours']).mean() / bench.encoder.bits:.4%}"
        rows.append((way, f"{rate[way]:.0f}", runs or "–", f"{rate['ours'] / rate[way]:.2f}", share))
    encoder = bench.encoder
    print(
        f"{len(bench):,} photos, {os.cpu_count()} cores, {DEFAULT_WORKERS} decoders, batches of {encoder.batch_size}, "
        f"{encoder.streams} side by side\n"
    )
    print(table(("", "photos/s, median", "runs", "ours / this", "bits that differ from ours"), rows))


if __name__ == "__main__":
    main()
