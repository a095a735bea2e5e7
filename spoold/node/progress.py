"""Where an attempt stands on this node, and moving it on: preparing, stopping, cleaning up, forgetting.

All of it is read from the attempt's directory, so that a runner that was killed goes on where it was. Each step may be
cut and done again:

    prepared   the directory appears whole, by rename; nothing was started
    marked     by the starter: it was started, and never will be again; by the runner: it never will be
    exited     run.exit or setup.exit is there, or the supervisor is dead; processes may be left
    over       no process is left: run.exit or setup.exit says so, or `outcome` does, with the last phase
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import Any

import msgspec

from spool_layout.records import Phase
from spoold.local import boot_id
from spoold.node import cgroups, containment
from spoold.node.cgroups import Group
from spoold.node.containment import Process
from spoold.node.rights import may_raise
from spoold.node.workplace import Attempt, Workplace, boot_time, is_alive, read, start_time


def prepare(place: Workplace, key: str, order: dict[str, Any], begins: bool = True) -> None:
    """Make an attempt's directory, whole. begins: else the marker is in it from the first, so that no starter is ever
    given it."""
    private = os.path.join(place.attempts, f".{key}")
    shutil.rmtree(private, ignore_errors=True)
    os.mkdir(private, 0o700)
    if place.shared:  # the job's owner makes one file in it with this group, and passes
        os.chmod(private, 0o771)
    draft = Attempt(private)
    draft.put("order.json", json.dumps(order), 0o600)
    if not begins:
        draft.mark("runner")
    os.rename(private, place.attempt(key).path)


def settle(place: Workplace, key: str, phase: Phase, version: tuple[int, int]) -> None:
    """Record that an attempt is over without having been started here (any more): the marker, then the outcome."""
    attempt = place.attempt(key)
    if not attempt.names():
        prepare(place, key, {"version": version}, begins=False)
    attempt.mark("runner")
    attempt.write("outcome", msgspec.to_builtins(phase))


def stand(attempt: Attempt) -> Phase:
    """Where the attempt stands, by what is in its directory."""
    names = attempt.names()
    if "outcome" in names:
        return msgspec.convert(attempt.read("outcome"), Phase)
    if "marker" not in names:
        return Phase("starting")
    if attempt.marker["by"] == "runner":
        return Phase("never", reason="was marked never to be started")  # cut before its outcome was written
    if "fail" in names and (failed := attempt.read("fail")):
        return Phase("exited", stage="setup", code=1, reason=failed["reason"])
    if "run.exit" in names:
        return _exited(attempt, "run", names, last=True)
    if "setup.exit" in names:
        has_run = "run" in attempt.stages()
        setup = _exited(attempt, "setup", names, last=not has_run)
        if setup.code:
            return setup
        if not has_run:
            return msgspec.structs.replace(setup, stage="run")
        return _live(attempt, "running", "run") if "run.pid" in names else Phase("ready", stage="setup")
    if "run.pid" in names:
        return _live(attempt, "running", "run")
    return _live(attempt, "setup", "setup") if "setup.pid" in names else Phase("starting")


def recorded(attempt: Attempt) -> Phase | None:
    """The last phase of an attempt that is over, if it was written."""
    outcome = attempt.read("outcome")
    return msgspec.convert(outcome, Phase) if outcome else None


def is_orphaned(attempt: Attempt, phase: Phase) -> bool:
    """Whether the attempt was begun, is not over, and its supervisor is dead."""
    begun = phase.phase in ("starting", "setup", "ready", "running") and attempt.is_marked()
    return begun and supervisor(attempt) is None


def _exited(attempt: Attempt, stage: str, names: set[str], last: bool) -> Phase:
    """How a stage ended; and the attempt, where it was the last one and nothing is left, not in containers either."""
    end = attempt.read(f"{stage}.exit")
    began = attempt.read(f"{stage}.pid") if f"{stage}.pid" in names else None
    over = end["gone"] and (last or end["code"]) and not ("containers" in names and attempt.calls_engines())
    return Phase(
        "ended" if over else "exited",
        stage=stage,
        code=end["code"],
        ended_at=end["at"],
        pid=began["pid"] if began else 0,
        started_at=began["at"] if began else None,
        reason="ended by its node, which had lost contact" if end["fenced"] else end.get("reason", ""),
        fenced=end["fenced"],
    )


def _live(attempt: Attempt, phase: str, stage: str) -> Phase:
    began = attempt.read(f"{stage}.pid")
    return Phase(phase, stage=stage, pid=began["pid"], started_at=began["at"])


def supervisor(attempt: Attempt) -> Process | None:
    """The supervisor of an attempt, if it lives."""
    marker = attempt.marker or {}
    if marker.get("by") != "supervisor" or marker["boot"] != boot_id() or not is_alive(marker["pid"], marker["start"]):
        return None
    if may_raise() and not is_of_starter(marker["pid"]):
        return None  # the marker is the account's word
    return Process(marker["pid"], marker["start"])


def is_of_starter(pid: int) -> bool:
    """Whether a process has our mixture of rights, which only a starter of several users' jobs and its forks have."""
    lines = (read(f"/proc/{pid}/status") or "").splitlines()
    ids = next((line.split()[1:] for line in lines if line.startswith("Uid:")), [])
    return ids[:3] == ["0", str(os.geteuid()), "0"]


def is_gone(attempt: Attempt) -> bool:
    """Whether the supervisor said that nothing of an attempt is left: as the last thing, or with its last stage."""
    names = attempt.names()
    if "gone" in names:
        return True
    last = "run" if "run.exit" in names else "setup" if "setup.exit" in names else ""
    if not last:
        return False
    end = attempt.read(f"{last}.exit")
    goes_on = last == "setup" and end["code"] == 0 and "run" in attempt.stages()
    return bool(end["gone"]) and not goes_on


def group(attempt: Attempt) -> Group:
    """The cgroups of an attempt, as its marker names them. With root's rights none is taken at its word: what the
    present starter would name, it is."""
    if may_raise():
        return cgroups.here().group(attempt.path, 1)
    return Group(**(attempt.marker or {}).get("cgroups", {}))


def processes(attempt: Attempt) -> list[Process]:
    """Every live process of the attempt, its supervisor left out."""
    if (attempt.marker or {}).get("boot") != boot_id():
        return []  # a reboot has ended them; their numbers may be others' by now
    watcher = supervisor(attempt)
    found = containment.of_groups([group(attempt)])
    if watcher is not None:
        return [*dict.fromkeys([*containment.below(watcher.pid), *found])]
    return [*dict.fromkeys([*containment.of_attempt(attempt.path, roots(attempt)), *found])]


def roots(attempt: Attempt) -> list[int]:
    """Pids of the stages that are recorded and still live."""
    began = [attempt.read(f"{stage}.pid") for stage in ("setup", "run")]
    found = [int(one["pid"]) for one in began if one and start_time(one["pid"]) == one["start"]]
    if may_raise():  # not on the account's word alone
        return [pid for pid in found if containment.marked(pid, attempt.path)]
    return found


class Ending:
    """Ends processes of attempts: SIGTERM, then SIGKILL after the grace time, until none is left."""

    def __init__(self, grace: float) -> None:
        self.grace = grace

    def step(self, attempt: Attempt) -> bool:
        """Signal what is left of an attempt, as is due now. True: nothing is left, and nothing will come."""
        if is_gone(attempt):
            return True
        since = attempt.read("stop")
        if since is None:  # before it is looked who is below its supervisor, which goes on to another attempt without
            attempt.write("stop", {"at": boot_time()})
            if is_gone(attempt):
                return True
        found, watcher = processes(attempt), supervisor(attempt)
        if not found and watcher is None and group(attempt).is_empty():
            return True
        if since is not None and boot_time() - since["at"] >= self.grace:
            self._kill(attempt, found, watcher)
        elif not attempt.has("asked"):
            self._ask(found, watcher)
            attempt.write("asked", {"at": boot_time()})
        return False

    def _ask(self, found: list[Process], watcher: Process | None) -> None:
        for process in found:
            containment.signal_process(process, signal.SIGTERM)
            containment.signal_process(process, signal.SIGCONT)  # a stopped process cannot heed it
        if watcher is not None:
            containment.signal_process(watcher, signal.SIGUSR1)  # it may be waiting for `go`

    def _kill(self, attempt: Attempt, found: list[Process], watcher: Process | None) -> None:
        group(attempt).kill()
        for process in found:
            containment.signal_process(process, signal.SIGKILL)
        if watcher is None:
            return
        if not attempt.has("kill"):
            attempt.write("kill", {"at": boot_time()})
        for number in (signal.SIGCONT, signal.SIGUSR1):  # the job may have stopped it
            containment.signal_process(watcher, number)


def close(attempt: Attempt, phase: Phase) -> Phase:
    """Nothing of the attempt is left: write its last phase."""
    known = phase.phase in ("exited", "ended")
    last = msgspec.structs.replace(phase, phase="ended" if known else "lost")
    attempt.write("outcome", msgspec.to_builtins(last))
    group(attempt).remove()  # where its supervisor could not
    return last


def forget(attempt: Attempt) -> None:
    """Take an attempt's directory away: out of sight first, so that a half-removed one is never seen."""
    group(attempt).remove()  # where its supervisor could not
    hidden = os.path.join(os.path.dirname(attempt.path), f".old-{attempt.key}")
    try:
        os.rename(attempt.path, hidden)
    except OSError:
        pass
    shutil.rmtree(hidden, ignore_errors=True)
