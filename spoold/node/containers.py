"""Containers that a job started: found by their label, and stopped.

docker's containers are children of its daemon, and podman's of a monitor that leaves the job, so a search for the job's
processes finds neither. The job's `docker` and `podman` are wrappers (see wrappers/docker) that give each container the
label skyspool.attempt=SPOOL-ID/JOB.ATTEMPT and note in the attempt's file `containers`, before they call the engine,
how it is called: one JSON object a line, with the program's path, its options before the command, and what of the
environment tells it where its containers are. The same call, with another command, finds and stops them.

What runs is stopped as the job's processes are: SIGTERM (or the image's own stop signal), after the grace time SIGKILL.
The SIGKILL comes a little before that of the processes, for podman's monitor may be one of them: killed before its
container has ended, it can neither tell podman of it nor remove what was started with `--rm`. Paused containers go on
first, or they could not heed the SIGTERM. docker's `--restart=always` is taken back, or the container would run again
after the next boot. Nothing is removed by us.

A container may start while its job is swept: a `docker run` that was killed may have asked the daemon already. So the
engine is asked again until a listing shows nothing that runs and, while one shows a container that was made and never
started, until that has not changed for SETTLE seconds. States are asked for by `inspect`, which waits for a start that
is under way, as `ps` does not. A sweep that begins when the job's last process is gone thus leaves nothing behind.

Everything is bounded: an engine that does not answer is given up PATIENCE seconds after the grace time, one that
answers with errors only (its daemon is down) after a few. That is logged, and the answer is False: containers may still
run. An engine that is not installed (any more) has none.

What a job wrote into the notes is called with the rights of this process: that of the job's owner (ender.py does it as
them where the runner is somebody else), whose the notes have to be.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import msgspec

from spoold.node.containment import stat_fields

log = logging.getLogger("spoold.node")

LABEL = "skyspool.attempt"
NOTES = "containers"  # the attempt's file in which the wrappers note how they call an engine
NOTES_SIZE, MOST = 1 << 20, 16  # bytes of it that are read, and ways of calling that are followed
PATIENCE = 30.0  # seconds beyond the grace time that an engine may take for everything
ANSWER = 10.0  # seconds that it may take for one answer
TRIES, RETRY = 5, 1.0  # errors in a row, so many seconds apart, after which it is given up
SETTLE = 1.0  # seconds within which a start that was asked for shows
PAUSE = 0.1  # seconds between two looks
AHEAD = 1.0  # seconds, or half the grace time, by which the SIGKILL comes before that of the job's processes
AT_REST = frozenset({"created", "exited", "stopped", "dead", "removing"})
INSPECT = "{{.Id}} {{.State.Status}} {{.State.Pid}} {{.HostConfig.RestartPolicy.Name}}"
INSPECTED = re.compile(r"(\S+) (\S+) (\d+) (\S*)")


class Unanswered(Exception):
    """An engine failed or did not answer in time; the text says how."""


class Engine(msgspec.Struct, frozen=True):
    """How to call an engine. engine: "docker" or "podman"; cwd: "" where nothing depends on it."""

    engine: str
    path: str
    flags: tuple[str, ...] = ()
    cwd: str = ""
    env: tuple[tuple[str, str], ...] = ()

    def call(self, words: Iterable[str], seconds: float) -> str:
        """What a command of it prints, though it may end with an error.

        Unanswered: nothing printed and an error, or not over within that time (it is killed then).
        FileNotFoundError: there is no such program.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            code = end_within(self.spawn(words, out, errors), seconds)
            text = contents(out)
            if code is None:
                raise Unanswered(f"no answer within {seconds:.0f} s")
            if code and not text.strip():
                raise Unanswered((contents(errors).strip().splitlines() or [f"it ended with {code}"])[-1])
            return text

    def spawn(self, words: Iterable[str], out: IO[bytes], errors: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a command of it. Into files, for what it leaves behind would keep a pipe open."""
        try:
            return subprocess.Popen(
                [self.path, *self.flags, *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=self.cwd if os.path.isdir(self.cwd) else "/",
                env=dict(self.env),
                start_new_session=True,
            )
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise Unanswered(str(error)) from error


def end_within(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The exit code of a process that leads its group; None: it took longer, and the group was killed."""
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        pass  # it hangs in the kernel: nobody waits for it
    return None


def contents(file: IO[bytes]) -> str:
    """All that was written to a file."""
    file.seek(0)
    return file.read().decode("utf-8", "replace")


# ---- all engines of an attempt


def stop_all(
    attempt_key: str,
    spool_id: str,
    grace: float,
    directory: str | None = None,
    patience: float = PATIENCE,
    tries: int = TRIES,
) -> bool:
    """Stop every container of an attempt. False: an engine was given up, and containers of it may still run.

    grace, patience: seconds; tries: of an engine that answers with errors only; as above. directory: the attempt's,
    where the notes are; without it, or where a note cannot be read, docker and podman are asked as this process finds
    them. Returns within grace, patience and a few seconds.
    """
    label = f"{LABEL}={spool_id}/{attempt_key}"
    sweeps = [Sweep(engine, label, grace, patience, tries) for engine in called(directory)]
    threads = [threading.Thread(target=sweep.run, daemon=True) for sweep in sweeps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return all(sweep.done for sweep in sweeps)


def called(directory: str | None) -> list[Engine]:
    """The engines that an attempt called, each way of calling once."""
    if directory is None:
        return list(installed())
    try:
        with open(os.path.join(directory, NOTES), encoding="utf-8", errors="surrogateescape", opener=_own) as file:
            lines = file.read(NOTES_SIZE).splitlines()
    except FileNotFoundError:
        return []  # it called none
    ways = dict.fromkeys(engine for line in lines for engine in read_note(line))
    if len(ways) > MOST:
        log.warning("%s tells of %d ways to call an engine: follows the first %d", file.name, len(ways), MOST)
    return list(ways)[:MOST]


def _own(path: str, flags: int) -> int:
    """Opens notes that this user wrote: who could write them could make us run anything. PermissionError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "is somebody else's", path)
    return descriptor


def read_note(line: str) -> list[Engine]:
    """The engine that a note tells of; where it tells nothing, those that are installed."""
    try:
        noted = json.loads(line, strict=False)  # the wrapper leaves control characters as they are
        noted["env"] = list(noted["env"].items())
        return [msgspec.convert(noted, Engine)]
    except (ValueError, TypeError, LookupError, AttributeError):
        log.warning("cannot read how a container was started: %r", line[:200])
        return list(installed())


def installed() -> Iterator[Engine]:
    """The engines on this process's own PATH."""
    for name in ("docker", "podman"):
        path = shutil.which(name)
        if path is not None:
            yield Engine(name, path, env=tuple(os.environ.items()))


# ---- one engine


class Container(NamedTuple):
    """What an engine says of a container: its state, its first process, and when it starts it again by itself."""

    state: str = "unknown"
    pid: int = 0
    restart: str = ""

    @property
    def rests(self) -> bool:
        """Whether nothing of it runs. podman takes what lost its monitor for "stopping" for ever."""
        return self.state in AT_REST or (self.state == "stopping" and not runs(self.pid))


def runs(pid: int) -> bool:
    """Whether there is such a process; one that ended and was not reaped is none."""
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in "ZX"


class Sweep:
    """Stops what carries a label in one engine. done: nothing of it runs any more."""

    def __init__(self, engine: Engine, label: str, grace: float, patience: float, tries: int = TRIES) -> None:
        self.engine, self.label, self.tries, self.done = engine, label, tries, False
        began = time.monotonic()
        self.kill_at, self.give_up_at = began + grace - min(AHEAD, grace / 2), began + grace + patience
        self.quiet_since: float | None = None
        self.told: set[str] = set()

    def run(self) -> None:
        """Until nothing runs, or the engine is given up."""
        errors, trouble = 0, "containers still run"
        while errors < self.tries and time.monotonic() < self.give_up_at:
            try:
                self.done = self.step()
                errors = 0
            except FileNotFoundError:
                self.done = True  # not installed
            except Unanswered as error:
                errors, trouble = errors + 1, str(error)
            if self.done:
                return
            if errors < self.tries:
                time.sleep(RETRY if errors else PAUSE)
        log.error("%s is given up; containers labelled %s may still run: %s", self.engine.path, self.label, trouble)

    def step(self) -> bool:
        """Look, and stop what runs. True: nothing does, and nothing is about to."""
        found = self.find()
        live = {ident: container for ident, container in found.items() if not container.rests}
        if live:
            self.quiet_since = None
            self.stop(live)
            return False
        if self.quiet_since is None:
            self.quiet_since = time.monotonic()
        waiting = any(container.state == "created" for container in found.values())
        return not waiting or time.monotonic() - self.quiet_since >= SETTLE

    def find(self) -> dict[str, Container]:
        """Every container with the label, by its ID. What is listed and cannot be looked at counts as running."""
        listed = self.ask("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={self.label}").split()
        return dict.fromkeys(listed, Container()) | (self.inspect(listed) if listed else {})

    def inspect(self, idents: list[str]) -> dict[str, Container]:
        """What the engine says of these containers; those that just went away are left out."""
        try:
            told = self.ask("inspect", "--type=container", f"--format={INSPECT}", *idents)
        except Unanswered as error:
            log.debug("%s inspect: %s", self.engine.path, error)
            return {}
        found = {}
        for line in told.splitlines():
            if match := INSPECTED.fullmatch(line):
                found[match[1]] = Container(match[2], int(match[3]), match[4])
        return found

    def stop(self, live: dict[str, Container]) -> None:
        """Stop these, however little time there is."""
        self.tell(live)
        paused = [ident for ident, container in live.items() if container.state == "paused"]
        always = [ident for ident, container in live.items() if container.restart == "always"]
        if paused:
            self.attempt("unpause", *paused)
        if always and self.engine.engine == "docker":
            self.attempt("update", "--restart=no", *always)
        grace = self.kill_at - time.monotonic()
        if grace > 0:
            self.attempt("stop", "-t", str(math.ceil(grace)), *live, more=grace)
        else:
            self.attempt("kill", *live)
            self.attempt("stop", "-t", "0", *live)  # what cannot be killed can be stopped: it is about to start

    def tell(self, live: dict[str, Container]) -> None:
        """Log what is stopped, each container once."""
        new = [ident[:12] for ident in live if ident not in self.told]
        self.told.update(live)
        if new:
            log.info("%s: stops %s, labelled %s", self.engine.path, ", ".join(new), self.label)

    def ask(self, *words: str, more: float = 0.0) -> str:
        """What the engine answers in the time that is left, ANSWER seconds (and more) at most."""
        return self.engine.call(words, min(ANSWER + more, max(1.0, self.give_up_at - time.monotonic())))

    def attempt(self, *words: str, more: float = 0.0) -> None:
        """Have the engine do something; whether it was done the next listing tells."""
        try:
            self.ask(*words, more=more)
        except Unanswered as error:
            log.debug("%s %s: %s", self.engine.path, words[0], error)
