"""Containers that a job started: found by their label, and stopped.

docker's containers are children of its daemon, and podman's of a monitor that leaves the job, so a search for the job's
processes finds neither. The job's `docker` and `podman` are wrappers (see wrappers/docker) that give each container the
label skyspool.attempt=SPOOL-ID/JOB.ATTEMPT and note in the attempt's file `containers`, before they call the engine,
how it is called: one JSON object a line, with the program's path, its options before the command, and what of the
environment tells it where its containers are. The same call, with another command, finds and stops them.

What runs is stopped as the job's processes are: SIGTERM (or the image's own stop signal), after the grace time SIGKILL.
Paused ones go on first, or they could not heed it. docker's `--restart=always` is taken back, or the container would
run again after the next boot. Nothing is removed but what was started with `--rm`, which the engine itself removes.

A container may start while its job is swept: a `docker run` that was killed may have asked the daemon already. So the
engine is asked again until a listing shows nothing that runs, and, while one shows a container that was made and never
started, until that has not changed for SETTLE seconds. The states are asked for by `inspect`, which waits for a start
that is under way, as `ps` does not. Swept after its last process is gone, a job starts nothing any more.

Everything is bounded: an engine that does not answer is given up PATIENCE seconds after the grace time, one that answers
with errors only (its daemon is down) after TRIES. That is logged, and the answer is False: containers may still run. An
engine that is not installed (any more) has none.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

import msgspec

log = logging.getLogger("spoold.node")

LABEL = "skyspool.attempt"
NOTES = "containers"  # the attempt's file in which the wrappers note how they called an engine
PATIENCE = 30.0  # seconds beyond the grace time that an engine may take for everything
TRIES = 5  # errors in a row, a second apart, after which an engine is given up
SETTLE = 1.0  # seconds in which a start that was asked for shows
PAUSE = 0.1  # seconds between two listings
AT_REST = frozenset({"created", "exited", "stopped", "dead", "removing"})
INSPECT = "{{.Id}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}"


class Engine(msgspec.Struct, frozen=True):
    """How to call an engine. engine: "docker" or "podman"; cwd: "" if no flag depends on it."""

    engine: str
    path: str
    flags: tuple[str, ...] = ()
    cwd: str = ""
    env: tuple[tuple[str, str], ...] = ()

    def call(self, words: Sequence[str], seconds: float) -> tuple[int | None, str]:
        """Run a command of it: exit code and what it printed. None: no answer within that time, and it was killed.

        It writes to a file and not to a pipe, which a descendant that it leaves behind would keep open.
        """
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(
                [self.path, *self.flags, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                cwd=self.cwd if os.path.isdir(self.cwd) else "/",
                env=dict(self.env),
                start_new_session=True,
            )
            code = end_within(process, seconds)
            out.seek(0)
            return code, out.read().decode("utf-8", "replace")


def end_within(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code of a process that leads its group; None: it took longer, and its group was killed."""
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        pass  # it hangs in the kernel; nobody waits for it
    return None


# ---- which engines


def stop_all(
    attempt_key: str, spool_id: str, grace: float, directory: str | None = None, patience: float = PATIENCE
) -> bool:
    """Stop every container of an attempt. False: an engine was given up, and containers of it may still run.

    grace, patience: seconds, see above. directory: the attempt's, where the wrappers noted which engines it called, and
    how; without it, or where a note cannot be read, docker and podman are asked as this process finds them. Never raises
    for what engines do.
    """
    label = f"{LABEL}={spool_id}/{attempt_key}"
    sweeps = [Sweep(engine, label, grace, patience) for engine in called(directory)]
    return all([sweep.run() for sweep in sweeps])  # a list: every engine is swept


def called(directory: str | None) -> list[Engine]:
    """The engines that an attempt called, each way of calling once."""
    if directory is None:
        return list(installed())
    with open(os.path.join(directory, NOTES), encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()
    engines = {engine: None for line in lines for engine in read_note(line)}
    return list(engines)


def read_note(line: str) -> list[Engine]:
    """The engine that a line of notes tells of; where it tells nothing, all that are installed."""
    try:
        noted = json.loads(line, strict=False)  # the wrapper leaves control characters as they are
        noted["env"] = list(noted["env"].items())
        return [msgspec.convert(noted, Engine)]
    except (ValueError, TypeError, LookupError, AttributeError):
        log.warning("cannot read how a container was started: %r", line)
        return list(installed())


def installed() -> Iterator[Engine]:
    """The engines on this process's own PATH."""
    for name in ("docker", "podman"):
        path = shutil.which(name)
        if path is not None:
            yield Engine(name, path, env=tuple(os.environ.items()))


# ---- sweeping one


class Sweep:
    """Stops what carries a label in one engine."""

    def __init__(self, engine: Engine, label: str, grace: float, patience: float) -> None:
        self.engine, self.label = engine, label
        self.began = time.monotonic()
        self.kill_at = self.began + grace
        self.give_up_at = self.kill_at + patience
        self.quiet_since: float | None = None
        self.told: set[str] = set()

    def run(self) -> bool:
        """Until nothing runs. False: given up."""
        errors = 0
        while self.left() > 0 and errors < TRIES:
            try:
                found = self.find()
            except FileNotFoundError:
                return True  # not installed
            except (OSError, NoAnswer) as error:
                ...
        return self.give_up()
