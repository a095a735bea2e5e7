"""A fresh cluster for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster, running


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A spool without daemons."""
    with running(tmp_path) as made:
        yield made


@pytest.fixture
def one_node(cluster: Cluster) -> Cluster:
    """A head and one node with four simulated H100s."""
    return cluster.head().node("n1", "H100:4").ready()
