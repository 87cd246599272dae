"""Decoded photos per second, read from a local web server that delays each response.

    python benchmarks/remote.py [--photos 1500] [--wait 0.05] [--repeats 3] [--protocol s3]

Generated JPEG files of 500 x 375 pixels, read by one request after the other; by the workers of the pipeline, each of
which fetches `AHEAD` photos while it decodes; and from local files, for comparison. With `--protocol s3`, they are
objects of a bucket.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from milvus_fghash.core.images import Preprocessing
from milvus_fghash.datasets.sources.location import PhotoLocation, Source
from milvus_fghash.encoding.decode_options import DEFAULT_WORKERS, DecodeOptions
from milvus_fghash.encoding.decode_stream import AHEAD, Photo, decode

SERVER = """
import http.server, sys, time

class Slow(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        time.sleep(float(sys.argv[1]))
        super().do_GET()

with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""


def draw(folder: Path, count: int) -> list[Path]:
    generator = np.random.default_rng(0)
    files = []
    for number in range(count):
        pixels = generator.integers(0, 256, (375, 500, 3), np.uint8)
        raw = io.BytesIO()
        Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(2)).save(raw, "JPEG", quality=90)
        files.append(folder / f"{number}.jpg")
        files[-1].write_bytes(raw.getvalue())
    return files


def rate(sources: Sequence[Source], workers: int) -> float:
    """Photos per second over the second half, when all workers have started."""
    half = len(sources) // 2
    with closing(decode(sources, Preprocessing(), DecodeOptions(workers=workers))) as decoded:
        assert all(isinstance(one, Photo) for one in itertools.islice(decoded, half))
        start = time.monotonic()
        assert all(isinstance(one, Photo) for one in decoded)
    return (len(sources) - half) / (time.monotonic() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1500)
    parser.add_argument("--wait", type=float, default=0.05)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--protocol", choices=("http", "s3"), default="http")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bucket = Path(folder) / "photos"
        bucket.mkdir()
        files = list(itertools.islice(itertools.cycle(draw(bucket, 100)), arguments.photos))
        command = [sys.executable, "-c", SERVER, str(arguments.wait)]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}"
            base = f"{url}/photos"
            if arguments.protocol == "s3":
                os.environ.update(AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
                base = "s3://photos"
            locations = [PhotoLocation(f"{base}/{file.name}", file.name) for file in files]
            variants: dict[str, tuple[Sequence[Source], int]] = {"one after the other": (locations[:60], 0)}
            variants |= {f"{workers} workers": (locations, workers) for workers in (1, 2, 4, 8, 16)}
            variants[f"files, {DEFAULT_WORKERS} workers"] = (files, DEFAULT_WORKERS)
            rates: dict[str, list[float]] = {name: [] for name in variants}
            for _ in range(arguments.repeats):
                for name, (sources, workers) in variants.items():
                    rates[name].append(rate(sources, workers))
            server.terminate()
    print(f"{arguments.photos} photos, {arguments.wait * 1000:.0f} ms per response, {AHEAD} requests per worker")
    for name, measured in rates.items():
        print(f"{name:>22}: {statistics.median(measured):7.1f} photos/s  ({min(measured):.1f} to {max(measured):.1f})")


if __name__ == "__main__":
    main()
