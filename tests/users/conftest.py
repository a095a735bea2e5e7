from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.users.accounts import Accounts, accounts
from tests.users.shared import Shared, shared


@pytest.fixture(scope="module")
def people() -> Iterator[Accounts]:
    with accounts() as made:
        yield made


@pytest.fixture
def own(people: Accounts, request: pytest.FixtureRequest) -> Iterator[Shared]:
    """A spool for one test, which starts and ends its daemons; in a module that shares no spool."""
    folder = people.folder / f"own{request.node.name[:40]}"
    folder.mkdir(mode=0o755)
    with shared(people._replace(folder=folder)) as made:
        yield made.head().node("n1", "H100:4", cpus=64).ready()


@pytest.fixture(scope="module")
def spool(people: Accounts) -> Iterator[Shared]:
    """A spool of several users with a head and a node, which all tests of a module share."""
    with shared(people) as made:
        made.head().node("n1", "H100:4", cpus=64).ready()
        assert made.ended(made.submits(people.alice, "run: 'true'\n")) == [
            "SUCCEEDED"
        ]  # its starter lives from here on
        yield made
