"""Command lines of small grids on the demo setting."""

from __future__ import annotations

from pathlib import Path

QUICK = ("preprocessing.size=32", "preprocessing.resize=32", "training.epochs_per_round=1", "training.batch_size=8")


def words(data: Path, out: Path | str, *more: str, rounds: int = 1) -> list[str]:
    made = ["demo", "--data", str(data), "--out", str(out), "--threads", "1", "--device", "cpu", *more]
    for change in (*QUICK, f"training.rounds={rounds}"):
        made += ["--set", change]
    return made


def compare(data: Path, out: Path | str, *more: str, rounds: int = 1) -> list[str]:
    grid = ("--methods", "lsh,baseline", "--bits", "12,8", "--seeds", "2", "--heads", "linear", "--trial-bits", "8")
    return ["compare", *words(data, out, *grid, *more, rounds=rounds)]
