"""What a job costs the head in calls of the port, from drop to done, exactly: for each job, and for all of one tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spool_layout import stamps
from spool_layout.storage import Disk
from spoold.head import term
from tests.head.stage import Stage

CALLS = [name for name in vars(Disk) if not name.startswith("_")]


class Counting(Disk):
    """Counts the calls that a head makes, by name; one that another makes for its own sake too."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()


def counted(name: str) -> Callable[..., Any]:
    """A call of the port, noted."""
    real = getattr(Disk, name)

    def call(self: Counting, *args: Any, **more: Any) -> Any:
        self.made[name] += 1
        return real(self, *args, **more)

    return call


for _name in CALLS:
    setattr(Counting, _name, counted(_name))


def cost(folder: Path, jobs: int) -> tuple[Counter[str], list[Counter[str]]]:
    """The calls that so many jobs cost that arrive, start and end together: in all, and by tick."""
    stage = Stage(folder, disk := Counting())
    stage.node("n1", gpus=20)
    stage.run()
    for number in range(jobs):
        stage.drop(f"j{number}")
    ticks: list[Counter[str]] = []
    tick = term.Term.tick

    def noted(self: term.Term, nodes_only: bool = False) -> bool:
        before = disk.made.copy()
        happened = tick(self, nodes_only)
        ticks.append(disk.made - before)
        return happened

    disk.made.clear()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stamps, "SETTLED", 1 << 62)  # no stamp spares a reading: that depends on the time
        patched.setattr(term.Term, "tick", noted)
        stage.run()
        stage.finish(*(f"j{number}" for number in range(jobs)))
    assert stage.term is not None and len(stage.term.state.ended) == jobs
    return disk.made, ticks


def test_a_job_costs_one_stat_one_reading_and_three_moves(tmp_path: Path) -> None:
    few, many = cost(tmp_path / "few", 3)[0], cost(tmp_path / "many", 13)[0]
    # what was claimed is what was read; read, which tells who dropped it; to claims/, to running/, to done/
    assert many - few == {"stat": 10, "inspect": 10, "move": 3 * 10} and few - many == {}


def test_a_tick_syncs_as_often_for_thirteen_jobs_as_for_three(tmp_path: Path) -> None:
    """The claim directory, the events, assigned.json of the one node; looks at the rest."""

    def syncs(ticks: list[Counter[str]]) -> list[tuple[int, int, int]]:
        return [(tick["sync"], tick["append"], tick["publish"]) for tick in ticks]

    few, many = syncs(cost(tmp_path / "few", 3)[1]), syncs(cost(tmp_path / "many", 13)[1])
    assert few == many and max(map(sum, few)) == 3
