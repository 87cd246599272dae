"""Effect of keeping freed memory: photos per second through a backbone on the CPU, with glibc's default and without.

    python benchmarks/allocator.py

Each setting runs in its own process, in turn, several times; prints the median and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch


def photos_per_second(keep: bool, batch: int, repeats: int) -> float:
    """Forward passes of MobileNetV2 at 224 px after one to warm up."""
    from milvus_fghash.training.backbones import build_backbone
    from milvus_fghash.training.device import keep_freed_memory

    if keep and not keep_freed_memory():
        raise SystemExit("this benchmark needs Linux with glibc")
    backbone = build_backbone("mobilenet_v2", "none").eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        backbone(images)
        started = time.perf_counter()
        for _ in range(repeats):
            backbone(images)
    return batch * repeats / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=8, help="Batches timed in one process.")
    parser.add_argument("--runs", type=int, default=5, help="Processes for each setting.")
    parser.add_argument("--measure", choices=["default", "kept"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(photos_per_second(arguments.measure == "kept", arguments.batch, arguments.repeats))
        return
    speeds: dict[str, list[float]] = {"default": [], "kept": []}
    for _ in range(arguments.runs):
        for setting, measured in speeds.items():
            command = [sys.executable, __file__, "--measure", setting]
            command += ["--batch", str(arguments.batch), "--repeats", str(arguments.repeats)]
            measured.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    for setting, measured in speeds.items():
        print(f"{setting:8} {statistics.median(measured):6.1f} photos/s  (each run: {[round(x, 1) for x in measured]})")
    ratios = [kept / default for kept, default in zip(speeds["kept"], speeds["default"], strict=True)]
    print(f"kept / default: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
