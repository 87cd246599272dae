"""ADSH: asymmetric deep supervised hashing (Jiang & Li, AAAI 2018), the authors' PyTorch code.

Loss and code step are those of `baseline.py`, which is ADSH with FCAENet's schedule; this one's schedule is its
authors' own, and so is the loss's scale, without 12 / c. Everything the two differ in is in their recipes.
"""

from __future__ import annotations

from milvus_fghash.methods import baseline


class Config(baseline.Config):
    """The Baseline's options."""


Method = baseline.Method
