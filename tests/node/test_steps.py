"""Steps of a runner in their order: what stands there when it is cut between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout.records import Phase
from spoold.node import journal, progress
from spoold.node.workplace import Attempt, Workplace
from tests.node.site import Site, running


class Cut(BaseException):
    """kill -9, here."""


def cut_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill whoever writes this file of an attempt, before it is there."""

    def cut(real: Callable[..., None]) -> Callable[..., None]:
        def write(attempt: Attempt, file: str, *more: object) -> None:
            if file == name:
                raise Cut
            real(attempt, file, *more)

        return write

    for how in ("put", "write"):
        monkeypatch.setattr(Attempt, how, cut(getattr(Attempt, how)))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Site]:
    """A node whose runner has reported once."""
    with running(tmp_path) as site:
        site.start()
        site.step()
        yield site


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(str(tmp_path / "node-n1"))
    made.make()
    return made


def cut(act: Callable[[], object]) -> None:
    with pytest.raises(Cut):
        act()


def test_what_is_begun_is_noted_before_it_is_prepared(up: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_before("order.json", monkeypatch)
    key = up.task(1, "run: echo once\n")
    up.assign()
    cut(up.step)
    assert [(told.id, told.attempt) for told in journal.of(up.place, {key})] == [(1, 1)]


def test_an_attempt_is_there_whole_or_not_at_all(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    cut_before("order.json", monkeypatch)
    cut(lambda: progress.prepare(place, "1.1", {"version": (1, 1)}))
    assert place.remembered() == [] and place.attempt("1.1").names() == set()


def test_what_is_settled_is_marked_before_its_outcome_is_told(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.prepare(place, "1.1", {"version": (1, 1)})
    cut_before("outcome", monkeypatch)
    cut(lambda: progress.settle(place, "1.1", Phase("never"), (1, 1)))
    assert place.attempt("1.1").has("marker")
    assert progress.stand(place.attempt("1.1")).phase == "never"


@pytest.mark.parametrize("want", ["run", "stop"])
def test_what_never_begins_is_marked_when_it_appears(up: Site, monkeypatch: pytest.MonkeyPatch, want: str) -> None:
    """An order of nothing that has no marker would be given to the starter for ever."""
    key = up.task(1, "run: echo once\n", want=want)
    if want == "run":
        (file,) = Path(up.spool.running).iterdir()
        file.unlink()
    up.assign()
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "mark", lambda *_, **__: (_ for _ in ()).throw(Cut))
        cut(up.step)
    up.kill()
    up.start()
    assert up.ended(key).phase == "never"
