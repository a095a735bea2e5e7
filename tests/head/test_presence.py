from __future__ import annotations

import time
from pathlib import Path

import pytest

from spool_layout.paths import Spool
from spool_layout.records import HeadStatus, decode
from spool_layout.storage import Disk
from spoold.head.presence import Presence

AHEAD = 7200.0  # seconds that the file server's clock is ahead of this host's


class Elsewhere(Disk):
    """A disk on a server whose clock is ahead."""

    def touch(self, path: str) -> float:
        return super().touch(path) + AHEAD


@pytest.fixture
def presence(tmp_path: Path) -> Presence:
    spool = Spool(tmp_path)
    Path(spool.heads).mkdir()
    return Presence(spool, Elsewhere(), 1.0, "1", once=False)


def said(presence: Presence) -> HeadStatus:
    return decode(Path(presence.path).read_bytes(), HeadStatus, presence.path)


def test_a_head_tells_since_when_it_leads_by_the_servers_clock(
    presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    presence.say("standby")
    stood_by = said(presence).since
    assert abs(stood_by - (time.time() + AHEAD)) < 5
    later = time.monotonic() + 100
    monkeypatch.setattr("spoold.head.presence.time.monotonic", lambda: later)  # instead of waiting so long
    presence.say("leading", 3)
    status = said(presence)
    assert (status.role, status.epoch) == ("leading", 3)
    assert abs(status.since - (stood_by + 100)) < 5


def test_it_tells_the_same_for_as_long_as_it_leads(presence: Presence, monkeypatch: pytest.MonkeyPatch) -> None:
    presence.say("leading", 3)
    first = said(presence)
    later = time.monotonic() + 100
    monkeypatch.setattr("spoold.head.presence.time.monotonic", lambda: later)
    presence.say("leading", 3)
    assert said(presence) == first
