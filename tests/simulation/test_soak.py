"""`make soak`: it runs, says how much, and fails where a run fails or a process of it is ended."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spoold.node import progress
from tests.simulation import plan, shrinking, soak

ROOT = Path(__file__).parents[2]
SEED = "1000"  # the first of those that `make simulate` goes through
BROKEN = 3  # a seed with which what is planted below is found


def test_a_second_of_it_ends_well_and_says_how_much_was_lived_through() -> None:
    command = [sys.executable, "-m", "tests.simulation.soak", "1", SEED]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT)
    found = re.fullmatch(r"(\d+) runs, (\d+) cluster-days, 0 failures\n", ran.stdout)
    assert ran.returncode == 0 and found, f"{ran.stdout}\n{ran.stderr}"
    assert int(found[2]) == 4 * int(found[1]) > 0


def test_a_planted_bug_is_found_told_with_its_seed_and_made_smaller(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "processes", lambda attempt: [])  # nobody looks for what is left of a job
    monkeypatch.setattr(shrinking, "RUNS", 5)
    monkeypatch.setattr(soak, "make", lambda seed: plan.make(seed, only=("kill supervisor",)))
    monkeypatch.setenv("SOAK_ALONE", "1")
    assert soak.main(["0.01", str(BROKEN)]) == 1
    first, *story, last = capsys.readouterr().out.splitlines()
    assert re.match(rf"seed {BROKEN} fails: .*(P3|lives)", first), first
    assert story[0].startswith(f"seed {BROKEN}, ") and any("kill supervisor" in line for line in story)
    assert last == "1 runs, 4 cluster-days, 1 failures"


@pytest.mark.parametrize(("codes", "code"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((0, -9), 1), ((-9, 0), 1)])
def test_it_fails_where_one_of_its_processes_does_however_that_ended(
    codes: tuple[int, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(codes)

    class Ended:
        def __init__(self, command: list[str], env: dict[str, str]) -> None:
            assert command[-1] == "7" and env["SOAK_ALONE"]

        def wait(self) -> int:
            return left.pop(0)

    monkeypatch.setattr(soak.subprocess, "Popen", Ended)
    monkeypatch.delenv("SOAK_ALONE", raising=False)
    assert soak.main(["7"]) == code
    assert left == [], "each is waited for"


def test_make_hands_seconds_and_seed_on() -> None:
    told = subprocess.run(
        ["make", "--dry-run", "soak", "SECONDS=7", "SEED=12"], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert told.stdout.splitlines()[-1] == ".venv/bin/python -m tests.simulation.soak 7 12"
