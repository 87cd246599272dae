"""ADSH: asymmetric deep supervised hashing (Jiang & Li, AAAI 2018), the authors' PyTorch code.

Loss and code step are those of `baseline.py`, which is ADSH with FCAENet's schedule; this one's schedule is its
authors' own (in its recipe), and so is the loss's scale, without 12 / c.
"""

from __future__ import annotations

from typing import Literal

from milvus_fghash.methods import baseline


class Config(baseline.Config):
    scale: Literal["12/c", "none"] = "none"
    """Factor of the loss, for c bits."""


Method = baseline.Method
