"""What is durable before what: the calls that reach the disk are written down, in order, as the protocol needs them.

Content before name, name before whoever relies on it. Each test names the calls that matter and leaves the others out.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spool_layout import leadership
from spool_layout.paths import Spool
from spool_layout.records import Leader
from spool_layout.settings import Settings
from spool_layout.storage import Disk
from spoold.fsck.mending import mend
from spoold.head.keeping import Keeper
from tests.head.stage import CPU, Stage
from tests.node.site import NODE, running

SETTINGS = Settings(format=1, id="0" * 16, name="test")


class Recorder:
    """Calls of os with the paths they concern, relative to a root. Private names are `private`."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.calls = str(root), list[str]()
        for name in ("fsync", "write", "pwrite"):
            self._watch(monkeypatch, name, lambda descriptor, *_: [os.readlink(f"/proc/self/fd/{descriptor}")])
        for name in ("replace", "rename", "link", "mkdir", "unlink"):
            self._watch(monkeypatch, name, lambda *paths: [path for path in paths if isinstance(path, str)])

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, paths: Callable[..., list[str]]) -> None:
        real = getattr(os, name)

        def watched(*args: Any, **more: Any) -> Any:
            told = " ".join(self._told(path) for path in paths(*args))
            self.calls.append(f"{name.removeprefix('p')} {told}")
            return real(*args, **more)

        monkeypatch.setattr(os, name, watched)

    def _told(self, path: str) -> str:
        folder, name = os.path.split(os.path.relpath(path, self.root))
        return os.path.join(folder, "private" if name.startswith(".part-") else name)

    def order(self, *wanted: str) -> bool:
        """Whether these calls were made, each after the one before it."""
        rest = iter(self.calls)
        return all(any(call == one for call in rest) for one in wanted)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool")
    for directory in made.directories:
        os.makedirs(directory, exist_ok=True)
    return made


@pytest.fixture
def recorder(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    yield Recorder(Path(spool.root), monkeypatch)


def test_what_is_published_is_whole_and_durable_before_it_has_its_name(spool: Spool, recorder: Recorder) -> None:
    Disk().publish(spool.ledger, b"x")
    assert recorder.calls == ["write private", "fsync private", "replace private ledger.json"]


def test_what_is_put_if_absent_is_durable_with_its_name(spool: Spool, recorder: Recorder) -> None:
    Disk().publish_new(spool.events_of(1), b"x")
    steps = ["write events/private", "fsync events/private", "link events/private events/1.jsonl"]
    assert recorder.calls == [*steps, "unlink events/private", "fsync events"]


def test_what_is_appended_is_durable_when_the_call_returns(spool: Spool, recorder: Recorder) -> None:
    Path(spool.events_of(1)).touch()
    Disk().append(spool.events_of(1), b"x", 0)
    assert recorder.calls == ["write events/1.jsonl", "fsync events/1.jsonl"]


def test_a_file_and_a_whole_file_system_are_made_durable(
    spool: Spool, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(spool.settings).touch()
    Disk().sync_file(spool.settings)
    assert recorder.calls == ["fsync spool.yaml"]
    asked: list[str] = []

    class C:  # the real syncfs waits for whatever else is being written on this machine
        def syncfs(self, descriptor: int) -> int:
            asked.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: C())
    Disk().sync_all(spool.settings)
    assert asked == [spool.settings]


def test_a_head_has_its_claim_directory_before_its_epoch_and_both_before_its_first_record(
    spool: Spool, recorder: Recorder
) -> None:
    epoch = leadership.take(spool, Disk())
    assert epoch is not None
    leadership.seal(epoch, Leader("host", 1, 1.0), time.time())
    mine = f"claims/{os.path.basename(epoch.claims)}"
    steps = [f"mkdir {mine}", "fsync claims", "link events/private events/1.jsonl", "fsync events"]
    assert recorder.order(*steps, "write events/1.jsonl", "fsync events/1.jsonl"), recorder.calls


def test_a_generation_and_its_name_are_durable_before_an_event_vouches_and_that_before_anything_is_packed_away(
    spool: Spool, recorder: Recorder
) -> None:
    for _ in range(2):
        epoch = leadership.take(spool, Disk())
        assert epoch is not None
        state = leadership.seal(epoch, Leader("host", 1, 1.0), time.time()).state
        recorder.calls.clear()
        Keeper(spool, Disk(), SETTINGS, epoch, state, time.time).write()
    month = time.strftime("events/archive/%Y-%m/1.jsonl", time.gmtime())
    steps = ["fsync ledger/private", "replace ledger/private ledger/2.1.json", "fsync ledger", "fsync events/2.jsonl"]
    for last in ("unlink ledger/1.1.json", f"rename events/1.jsonl {month}", "replace private ledger.json"):
        assert recorder.order(*steps, last), recorder.calls


def test_what_a_generation_forgets_is_durable_before_it_is_written(spool: Spool, recorder: Recorder) -> None:
    epoch = leadership.take(spool, Disk())
    assert epoch is not None
    state = leadership.seal(epoch, Leader("host", 1, 1.0), time.time()).state
    outcomes = spool.outcomes("2026-01-02", 1)
    Disk().make_dir(spool.day("2026-01-02"))
    Disk().add_lines(outcomes, b"x\n")
    recorder.calls.clear()
    Keeper(spool, Disk(), SETTINGS, epoch, state, time.time, {outcomes}).write()
    mine = f"claims/{os.path.basename(epoch.claims)}"
    for steps in ([f"fsync {mine}"], ["fsync done/2026-01-02/1.jsonl"], ["fsync done/2026-01-02"]):
        assert recorder.order(*steps, "fsync ledger/private"), recorder.calls


def test_what_is_claimed_is_durable_before_it_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path)
    stage.look()
    assert stage.term is not None
    mine = f"claims/{stage.term.claims.folder}"
    stage.drop("a", CPU)
    recorder = Recorder(tmp_path, monkeypatch)
    stage.look()
    steps = [f"rename pending/a.yaml {mine}/new-1-a.yaml", f"fsync {mine}", "write events/1.jsonl"]
    assert recorder.order(*steps, f"rename {mine}/new-1-a.yaml pending/1.a.yaml"), recorder.calls


def test_an_assignment_is_durable_before_its_node_says_that_it_has_seen_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as site:
        site.start()
        recorder = Recorder(Path(site.spool.root), monkeypatch)
        node, said = f"nodes/{NODE}", f"replace nodes/{NODE}/private nodes/{NODE}/status.json"
        site.step()
        assert recorder.order(said, f"fsync {node}"), recorder.calls  # and its own first report
        site.assign()
        recorder.calls.clear()
        site.step()
        assert recorder.order(f"fsync {node}", said), recorder.calls


def test_a_new_spool_has_its_directories_before_it_says_that_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skyspool.verbs.init import make_inside

    recorder = Recorder(tmp_path, monkeypatch)
    make_inside(str(tmp_path), "lab", "single")
    for made, synced in (("claims", "."), ("events/archive", "events")):
        steps = [f"mkdir {made}", f"fsync {synced}", "fsync private", "link private spool.yaml", "fsync ."]
        assert recorder.order(*steps), recorder.calls


def test_a_directory_that_repair_makes_is_durable(spool: Spool, recorder: Recorder) -> None:
    os.rmdir(spool.requests)
    mend(spool, Disk(), SETTINGS, damaged=True)
    assert recorder.order("mkdir requests", "fsync ."), recorder.calls
