"""Where an attempt stands on this node, and moving it on: preparing, stopping, cleaning up, forgetting.

All of it is read from the attempt's directory, so that a runner that was killed goes on where it was. Each step may be
cut and done again:

    prepared   the directory appears whole, by rename; nothing was started
    marked     by the starter: it was started, and never will be again; by the runner: it never will be
    exited     run.exit or setup.exit is there, or the starter is dead; processes may be left
    over       `outcome` says the last phase: no process is left
"""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

import msgspec

from spool_layout.records import Phase
from spoold.local import boot_id
from spoold.node import containment
from spoold.node.containment import Process
from spoold.node.workplace import Attempt, Workplace, boot_time, is_alive, read_json, start_time


def prepare(place: Workplace, key: str, order: dict[str, Any], scripts: dict[str, str]) -> None:
    """Make an attempt's directory, whole."""
    private = os.path.join(place.attempts, f".{key}")
    shutil.rmtree(private, ignore_errors=True)
    os.mkdir(private, 0o700)
    draft = Attempt(private)
    for name, text in scripts.items():
        with open(draft.file(name), "w", encoding="utf-8") as file:
            file.write(text)
    draft.write("order.json", order)
    os.rename(private, place.attempt(key).path)


def settle(place: Workplace, key: str, phase: Phase, version: tuple[int, int]) -> None:
    """Record that an attempt is over without having been started here (any more): the marker, then the outcome."""
    attempt = place.attempt(key)
    if not attempt.names():
        prepare(place, key, {"version": version}, {})
    attempt.mark("runner")
    attempt.write("outcome", msgspec.to_builtins(phase))


def stand(attempt: Attempt) -> Phase:
    """Where the attempt stands, by what is in its directory."""
    names = attempt.names()
    if "outcome" in names:
        return msgspec.convert(attempt.read("outcome"), Phase)
    if "marker" not in names:
        return Phase("starting")
    if attempt.read("marker")["by"] == "runner":
        return Phase("never", reason="was marked never to be started")  # cut before its outcome was written
    if "fail" in names:
        reason = attempt.read("fail")["reason"]
        return Phase("exited", stage="setup", code=1, reason=reason)
    if "run.exit" in names:
        return _exited(attempt, "run", names)
    if "setup.exit" in names:
        setup = _exited(attempt, "setup", names)
        if setup.code:
            return setup
        if "run.sh" not in names:
            return msgspec.structs.replace(setup, stage="run")
        return _live(attempt, "running", "run") if "run.pid" in names else Phase("ready", stage="setup")
    if "run.pid" in names:
        return _live(attempt, "running", "run")
    return _live(attempt, "setup", "setup") if "setup.pid" in names else Phase("starting")


def _exited(attempt: Attempt, stage: str, names: set[str]) -> Phase:
    end = attempt.read(f"{stage}.exit")
    began = attempt.read(f"{stage}.pid") if f"{stage}.pid" in names else None
    fenced = "fenced" in names
    return Phase(
        "exited",
        stage=stage,
        code=end["code"],
        ended_at=end["at"],
        pid=began["pid"] if began else 0,
        started_at=began["at"] if began else None,
        reason="ended by its node, which had lost contact" if fenced else "",
        fenced=fenced,
    )


def _live(attempt: Attempt, phase: str, stage: str) -> Phase:
    began = attempt.read(f"{stage}.pid")
    return Phase(phase, stage=stage, pid=began["pid"], started_at=began["at"])


def supervisor(attempt: Attempt) -> int | None:
    """The pid of the starter that spawned it, if it lives."""
    marker = attempt.read("marker") or {}
    alive = marker.get("boot") == boot_id() and is_alive(marker["pid"], marker["start"])
    return int(marker["pid"]) if alive and marker["by"] == "starter" else None


def processes(attempt: Attempt) -> list[Process]:
    """Every live process of the attempt."""
    roots = []
    for stage in ("setup", "run"):
        began = attempt.read(f"{stage}.pid")
        if began and start_time(began["pid"]) == began["start"]:
            roots.append(int(began["pid"]))
    return containment.of_attempt(attempt.path, roots, supervisor(attempt))


class Ending:
    """Ends processes of attempts: SIGTERM, then SIGKILL after the grace time, until none is left."""

    def __init__(self, grace: float) -> None:
        self.grace = grace

    def step(self, attempt: Attempt) -> bool:
        """Signal what is left of an attempt, as is due now. True: nothing is left."""
        found = processes(attempt)
        if not found:
            return True
        since = read_json(attempt.file("stop"))
        if since is None:
            attempt.write("stop", {"at": boot_time()})
            number: int | None = signal.SIGTERM
        else:
            number = signal.SIGKILL if boot_time() - since["at"] >= self.grace else None
        if number is not None:
            for process in found:
                containment.signal_process(process, number)
                if number == signal.SIGTERM:
                    containment.signal_process(process, signal.SIGCONT)  # a stopped process cannot heed it
        return False


def close(attempt: Attempt, phase: Phase) -> Phase:
    """Nothing of the attempt is left: write its last phase."""
    known = phase.phase == "exited"
    last = msgspec.structs.replace(phase, phase="ended" if known else "lost")
    attempt.write("outcome", msgspec.to_builtins(last))
    return last


def forget(attempt: Attempt) -> None:
    """Take an attempt's directory away: out of sight first, so that a half-removed one is never seen."""
    hidden = os.path.join(os.path.dirname(attempt.path), f".old-{attempt.key}")
    try:
        os.rename(attempt.path, hidden)
    except OSError:
        pass
    shutil.rmtree(hidden, ignore_errors=True)
