from __future__ import annotations

import os
import shutil
import statistics
import threading
from bisect import bisect
from itertools import accumulate
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyEvent

from spool_layout.storage import Disk
from spoold import wake
from spoold.wake import REPLACED, Pace, Waker


def test_looks_come_soon_after_news_and_back_off_to_the_longest_pause() -> None:
    pace = Pace(0.25, 2.0)
    pauses = [pace.step(news=True)] + [pace.step(news=False) for _ in range(20)]
    assert 0.2 < pauses[0] <= 0.25
    assert all(pause <= 2.0 for pause in pauses)
    assert all(pause >= 1.8 for pause in pauses[-5:])
    assert sum(pauses[:10]) < 12, "what follows within seconds is seen soon"
    assert pace.step(news=True) <= 0.25


def test_looks_of_several_hosts_do_not_fall_into_step() -> None:
    paces = [Pace(0.25, 2.0) for _ in range(20)]
    for pace in paces:
        pace.seconds = 2.0
    assert len({pace.step(news=False) for pace in paces}) == len(paces)


def test_what_two_hosts_look_for_one_after_the_other_waits_one_pause_in_the_median_and_two_at_worst() -> None:
    """A file on its way to its job's start, where all is idle: for the next look of the head, then of the runner."""
    longest = 2.0
    head, runner = (list(accumulate(pace.step(news=False) for _ in range(20_000))) for pace in at_rest(2, longest))
    waits = []
    for number in range(15_000):
        dropped = 100 + 2.5 * number
        taken = head[bisect(head, dropped)]
        waits.append(runner[bisect(runner, taken)] - dropped)
    assert statistics.median(waits) <= longest
    assert max(waits) <= 2 * longest


def at_rest(count: int, longest: float) -> list[Pace]:
    """Paces that have had no news for long."""
    paces = [Pace(0.25, longest) for _ in range(count)]
    for pace in paces:
        pace.seconds = longest
    return paces


class Heard(Waker):
    """Keeps what it was told of."""

    def __init__(self) -> None:
        super().__init__(native=True)
        self.names: list[bytes] = []

    def on_event(self, event: InotifyEvent) -> None:
        self.names.append(event.name)
        super().on_event(event)


def test_what_is_written_before_it_is_put_in_place_wakes_nobody(tmp_path: Path) -> None:
    waker = Heard()
    waker.watch(str(tmp_path), REPLACED)
    Disk().publish(str(tmp_path / "assigned.json"), b"{}")
    assert waker.wait(10) and waker.rang and waker.names == [b"assigned.json"]
    waker.close()


@pytest.mark.parametrize("threads", [0, 1])
def test_no_thread_is_needed_to_hear_of_changes_while_watchdog_has_its_descriptor_where_it_is_looked_for(
    tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if threads:
        monkeypatch.setattr(wake, "DESCRIPTOR", "elsewhere")
    before, open_before = threading.active_count(), os.listdir("/proc/self/fd")
    waker = Heard()
    waker.watch(str(tmp_path))
    waker.news.clear()
    assert threading.active_count() == before + threads
    (tmp_path / ".private").touch()
    assert not waker.wait(0.05) and not waker.news
    (tmp_path / "a").touch()
    assert waker.wait(10) and waker.rang and waker.news == {str(tmp_path)}
    waker.news.clear()
    shutil.rmtree(tmp_path)
    while not waker.news:
        assert waker.wait(10)
    waker.close()
    assert len(os.listdir("/proc/self/fd")) == len(open_before)
