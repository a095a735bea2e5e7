"""What a restarted runner makes of an assigned.json that is not the one which its predecessor knew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.site import NODE, Site, running


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Site]:
    """A node whose runner has reported once."""
    with running(tmp_path) as site:
        site.start()
        site.step()
        yield site


def test_the_version_that_named_an_attempt_forgets_it_under_no_circumstances(up: Site) -> None:
    key = up.task(1, "run: echo once\n")
    version = up.assign()
    up.ended(key)
    del up.wanted[key]
    up.assign(version=version)
    for _ in range(3):
        assert up.step().attempts[key].phase == "ended"


@pytest.mark.parametrize("what", ["an older one", "a damaged one"])
def test_a_restarted_runner_that_cannot_read_what_is_assigned_forgets_nothing_and_starts_nothing_again(
    up: Site, what: str
) -> None:
    key = up.task(1, "run: echo once\n")
    up.assign(version=(3, 1))
    up.ended(key)
    up.assign(version=(3, 2))  # the head has not read that yet: it is listed still
    up.until(lambda: up.status().seen == (3, 2))
    assigned = Path(up.spool.assigned(NODE))
    wanted = assigned.read_bytes()
    up.kill()
    del up.wanted[key]
    if what == "an older one":
        up.assign(version=(2, 9))  # a deposed head's
    else:
        assigned.write_text('{"format":1,')
    up.start()
    for _ in range(3):
        assert up.step().attempts[key].phase == "ended"
    assigned.write_bytes(wanted)
    for _ in range(3):
        assert up.step().attempts[key].phase == "ended"
    assert up.log(1) == "once\n"
