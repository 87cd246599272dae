"""Checkpoints that are trained in a second."""

from __future__ import annotations

from collections.abc import Callable

from milvus_fghash.explain.checkpoint_model import CheckpointModel

BITS, SIZE = 12, 64
QUICK = ("backbone.name='tiny'", "backbone.weights='none'", "backbone.views=1", f"preprocessing.size={SIZE}",
         f"preprocessing.resize={SIZE}", "training.rounds=1", "training.epochs_per_round=1", "training.batch_size=8",
         "training.drop_at=[]")  # fmt: skip

Make = Callable[..., CheckpointModel]
