"""What a node keeps on its own disk: one directory for each spool and node name.

    lock             held (flock) by the runner for its life: one runner for each name on a host
    starter.lock     held (flock) by the starter for its life; its supervisors close it
    memory           a random id; status.json names it, so that a runner can tell that this directory was lost
    rival            the last beat of a runner of this name that cron drives, with local state of its own; since when
    renewed          when the runner last wrote status.json: boot id, CLOCK_BOOTTIME, its limit in seconds, lapses
    begun            which attempts were ever begun here, and by which version
    orders, bell     FIFOs: runner to starter ("look at attempts/KEY"), supervisors to runner ("something changed")
    attempts/KEY/    one attempt:
        order.json       what to spawn, the commands too; made whole under another name, moved here with its directory
        go               run may begin when setup is over, where the order does not say so
        marker           put there if absent, as the last act before a spawn: from here on it is never started again;
                         who put it, and the attempt's cgroups
        setup.pid, run.pid      the process: pid, start time, wall clock
        setup.exit, run.exit    how it ended; and whether nothing of the attempt is left
        gone             nothing of the attempt is left (where something was, when its last stage had ended)
        fail             why it could not even be started
        stop             since when its processes are being ended
        asked            they were asked to (SIGTERM)
        kill             the grace time is over: its supervisor, too, kills what is left
        git-config, git-config.password    the login to the repository that was cloned (gitlogin.py)
        containers       how the job's container wrappers called their engines
        swept            those containers were stopped, after its last process was gone
        outcome          the last phase, when every process is gone, where run.exit or setup.exit does not say so

No more files than that: where many were deleted in the last minutes, as here, ext4 takes a third of a millisecond to
make one. Everything is written whole (private name, then rename or link), and none of it is fsynced: what would lose it
is a reboot, and a reboot ends the processes too; the attempt then counts as lost.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import time
from typing import Any

from spool_layout.errors import Taken
from spoold.local import boot_id

FOR_OWNERS = 0o644  # of what a job's owner reads before the exec; nothing of anybody's is in it
PAGE, PIECE = 4096, 65536  # bytes: the kernel's smallest page, and what is read at once
TRIES = 20  # of a lock: whoever asks whether it is held holds it for an instant


class Workplace:
    """The directory of one node of one spool on this host. shared: it serves several users' jobs."""

    def __init__(self, path: str, shared: bool = False) -> None:
        self.path, self.shared = path, shared
        self.attempts = os.path.join(path, "attempts")
        self.orders, self.bell = os.path.join(path, "orders"), os.path.join(path, "bell")

    def make(self) -> None:
        """Make what is missing of it."""
        os.makedirs(self.attempts, 0o700, exist_ok=True)
        if self.shared:  # jobs' owners have to pass, and know what to ask for
            spool = os.path.dirname(self.path)
            for directory in (os.path.dirname(spool), spool, self.path, self.attempts):
                os.chmod(directory, 0o711)
        for fifo in (self.orders, self.bell):
            try:
                os.mkfifo(fifo, 0o600)
            except FileExistsError:
                pass
        if not os.path.exists(self._file("memory")):
            link_new(self._file("memory"), os.urandom(8).hex())

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    @functools.cached_property
    def memory(self) -> str:
        """The id of this directory's content."""
        return read(self._file("memory")) or ""

    def attempt(self, key: str) -> Attempt:
        """The place of one attempt."""
        return Attempt(os.path.join(self.attempts, key))

    def remembered(self) -> list[str]:
        """Keys of all attempts that are remembered."""
        return [name for name in os.listdir(self.attempts) if not name.startswith(".")]

    # ---- locks

    def keep_from_cleaners(self) -> int:
        """Hold a shared lock on the base of all local state: systemd-tmpfiles(8), which empties /var/tmp of what is a
        month old, passes over a locked directory and all below it. Jobs may run for longer than a month."""
        base = os.open(os.path.dirname(os.path.dirname(self.path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(base, fcntl.LOCK_SH)
        return base

    def lock_runner(self) -> int:
        """Hold the runner's lock for life. Taken: another runner has this name on this host."""
        for _ in range(TRIES):
            descriptor = try_lock(self._file("lock"))
            if descriptor is not None:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
            time.sleep(0.05)
        raise Taken(
            f"this node already has a runner on this host, pid {read(self._file('lock'))}",
            "stop it, or start this one under another name: spoold node DIR --name NAME",
        )

    def lock_starter(self) -> int | None:
        """Hold the starter's lock for life; None: a starter lives."""
        for _ in range(TRIES):
            descriptor = try_lock(self._file("starter.lock"))
            if descriptor is not None:
                return descriptor
            time.sleep(0.02)
        return None

    def has_runner(self) -> bool:
        """Whether a runner lives."""
        return not is_free(self._file("lock"))

    def has_starter(self) -> bool:
        """Whether a starter lives."""
        return not is_free(self._file("starter.lock"))

    # ---- the time rule

    def renew(
        self,
        limit: float | None,
        at: float,
        lapses: int,
        incarnation: int = 0,
        seen: tuple[int, int] = (0, 0),
        starts: float | None = None,
    ) -> None:
        """Note that status.json was written. at: boot_time() when the writing began, since the head may have seen the
        new beat any time after that. limit: seconds for which it holds; None: for ever (left on purpose).
        lapses: how often the limit was exceeded so far. incarnation, seen: what status.json says. starts: the limit for
        what was not begun yet, where that is another one."""
        starts = limit if starts is None else starts
        noted = {"boot": boot_id(), "at": at, "limit": limit, "lapses": lapses, "starts": starts}
        write(self._file("renewed"), {**noted, "incarnation": incarnation, "seen": seen}, FOR_OWNERS)

    def noted(self) -> Any:
        """What was noted at the last renewal, or None."""
        noted = read_json(self._file("renewed"))
        return {**noted, "seen": tuple(noted["seen"])} if noted else None

    def tighten(self, limit: float, incarnation: int = 0) -> None:
        """A runner starts: from now on its limit holds, also for attempts whose last runner had a longer one or left on
        purpose. Longer it becomes only with the next renewal, when the head has been told. incarnation: the runner's,
        noted for the next one, should this one be cut before its first report."""
        noted = self.noted()
        if noted and noted["boot"] == boot_id() and (noted["limit"] is None or noted["limit"] > limit):
            at = boot_time() if noted["limit"] is None else noted["at"]
            self.renew(limit, at, noted["lapses"], max(noted["incarnation"], incarnation), noted["seen"])

    def age(self) -> float | None:
        """Seconds since status.json was last written; None: never in this boot."""
        noted = self.noted()
        return boot_time() - noted["at"] if noted and noted["boot"] == boot_id() else None

    def was_left(self) -> bool:
        """Whether the last runner ended on purpose."""
        noted = self.noted()
        return bool(noted) and noted["limit"] is None

    def lapses(self) -> int:
        """How often the limit was exceeded in all, as far as it was noted."""
        noted = self.noted()
        return int(noted["lapses"]) if noted else 0

    def keeps_time(self, lapses: int, first: bool = False) -> bool:
        """Whether the runner has kept its limit ever since there were so many lapses: only then may anything be spawned
        that was ordered then. first: of an attempt of which nothing was begun: nobody waits for that on a node that was
        stopped on purpose."""
        noted = self.noted()
        if not noted or noted["boot"] != boot_id() or noted["lapses"] != lapses:
            return False
        limit = noted["starts"] if first else noted["limit"]
        return limit is None or boot_time() - noted["at"] <= limit


def place_of(state: str, node: str) -> str:
    """The directory of a node, in that of its spool's local state."""
    return os.path.join(state, f"node-{node}")


class Attempt:
    """The place of one attempt."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.key = os.path.basename(path)
        self._marker: Any = None

    @property
    def spool_id(self) -> str:
        """The id of its spool, which the directory above its node's is called by."""
        return self.path.split("/")[-4]

    def file(self, name: str) -> str:
        """Path of one of its files."""
        return os.path.join(self.path, name)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return os.path.exists(self.file(name))

    def calls_engines(self) -> bool:
        """Whether a container wrapper of the job made a note; of several users' jobs the empty file is always there."""
        try:
            return os.lstat(self.file("containers")).st_size > 0
        except FileNotFoundError:
            return False

    def names(self) -> set[str]:
        """What is there; empty where the attempt is not known."""
        try:
            return set(os.listdir(self.path))
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> Any:
        """A JSON file of it, or None."""
        return read_json(self.file(name))

    def write(self, name: str, value: Any, mode: int = 0o600) -> None:
        """Put a JSON file in place, whole."""
        write(self.file(name), value, mode)

    def put(self, name: str, text: str, mode: int) -> None:
        """Write one of its files while nobody knows of it: its directory is made under another name."""
        write_text(self.file(name), text, mode)

    def stages(self) -> set[str]:
        """Which of setup and run its order has."""
        return set((self.read("order.json") or {}).get("scripts", ()))

    @property
    def marker(self) -> Any:
        """What the marker says, or None. It is put there once, and nobody writes it anew: what was read holds."""
        if self._marker is None:
            self._marker = self.read("marker")
        return self._marker

    def is_marked(self) -> bool:
        """Whether the marker is there."""
        return self._marker is not None or self.has("marker")

    def mark(self, by: str, **more: object) -> bool:
        """Put the marker there if absent. by: "supervisor" or "runner"; more: what else it says. True: it is ours."""
        said = {"by": by, "pid": os.getpid(), "start": start_time(os.getpid()), "boot": boot_id(), **more}
        return link_new(self.file("marker"), json.dumps(said))


# ---- files ---------------------------------------------------------------------------------------------------


def try_lock(path: str) -> int | None:
    """A descriptor that holds an exclusive flock on a local file, or None where somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_free(path: str) -> bool:
    """Whether nobody holds the lock on a file."""
    descriptor = try_lock(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def read(path: str, at_once: bool = False) -> str | None:
    """A small text file, or None. at_once: see read_bytes."""
    try:
        return read_bytes(path, at_once).decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None


def read_bytes(path: str, at_once: bool = False) -> bytes:
    """A small file. OSError. at_once: one that nobody writes to any more, or that the kernel makes as one record
    (proc(5)); of these, the first page comes whole. What the kernel lists may come piece by piece.

    By calls of its own, since open() makes twice as many, and a dozen files are read for each job.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = [os.read(descriptor, PIECE)]
        while len(pieces[-1]) >= (PAGE if at_once and len(pieces) == 1 else 1):
            pieces.append(os.read(descriptor, PIECE))
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def read_json(path: str) -> Any:
    """A small JSON file of ours, or None where it is missing."""
    try:
        return json.loads(read(path, at_once=True) or "null")
    except ValueError:
        return None  # a power loss left it without its content; the boot is another one then


def write(path: str, value: Any, mode: int = 0o600) -> None:
    """Replace a small JSON file, whole. Nobody else can read it, by default: an order holds the job's secrets."""
    private = f"{path}.{os.urandom(4).hex()}"
    try:
        write_text(private, json.dumps(value), mode)
        os.replace(private, path)
    except OSError:
        _discard(private)
        raise


def write_text(path: str, text: str, mode: int = 0o666, how: int = os.O_TRUNC) -> None:
    """Write to a text file where nobody looks yet. mode: of a new one, but for what the umask takes; how: O_TRUNC, for
    all that is in it, or O_APPEND."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, mode)
    try:
        data = memoryview(text.encode())
        while data:  # where the disk is full it takes a part, and then says so
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _discard(private: str) -> None:
    try:
        os.unlink(private)
    except OSError:
        pass  # it was never made


def ring(bell: int, key: str) -> None:
    """Wake the runner: an attempt has changed. bell: its FIFO, open for writing, non-blocking."""
    try:
        os.write(bell, f"{key}\n".encode())
    except BlockingIOError:
        pass  # it has wake-ups enough


def link_new(path: str, text: str) -> bool:
    """Put a small text file there if absent. True: it is ours."""
    private = f"{path}.{os.urandom(4).hex()}"
    try:
        write_text(private, text)
        return _link(private, path)
    finally:
        _discard(private)


def _link(private: str, path: str) -> bool:
    """As in storage.py, which supervisors do without: there is one for each attempt, and a module costs memory."""
    try:
        os.link(private, path)
    except OSError as error:
        if os.stat(private).st_nlink == 2:  # it happened, and only the reply was lost: this directory is on NFS
            return True
        if not isinstance(error, FileExistsError):
            raise
        return False
    return True


# ---- processes -----------------------------------------------------------------------------------------------


def boot_time() -> float:
    """Seconds of a clock that goes on while the host sleeps and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22); None: there is none."""
    text = read(f"/proc/{pid}/stat", at_once=True)
    return int(text[text.rindex(")") + 2 :].split()[19]) if text else None


def is_alive(pid: int, start: int | None) -> bool:
    """Whether the process that was given this pid at this time still is, zombies not counted."""
    text = read(f"/proc/{pid}/stat", at_once=True)
    if not text:
        return False
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[19]) == start and fields[0] not in "ZX"
