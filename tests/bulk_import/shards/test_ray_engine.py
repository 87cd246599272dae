"""Which pools of actors fit a Ray cluster. What they do is tested on a real one in integration_tests."""

from __future__ import annotations

import sys

import pytest

from milvus_fghash.bulk_import.shards.ray_engine import RayOptions, RayPool
from milvus_fghash.errors import ConfigError, MissingExtra
from tests.helpers.small_shards import SmallShards


@pytest.mark.parametrize(
    ("asked", "gpus_each", "cpus", "gpus", "actors"),
    [
        (None, 0, 8, 0, 7),
        (7, 0, 8, 0, 7),
        (1, 0, 2, 0, 1),
        (None, 1, 8, 2, 2),
        (None, 0.5, 8, 2, 4),
        (2, 0, 3, 1, 2),
    ],
)
def test_a_pool_leaves_a_cpu(asked: int | None, gpus_each: float, cpus: int, gpus: int, actors: int) -> None:
    pool = RayOptions(actors=asked, gpus_per_actor=gpus_each)
    assert pool.actor_count({"CPU": float(cpus), "GPU": float(gpus)}) == actors


@pytest.mark.parametrize(
    ("asked", "gpus_each", "there", "most"),
    [(8, 0, {"CPU": 8.0}, 7), (None, 0, {"CPU": 1.0}, 0), (3, 1, {"CPU": 8.0, "GPU": 2.0}, 2), (1, 1, {"CPU": 8.0}, 0)],
)
def test_a_pool_that_would_wait_for_ever_is_rejected(
    asked: int | None, gpus_each: float, there: dict[str, float], most: int
) -> None:
    pool = RayOptions(actors=asked, gpus_per_actor=gpus_each)
    with pytest.raises(
        ConfigError, match=rf"for {asked or 1} actors: with at most {most} actors, a CPU is left for reading"
    ) as caught:
        pool.actor_count(there)
    assert caught.value.setting == "ray_actors"


def test_without_ray_the_extra_is_named(shards: SmallShards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'milvus-fghash\[ray\]'"):
        shards.build(engine=RayPool(shards.encoder.bundle.path, RayOptions()).engine())
