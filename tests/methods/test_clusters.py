"""Spherical k-means against a slow form of it, and where points are equal."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from milvus_fghash.methods import clusters
from milvus_fghash.methods.base import generator
from milvus_fghash.methods.clusters import nearest, spherical_kmeans


def on_sphere(n: int, d: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def slowly(points: Tensor, n_clusters: int, first: list[int], iterations: int) -> list[int]:
    """Point by point; for data in which no cluster becomes empty."""
    centres = [points[row] for row in first[:n_clusters]]

    def assigned() -> list[int]:
        return [max(range(n_clusters), key=lambda k: float(point @ centres[k])) for point in points]

    for _ in range(iterations):
        numbers = assigned()
        for k in range(n_clusters):
            members = [points[row] for row in range(len(points)) if numbers[row] == k]
            centres[k] = sum(members[1:], members[0])
            centres[k] = centres[k] / centres[k].norm()
    return assigned()


@pytest.mark.parametrize("seed", range(4))
def test_the_clusters_are_those_of_the_slow_form(seed: int) -> None:
    points = on_sphere(40, 3, seed)
    first = torch.randperm(40, generator=generator(seed)).tolist()
    found = spherical_kmeans(points, 4, generator(seed), 40)
    assert found.tolist() == slowly(points, 4, first, clusters.ITERATIONS)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_no_cluster_of_different_points_is_empty_when_centres_start_on_one_of_them(seed: int, n_clusters: int) -> None:
    """Half of the points lie within a hair's breadth, so most first centres are as good as equal."""
    points = on_sphere(60, 4, seed)
    points[:30] = F.normalize(points[0] + 1e-3 * points[:30])
    found = spherical_kmeans(points, n_clusters, generator(seed), 60)
    assert len(set(found.tolist())) == n_clusters


def test_more_clusters_than_different_points_leave_some_empty_and_mix_none() -> None:
    points = on_sphere(3, 5, 0).repeat_interleave(20, dim=0)
    found = spherical_kmeans(points, 10, generator(1), 60)
    groups = [set(part.tolist()) for part in torch.split(found, 20)]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]


def test_of_many_points_a_sample_finds_the_centres_and_all_get_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    directions = torch.eye(5, dtype=torch.float64)
    points = F.normalize(directions.repeat(60, 1) + 0.02 * on_sphere(300, 5, 0))
    monkeypatch.setattr(clusters, "ROWS_AT_A_TIME", 7)
    found = spherical_kmeans(points, 5, generator(3), 100).reshape(60, 5)
    assert bool((found == found[0]).all())
    assert len(set(found[0].tolist())) == 5


def test_the_nearest_centre_and_its_cosine() -> None:
    numbers, cosines = nearest(torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert numbers.tolist() == [1, 0]
    torch.testing.assert_close(cosines, torch.tensor([1.0, 0.8]))
