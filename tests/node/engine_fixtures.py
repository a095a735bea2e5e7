"""docker and podman as fixtures. A test module loads this: pytest_plugins = ["tests.node.engine_fixtures"]."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import engines
from tests.node.engines import Engine


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory with a short name: it is going to hold sockets."""
    folder = Path(tempfile.mkdtemp(prefix="engines-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_docker(place: Path) -> Iterator[Engine]:
    with engines.dockerd(place) as engine:
        yield engine


@pytest.fixture(scope="session")
def session_podman(place: Path) -> Iterator[Engine]:
    with engines.podman_store(place) as engine:
        yield engine


@pytest.fixture(scope="session", params=["docker", "podman"])
def session_engine(request: pytest.FixtureRequest) -> Engine:
    return request.getfixturevalue(f"session_{request.param}")  # type: ignore[no-any-return]


@pytest.fixture
def docker(session_docker: Engine) -> Iterator[Engine]:
    """docker; every container is removed after the test."""
    yield session_docker
    session_docker.clear()


@pytest.fixture
def podman(session_podman: Engine) -> Iterator[Engine]:
    """podman; every container is removed after the test."""
    yield session_podman
    session_podman.clear()


@pytest.fixture
def engine(session_engine: Engine) -> Iterator[Engine]:
    """Each engine in turn; every container is removed after the test."""
    yield session_engine
    session_engine.clear()
