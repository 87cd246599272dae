"""The demo over several seeds, and once on shuffled labels: variance of its results.

    python benchmarks/demo_seeds.py --seeds 3

Prints a Markdown table: mAP (exact over ties, encoded gallery, drawings not seen in training) and seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from milvus_fghash.demo.training import run_demo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print("| labels | seed | FCAENet | LSH | chance | seconds |\n|---|---|---|---|---|---|")
    for seed, shuffled in [*((seed, False) for seed in range(arguments.seeds)), (0, True)]:
        with tempfile.TemporaryDirectory() as folder:
            result = run_demo(Path(folder) / "demo", seed, shuffle_labels=shuffled)
        fcaenet, lsh = result.records["fcaenet"], result.records["lsh"]
        row = [f"{fcaenet.map_exact:.3f}", f"{lsh.map_exact:.3f}", f"{lsh.map_chance:.3f}"]
        row.append(f"{sum(result.seconds.values()):.0f}")
        print(f"| {'shuffled' if shuffled else 'true'} | {seed} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
