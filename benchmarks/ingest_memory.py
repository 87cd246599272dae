"""Whether the memory of `ingest` grows with the number of photos.

    python benchmarks/ingest_memory.py --bundle BUNDLE --photos 2000,20000

Draws that many small pictures, runs `milvus-fghash ingest` on them in a process of its own, into Milvus Lite and into a
Milvus server, and prints the peak of that process' own memory: its decoders have a cap, and Milvus Lite is another
process. Twice, for the second run reads the journal only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))  # the server of the integration tests

from integration_tests.milvus_server import milvus_server


def draw(folder: Path, count: int) -> Path:
    """Pictures of 64 x 64 pixels in classes of a hundred."""
    for number in range(count):
        file = folder / f"class {number // 100:04}" / f"{number:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, number % 17)).save(file)
    return folder


def peak(bundle: Path, photos: Path, uri: str, folder: Path) -> float:
    """Peak memory of one ingest, in megabytes."""
    command = [sys.executable, "-c", "from milvus_fghash.cli import main; main()", "ingest", str(bundle), str(photos)]
    process = subprocess.Popen(
        [*command, "--uri", uri, "--journal", str(folder / "journal")], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ingest ended with {process.returncode}")
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--photos", default="2000,20000")
    counts = [int(count) for count in parser.parse_args().photos.split(",")]
    bundle = parser.parse_args().bundle
    print("| into | photos | peak of the first run, MB | of the second, MB |\n|---|---|---|---|")
    for into in ("Milvus Lite", "a server"):
        for count in counts:
            with tempfile.TemporaryDirectory() as name, milvus_server() as server:
                folder = Path(name)
                photos = draw(folder / "photos", count)
                uri = server if into == "a server" else str(folder / "photos.db")
                first, second = (peak(bundle, photos, uri, folder) for _ in range(2))
            print(f"| {into} | {count:,} | {first:.0f} | {second:.0f} |", flush=True)


if __name__ == "__main__":
    main()
