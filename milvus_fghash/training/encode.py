"""Features -> codes, some at a time: a head may hold more for a photo than its features take."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from milvus_fghash.core.codes import Codes, pack
from milvus_fghash.methods.base import HashMethod

AT_ONCE = 256
"""Photos. KinHash weighs up to three million codes times classes for each."""


@torch.no_grad()
def encode(method: HashMethod, features: Tensor, device: torch.device) -> Codes:
    """(n, n_features) as `features` gives them -> packed codes; the method is on ``device``, in evaluation mode."""
    parts = [pack(method.head(part.to(device)).float().cpu().numpy()) for part in torch.split(features, AT_ONCE)]
    return np.concatenate(parts)
