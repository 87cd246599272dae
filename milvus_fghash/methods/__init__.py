"""The table of methods. It is importable without torch; only `load` needs it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Literal

from milvus_fghash.errors import ConfigError, nearest, optional_extra


@dataclass(frozen=True)
class Card:
    """Description of a method, without importing it."""

    title: str
    source: str
    learns: Literal["nothing", "projection", "network", "network+codes", "network+class codes"]
    """What is learned. "+codes": also a code for each training photo, "+class codes": one for each class."""
    labels: bool = True
    """Whether it uses the classes of the training photos."""
    unlabelled: bool = False
    """Whether it also learns from photos without a class; photos with one may then be missing altogether."""
    several_labels: bool = False
    """Whether it can use several labels of a photo."""
    needs: Literal["features", "maps"] = "features"
    """Whether it works on pooled features, which a frozen backbone gives, or on the maps below them."""
    heads: tuple[str, ...] = ("linear", "mlp")
    """Kinds of head that it can have; none if it has its own projection."""

    @property
    def by_gradient(self) -> bool:
        """Whether it trains a network, with the recipe's head; the others have their own projections."""
        return self.learns.startswith("network")


METHODS: dict[str, Card] = {
    "lsh": Card("Random hyperplanes", "Charikar, STOC 2002", "nothing", labels=False, heads=()),
    "sh": Card("Spectral hashing", "Weiss et al., NIPS 2008", "projection", labels=False, heads=()),
    "itq": Card("Iterative quantisation", "Gong & Lazebnik, CVPR 2011", "projection", labels=False, heads=()),
    "sdh": Card("Supervised discrete hashing", "Shen et al., CVPR 2015", "projection", heads=()),
    "dpsh": Card("Deep pairwise-supervised hashing", "Li et al., IJCAI 2016", "network", several_labels=True),
    "dsh": Card("Deep supervised hashing", "Liu et al., CVPR 2016", "network", several_labels=True),
    "hashnet": Card("Hashing by continuation", "Cao et al., ICCV 2017", "network", several_labels=True),
    "fph": Card("Feature pyramid hashing", "Yang et al., ICMR 2019", "network", needs="maps"),
    "dash": Card("Deep saliency hashing", "Jin et al., TIP 2020", "network", needs="maps", several_labels=True),
    "adsh": Card("Asymmetric deep supervised hashing", "Jiang & Li, AAAI 2018", "network+codes", several_labels=True),
    "exchnet": Card("Feature exchange between parts", "Cui et al., ECCV 2020", "network+codes", needs="maps"),
    "baseline": Card("ADSH with the full backbone", "FCAENet Table 1", "network+codes", several_labels=True),
    "fcaenet": Card(
        "Feature consistency driven attention erasing",
        "FCAENet, Pattern Recognition 2022",
        "network+codes",
        several_labels=True,
    ),
    "a2net": Card(
        "Attribute-aware hashing",
        "Wei et al., NeurIPS 2021",
        "network+codes",
        needs="maps",
        heads=("linear",),
        several_labels=True,
    ),
    "a2net-pp": Card(
        "A2-Net with image reconstruction",
        "Wei et al., TPAMI 2023",
        "network+codes",
        needs="maps",
        heads=("linear",),
        several_labels=True,
    ),
    "semicon": Card(
        "Suppression-enhanced attention", "Shen et al., ECCV 2022", "network+codes", needs="maps", several_labels=True
    ),
    "agmh": Card(
        "Attributes grouping and mining", "Lu et al., ACM MM 2023", "network+codes", needs="maps", several_labels=True
    ),
    "csq": Card("Central similarity", "Yuan et al., CVPR 2020", "network+class codes", several_labels=True),
    "dpn": Card("Deep polarised network", "Fan et al., IJCAI 2020", "network+class codes"),
    "orthohash": Card("One loss for all", "Hoe et al., NeurIPS 2021", "network+class codes"),
    "fish": Card("Fine-grained hashing with double filtering", "Chen et al., TIP 2022", "network+class codes"),
    "posterior-itq": Card(
        "Rotated posteriors of classes and clusters",
        "this project",
        "network",
        unlabelled=True,
        several_labels=True,
        heads=("linear",),
    ),
    "kinhash": Card(
        "Code of highest expected utility; similar classes get near codes", "this project", "network+class codes"
    ),
}

ON_FEATURES_ALONE: Final[dict[str, tuple[str, ...]]] = {"kinhash": ("method.options.erasing=0",)}
"""Methods that need the photos in training only -> the changes of a recipe by which pooled features are enough."""


def card(name: str) -> Card:
    """The table's entry of a method.

    Raises:
        ConfigError: when there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(f"no method named {name!r}. {nearest(name, METHODS)}")
    return METHODS[name]


def check_backbone(name: str, *, frozen: bool) -> None:
    """Reject a frozen backbone for a method that works on maps.

    Raises:
        ConfigError: when they do not go together.
    """
    if frozen and card(name).needs == "maps":
        raise ConfigError(
            f"{name} learns from maps, which the cached features of a frozen backbone do not have. "
            "Set backbone.frozen = false, or use a setting that trains the backbone, such as finetune"
        )


def load(name: str) -> ModuleType:
    """Import the module of a method, which has `Config` and `Method`.

    Raises:
        ConfigError: when there is no such method.
        MissingExtra: when torch is not installed.
    """
    card(name)
    with optional_extra("train"):
        return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
