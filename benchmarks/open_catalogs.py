"""Quality of Posterior-ITQ on new photos, new classes and photos without labels, beside ITQ and KinHash.

    python benchmarks/open_catalogs.py --encoder MobileNetV2 --data CUB_100 \
        --weights mobilenet_v2_imagenet.safetensors --out runs/open-catalogs
    python benchmarks/open_catalogs.py --encoder EfficientNet-Lite2 --data CUB_100 --backbone onnx \
        --weights efficientnet_lite2_imagenet.onnx --out runs/open-catalogs

The protocols are those of `milvus_fghash.evaluation.protocols`, with half of the classes new; protocols that fit on the
same photos share a training. Seed i is also the number of the draw of classes. Further cases of protocols B and C have
3 photos a class, a fifth of wrong labels, or few classes. The reference is the float cosine of the same features.

Features come from the photos, resized to 224 x 224, or from a file of another encoder (`--features`), a NumPy archive
with `train` (views, n, d), view 0 being the plain one, `test` (1, m, d), `train_y` and `test_y`. Then `--parameters` is
the encoder's number of weights, which bounds the size of the heads.

Each result is a JSON line in OUT/results.jsonl, so a killed run continues where it stopped; remove the file after a
change of a method. At the end come the tables of all encoders in that file, and which bars are missed; `--report`
prints these only. A bar is on the mean over the seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from milvus_fghash.core.codes import Codes
from milvus_fghash.datasets.read import parse_location, read_dataset
from milvus_fghash.evaluation.protocols import PROTOCOLS, ProtocolOptions, ProtocolSplit, Rows, protocol_splits
from milvus_fghash.evaluation.quality import Quality, code_quality, float_ceilings, mean_quality
from milvus_fghash.methods import ON_FEATURES_ALONE
from milvus_fghash.methods.base import Backbone, Sizes
from milvus_fghash.recipes.loader import compose
from milvus_fghash.training.backbones import chosen_backbone, with_own_preprocessing
from milvus_fghash.training.checkpoint import build_method
from milvus_fghash.training.draws import with_seed
from milvus_fghash.training.feature_cache import FeatureCache
from milvus_fghash.training.on_features import NoBackbone, encode_features, fit_on_features
from milvus_fghash.training.photos import Photos

CPU: Final = torch.device("cpu")
POSTERIOR, ITQ, KINHASH, FLOATS = "posterior-itq", "itq", "kinhash", "floats"
BEST_OF_KINHASH: Final = (12, 24)
"""Lengths that KinHash has besides the others: its best one in A is among them."""


@dataclass(frozen=True)
class Case:
    """Protocols, and what is changed about their photos.

    Attributes:
        protocols: their names.
        methods: what is measured.
        known_classes: number of classes with labels; None: all that the protocol has.
        photos_per_class: photos of each known class that are fitted on; None: all.
        wrong_labels: share of the labels that are replaced by another class.
    """

    protocols: tuple[str, ...] = ("B",)
    methods: tuple[str, ...] = (POSTERIOR, KINHASH)
    known_classes: int | None = None
    photos_per_class: int | None = None
    wrong_labels: float = 0.0


CASES: Final = {
    "whole catalog": Case(tuple(PROTOCOLS), (POSTERIOR, ITQ, KINHASH)),
    "3 photos a class": Case(photos_per_class=3),
    "20 % wrong labels": Case(wrong_labels=0.2),
    **{f"{count} classes": Case(("B", "C"), (POSTERIOR, ITQ), known_classes=count) for count in (5, 10, 20)},
}
LENGTHS: Final = (48, 64, 128, 256)
Bars = dict[int, tuple[float, float]]
B_BARS: Final[dict[str, Bars]] = {
    "EfficientNet-Lite2": {48: (1.5, 1.05), 64: (1.55, 1.08), 128: (1.62, 1.12), 256: (1.65, 1.12)},
    "MobileNetV2": {48: (1.75, 1.13), 64: (1.9, 1.17), 128: (2.1, 1.26), 256: (2.15, 1.28)},
}
"""By encoder: bits -> smallest ratios of mAP and P@1 to those of the floats."""
BARS: Final[dict[str, Bars]] = {
    "C": {48: (0.75, 0.75), 64: (0.80, 0.78), 128: (0.88, 0.84), 256: (0.93, 0.90)},
    "D": {48: (1.0, 0.82), 64: (1.1, 0.88), 128: (1.2, 0.93), 256: (1.25, 0.95)},
    "E2": {48: (1.15, 0.92), 64: (1.2, 0.95), 128: (1.26, 0.98), 256: (1.28, 1.0)},
    "Mn": {48: (1.25, 0.93), 64: (1.35, 0.97), 128: (1.46, 1.03), 256: (1.46, 1.05)},
}
REACH: Final = dict.fromkeys(("B", "C", "D", "D-fitted", "E", "E2"), 0.93) | {"A": 0.8}
"""Smallest share of the floats' reach."""
BELOW_KINHASH, BELOW_ITQ, FALL = 0.05, 0.01, 0.01
"""Largest distances: in A to KinHash's best length, from 128 bits on; in C and D to ITQ; from a length to the next."""


@dataclass(frozen=True)
class Features:
    """Features of the photos of one encoder: first the training photos, then the test photos."""

    views: Tensor
    """(views, n_train, d)."""
    plain: Tensor
    """(n, d)."""
    labels: tuple[str, ...]
    backbone: Backbone

    @property
    def splits(self) -> list[str]:
        n_train = self.views.shape[1]
        return ["train"] * n_train + ["test"] * (len(self.labels) - n_train)


@dataclass(frozen=True)
class Fit:
    """Photos that are fitted on, and the protocols that share them; rows of `Features`."""

    rows: NDArray[np.int64]
    given: NDArray[np.int64]
    """(n,) class numbers from 0, -1 for a photo without a label."""
    splits: dict[str, tuple[ProtocolSplit, ...]]


@dataclass
class Results:
    """JSON lines; the key of a line says what was measured."""

    file: Path

    def __post_init__(self) -> None:
        whole = self.file.read_bytes().rpartition(b"\n")[0] if self.file.exists() else b""
        self.file.write_bytes(whole + b"\n" if whole else b"")  # a kill may leave an incomplete line
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def has(self, **key: object) -> bool:
        return any(line.items() >= key.items() for line in self.lines)

    def add(self, quality: Quality, **key: object) -> None:
        self.lines.append(key | quality.model_dump())
        with self.file.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")

    def mean(self, **key: object) -> Quality | None:
        """Over the seeds."""
        found = [line for line in self.lines if line.items() >= key.items()]
        named = [{name: line[name] for name in Quality.model_fields} for line in found]
        return mean_quality([Quality(**values) for values in named]) if named else None


def read_features(file: Path, n_parameters: int) -> Features:
    """Features of an archive, see above."""
    with np.load(file) as archive:
        views, test = (torch.from_numpy(archive[name]) for name in ("train", "test"))
        labels = np.concatenate([archive["train_y"], archive["test_y"]]).tolist()
    backbone = NoBackbone(views.shape[2])
    backbone.weights = nn.Parameter(torch.zeros(1).expand(n_parameters), requires_grad=False)
    names = tuple(f"class {number:05d}" for number in labels)
    return Features(views, torch.cat([views[0], test[0]]), names, backbone)


def computed_features(arguments: argparse.Namespace) -> Features:
    """Features of photos, by the cache of trainings."""
    changes = [f"backbone.name={json.dumps(arguments.backbone)}", f"backbone.weights={json.dumps(arguments.weights)}"]
    changes += ["preprocessing.resize=224", "preprocessing.resize_mode='stretch'", *arguments.set]
    recipe = with_own_preprocessing(compose("frozen", POSTERIOR, changes))
    dataset = read_dataset(parse_location(arguments.data), arguments.layout)
    backbone = chosen_backbone(recipe.backbone, recipe.preprocessing.size)
    method = build_method(recipe.method, recipe.head, backbone, Sizes.of(64, dataset.labels, dataset.classes))
    parts: dict[str, Tensor] = {}
    for split in ("train", "test"):
        photos = Photos(dataset.split(split), recipe.preprocessing, recipe.augmentation)
        workers, folder = recipe.training.workers, arguments.feature_cache or arguments.out / "features"
        cache = FeatureCache(method, photos, folder, CPU, recipe.backbone.views, workers, split == "test")
        parts[split] = cache.read_centre_crops()[None] if split == "test" else cache.read()["anchor"]
    labels = dataset.split("train").labels + dataset.split("test").labels
    return Features(parts["train"], torch.cat([parts["train"][0], parts["test"][0]]), labels, backbone)


def fits(case: Case, seed: int, features: Features) -> Iterator[Fit]:
    """The trainings of a case."""
    labels, splits = np.array(features.labels, object), np.array(features.splits, object)
    classes = np.unique(labels)
    shared: dict[tuple[bytes, bytes], Fit] = {}
    for protocol in case.protocols:
        count = len(classes)
        if case.known_classes is not None:
            count = case.known_classes * (2 if PROTOCOLS[protocol].draws_classes else 1)  # half of them are new
        drawn = np.random.default_rng(seed).permutation(classes)[:count]
        rows = np.flatnonzero(np.isin(labels, drawn))
        options = ProtocolOptions(draw=seed, seed=seed)
        parts = protocol_splits(protocol, labels[rows].tolist(), splits[rows].tolist(), options)
        parts = tuple(_of_all(part, rows) for part in parts)
        key = parts[0].labelled.tobytes(), parts[0].unlabelled.tobytes()
        if key not in shared:
            shared[key] = Fit(*_given(parts[0], labels, case, seed), {})
        shared[key].splits[protocol] = parts
    yield from shared.values()


def _of_all(part: ProtocolSplit, rows: Rows) -> ProtocolSplit:
    """A split of some rows as one of all."""
    named = ("labelled", "unlabelled", "gallery", "queries")
    return replace(part, **{name: rows[getattr(part, name)] for name in named})


def _given(part: ProtocolSplit, labels: NDArray[Any], case: Case, seed: int) -> tuple[Rows, Rows]:
    """Rows that are fitted on, and their numbers of classes."""
    random = np.random.default_rng(seed)
    labelled = part.labelled
    if case.photos_per_class is not None:
        shuffled = random.permutation(labelled)
        kept = [shuffled[labels[shuffled] == name][: case.photos_per_class] for name in np.unique(labels[labelled])]
        labelled = np.sort(np.concatenate(kept))
    known, numbers = np.unique(labels[labelled], return_inverse=True)
    wrong = random.permutation(len(labelled))[: round(len(labelled) * case.wrong_labels)]
    numbers[wrong] = (numbers[wrong] + random.integers(1, max(len(known), 2), len(wrong))) % max(len(known), 1)
    rows = np.concatenate([labelled, part.unlabelled])
    given = np.concatenate([numbers, np.full(len(part.unlabelled), -1)])
    order = rows.argsort()
    return rows[order], given[order]


def measure(arguments: argparse.Namespace, features: Features, results: Results) -> None:
    """Add what is missing."""
    numbers = np.unique(np.array(features.labels), return_inverse=True)[1]
    plain = features.plain.numpy()
    digest = hashlib.sha256(plain.tobytes() + features.views.numpy().tobytes()).hexdigest()[:16]
    for case_name, seed in ((name, seed) for name in arguments.cases for seed in range(arguments.seeds)):
        case = CASES[case_name]
        case = replace(case, protocols=tuple(name for name in case.protocols if name in arguments.protocols))
        key = {"encoder": arguments.encoder, "features": digest, "case": case_name, "seed": seed}
        for fit in fits(case, seed, features):
            for protocol, parts in fit.splits.items():
                if not results.has(**key, protocol=protocol, method=FLOATS):
                    found = [float_ceilings(plain, features.labels, part) for part in parts]
                    for kind in found[0] if case_name == "whole catalog" else ("raw",):
                        name = FLOATS if kind == "raw" else kind
                        quality = mean_quality([one[kind] for one in found])
                        results.add(quality, **key, protocol=protocol, method=name, bits=None)
            for name in case.methods:
                if name == KINHASH and (fit.given < 0).any():
                    continue
                more = BEST_OF_KINHASH if name == KINHASH and "A" in fit.splits else ()
                lengths = [
                    bits
                    for bits in (*more, *arguments.bits)
                    if not all(results.has(**key, protocol=one, method=name, bits=bits) for one in fit.splits)
                ]
                if not lengths:
                    continue
                views, given = features.views[:, fit.rows], torch.from_numpy(fit.given)
                recipe = with_seed(compose("frozen", name, ON_FEATURES_ALONE.get(name, ())), seed)
                started = time.process_time()
                fitted = fit_on_features(recipe, lengths, views, given, features.backbone)
                seconds = time.process_time() - started
                print(f"{case_name}, {'+'.join(fit.splits)}, seed {seed}, {name}: {seconds:.0f} CPU s", flush=True)
                for bits, method in fitted.items():
                    codes = encode_features(method, features.plain)
                    for protocol, parts in fit.splits.items():
                        quality = mean_quality([_quality(codes, numbers, part, bits) for part in parts])
                        results.add(quality, **key, protocol=protocol, method=name, bits=bits)


def _quality(codes: Codes, numbers: Rows, part: ProtocolSplit, bits: int) -> Quality:
    queries, gallery = part.queries, part.gallery
    return code_quality(codes[queries], numbers[queries], codes[gallery], numbers[gallery], bits, part.own_rows)


def report(results: Results, lengths: Sequence[int]) -> None:
    """Print the tables of all encoders, and the bars."""
    for encoder in dict.fromkeys(line["encoder"] for line in results.lines):
        for case_name, case in CASES.items():
            seeds = {line["seed"] for line in results.lines if (line["encoder"], line["case"]) == (encoder, case_name)}
            if not seeds:
                continue
            print(f"\n## {encoder}, {case_name}, {len(seeds)} seeds: mAP / P@1 / reach\n")
            print("| protocol | method | floats | " + " | ".join(f"{bits} bits" for bits in lengths) + " |")
            print("|---" * (3 + len(lengths)) + "|")
            for protocol in case.protocols:
                figures = _figures(results, encoder, case_name, protocol)
                for name in dict.fromkeys(name for name, _ in figures):
                    cells = [_cell(figures.get((name, bits))) for bits in (None, *lengths)]
                    print(f"| {protocol} | {name} | " + " | ".join(cells) + " |")
            print()
            figures_of = {protocol: _figures(results, encoder, case_name, protocol) for protocol in case.protocols}
            lines = list(bar_lines(figures_of, case_name, encoder))
            short = [line for line in lines if "missed" in line]
            print("\n".join([f"{len(lines) - len(short)} of {len(lines)} bars are held.", *short]))


Figures = dict[tuple[str, int | None], Quality]


def _figures(results: Results, encoder: str, case: str, protocol: str) -> Figures:
    """(method, bits) -> the mean over the seeds."""
    key = {"encoder": encoder, "case": case, "protocol": protocol}
    cells = [(line["method"], line["bits"]) for line in results.lines if line.items() >= key.items()]
    found = {cell: results.mean(**key, method=cell[0], bits=cell[1]) for cell in dict.fromkeys(cells)}
    return {cell: quality for cell, quality in found.items() if quality is not None}


def _cell(quality: Quality | None) -> str:
    return "" if quality is None else f"{quality.map:.3f} / {quality.precision_at_1:.3f} / {quality.reach:.2f}"


def bar_lines(by_protocol: dict[str, Figures], case: str, encoder: str) -> Iterator[str]:
    """Each bar as a line, with the figure that is compared."""
    for protocol, figures in by_protocol.items():
        if (FLOATS, None) not in figures:
            continue
        floats = figures[FLOATS, None]
        own = {bits: quality for (name, bits), quality in figures.items() if name == POSTERIOR and bits}

        def line(bits: int, what: str, value: float, least: float, protocol: str = protocol) -> str:
            verdict = "held" if value >= least - 1e-9 else f"**missed by {least - value:.3f}**"
            return f"- {protocol}, {bits} bits: {what} {value:.3f}, at least {least:.3f}: {verdict}"

        longest, best = 0.0, max((q.map for (name, _), q in figures.items() if name == KINHASH), default=None)
        for bits, quality in sorted(own.items()):
            if case == "whole catalog":
                for_ratio = (B_BARS.get(encoder, {}) if protocol == "B" else BARS.get(protocol, {})).get(bits)
                if for_ratio:
                    yield line(bits, "mAP to the floats'", quality.map / floats.map, for_ratio[0])
                    ratio = quality.precision_at_1 / floats.precision_at_1
                    yield line(bits, "P@1 to the floats'", ratio, for_ratio[1])
                if protocol in REACH:
                    yield line(bits, "reach to the floats'", quality.reach / floats.reach, REACH[protocol])
                if protocol == "A" and bits >= 128 and best is not None:
                    yield line(bits, "mAP, KinHash's best length is below by 0.05,", quality.map, best - BELOW_KINHASH)
            if longest:
                yield line(bits, "mAP, after that of the shorter code,", quality.map, longest - FALL)
            longest = quality.map
            other = ITQ if ITQ in CASES[case].methods and protocol in {"B", "C", "D"} else KINHASH
            if (beside := figures.get((other, bits))) is None or (other, protocol) == (KINHASH, "A"):
                continue
            allowed = BELOW_ITQ if other == ITQ else 0.0
            yield line(bits, f"mAP beside {other}'s", quality.map, beside.map - allowed)
            yield line(bits, f"P@1 beside {other}'s", quality.precision_at_1, beside.precision_at_1 - allowed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="MobileNetV2", help=f"its name; bars of B exist for {', '.join(B_BARS)}")
    parser.add_argument("--data", help="photos with the splits train and test")
    parser.add_argument("--layout")
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--set", action="append", default=[], help="change of the recipe of the features, KEY=VALUE")
    parser.add_argument("--feature-cache", type=Path)
    parser.add_argument("--features", type=Path, help="instead of photos")
    parser.add_argument("--parameters", type=int, default=3_504_872, help="weights of the encoder of --features")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=lambda text: text.split(","), default=list(CASES), help="separated by commas")
    parser.add_argument("--protocols", type=lambda text: text.split(","), default=list(PROTOCOLS))
    parser.add_argument("--bits", type=lambda text: [int(one) for one in text.split(",")], default=list(LENGTHS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.out / "results.jsonl")
    if not arguments.report:
        if not arguments.features and not arguments.data:
            parser.error("give --data or --features")
        torch.set_num_threads(1)
        features = (
            read_features(arguments.features, arguments.parameters)
            if arguments.features
            else computed_features(arguments)
        )
        measure(arguments, features, results)
    report(results, arguments.bits)


if __name__ == "__main__":
    main()
