"""What stands behind the port in place of the operating system: it records each call, and says what a fault says.

The product touches a spool through `spool_layout.storage` and `spool_layout.stamps`, which take every call from `os`.
A Port takes the place of that name: each call is made as ever, until a fault is set on one. So a single `publish` has
its eight points, from the open of the private file to its rename. Calls of others in this process (simulated nodes,
readers, a test's own look) go by it: only what is done within `with port:` in that thread counts, and that is what a
disk of `through(port)` does in each of its operations.

What Python repeats by itself after EINTR (open, read, write, fsync …; PEP 475) never says it here either.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

import pytest

from spool_layout import localdisk, stamps, storage
from spool_layout.storage import Disk

T = TypeVar("T")

LOOKS = frozenset(
    {"open", "read", "pread", "fstat", "stat", "lstat", "scandir", "getdents", "listdir", "statvfs", "lseek"}
)
WRITES = frozenset({"create", "write", "pwrite", "fsync", "close"})
NAMES = frozenset({"rename", "replace", "link", "unlink", "mkdir", "rmdir"})
ATTRIBUTES = frozenset({"utime", "chmod", "fchmod"})
EVERY = LOOKS | WRITES | NAMES | ATTRIBUTES
TAKES_ROOM = WRITES | {"rename", "replace", "link", "mkdir"}
NOT_REPEATED = NAMES | {"stat", "lstat", "scandir", "getdents", "listdir", "statvfs", "utime", "chmod", "close"}
IS_THERE = frozenset({"link", "mkdir"})


class Fault(NamedTuple):
    """What goes wrong. number: what the call says then; 0: nothing, it takes half of what it was given. calls: which
    may say so. done: the call is made all the same, as when only its reply is lost."""

    name: str
    number: int
    calls: frozenset[str]
    done: bool = False

    def says(self, call: str) -> int:
        """The error number; of a repeated call, whose first reply was lost, it is what that finds."""
        return self.number or (errno.EEXIST if call in IS_THERE else errno.ENOENT)


SHORT = Fault("short write", 0, frozenset({"write", "pwrite"}))
FAULTS = (
    Fault("EIO", errno.EIO, EVERY),
    Fault("ESTALE", errno.ESTALE, EVERY),
    Fault("ENOSPC", errno.ENOSPC, TAKES_ROOM),
    Fault("EDQUOT", errno.EDQUOT, TAKES_ROOM),
    Fault("EINTR", errno.EINTR, NOT_REPEATED),
    SHORT,
    Fault("done, says ENOENT or EEXIST", 0, NAMES, done=True),
    Fault("done, says EIO", errno.EIO, (WRITES | NAMES | ATTRIBUTES) - {"close"}, done=True),
)


class Call(NamedTuple):
    """One call that was made, or that a fault stood in for. operation: of the disk, "" where it is none's."""

    operation: str
    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        said = [arg.rsplit("/", 2)[-2:] for arg in self.args if isinstance(arg, str)]
        return " ".join([f"{self.operation}: {self.name}", *("/".join(words) for words in said)])


class Port:
    """Stands in for `os` in the modules that touch a spool. fault: set by `plan`; struck: the calls that it came upon.

    durable: whether fsync is made. Without a power cut nobody sees the difference but the clock.
    """

    def __init__(self, durable: bool = False) -> None:
        self.calls: list[Call] = []
        self.operation = ""
        self._durable = durable
        self._threads: set[int] = set()
        self.plan(None, 0)
        for name in EVERY - {"create", "getdents"}:
            setattr(self, name, partial(self._make, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    # ---- faults

    def plan(self, fault: Fault | None, at: int, lasting: bool = False) -> None:
        """Let the at-th call to which a fault applies meet it, from 1; lasting: and all after it, until `lift`."""
        self.fault, self.at, self.lasting = fault, at, lasting
        self.met = 0
        self.struck: list[Call] = []

    def lift(self) -> None:
        """From now on nothing goes wrong."""
        self.fault = None

    def told(self) -> str:
        """What was planned, and what it came upon."""
        if not self.struck:
            return f"nothing went wrong yet; planned for call {self.at}"
        more = f" and {len(self.struck) - 5} more" if len(self.struck) > 5 else ""
        return f"call {self.at}{' and all later ones' * self.lasting}: {', '.join(map(str, self.struck[:5]))}{more}"

    def __enter__(self) -> Port:
        self._threads.add(threading.get_ident())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.discard(threading.get_ident())

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What this thread does meanwhile is not of the part that is looked at."""
        self._threads.discard(threading.get_ident())
        try:
            yield
        finally:
            self._threads.add(threading.get_ident())

    # ---- calls

    def _meets(self, name: str, args: tuple[Any, ...]) -> Fault | None:
        """Record a call; the fault that it meets."""
        if threading.get_ident() not in self._threads:
            return None
        call = Call(self.operation, name, args)
        self.calls.append(call)
        fault = self.fault
        if fault is None or name not in fault.calls:
            return None
        self.met += 1
        if self.met != self.at and not (self.lasting and self.met > self.at):
            return None
        self.struck.append(call)
        return fault

    def _make(self, call: str, *args: Any, **more: Any) -> Any:
        name = "create" if call == "open" and args[1] & os.O_CREAT else call
        fault = self._meets(name, args)
        if fault is None:
            return self._really(call, *args, **more)
        if fault is SHORT:
            return self._really(call, args[0], memoryview(args[1])[: max(1, len(args[1]) // 2)], *args[2:])
        if fault.done or call == "close":  # close(2) gives the descriptor back whatever it says
            made = self._really(call, *args, **more)
            if name == "create":
                os.close(made)
        raise OSError(fault.says(name), os.strerror(fault.says(name)), *(a for a in args[:1] if isinstance(a, str)))

    def _really(self, call: str, *args: Any, **more: Any) -> Any:
        if call == "fsync" and not self._durable:
            return None
        made = getattr(os, call)(*args, **more)
        return _Listing(self, made, args) if call == "scandir" else made


class LocalPort(Port):
    """The same for modules that use `os` and `open` in some directories, and elsewhere as well: only what they do there
    counts. It goes with a fork, and so tells of its calls in a file.

    told: the file's descriptor, opened to append. A line: the pid, "!" where the fault came upon it else "-", the call.
    """

    def __init__(self, directories: tuple[str, ...], told: int) -> None:
        super().__init__()
        self._places, self._told = tuple(f"{directory}/" for directory in directories), told
        self._ours, self._read_only = set[int](), set[int]()  # descriptors
        self.path = _Paths(self)

    def _meets(self, name: str, args: tuple[Any, ...]) -> Fault | None:
        before = len(self.calls)
        fault = super()._meets(name, args)
        if len(self.calls) > before:
            os.write(self._told, f"{os.getpid()} {'!' if fault else '-'} {self.calls[-1]}\n".encode())
        return fault

    def _make(self, call: str, *args: Any, **more: Any) -> Any:
        about = more.get("dir_fd", args[0])
        if not (about in self._ours if isinstance(about, int) else f"{os.fspath(about)}/".startswith(self._places)):
            return getattr(os, call)(*args, **more)
        if call == "close":
            self._ours.discard(about)
            if about in self._read_only:  # to close it tells nothing
                self._read_only.discard(about)
                return os.close(about)
        made = super()._make(call, *args, **more)
        if call == "open":
            self._ours.add(made)
            if args[1] & os.O_ACCMODE == os.O_RDONLY:
                self._read_only.add(made)
        return made

    def opened(self, path: str, mode: str = "r", opener: Callable[[str, int], int] | None = None, **more: Any) -> Any:
        """As open(), of text that is read from the beginning or written anew."""
        flags = os.O_CLOEXEC | (os.O_RDONLY if mode == "r" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        raw = _Raw(self, opener(path, flags) if opener else self.open(path, flags, 0o666))
        return io.TextIOWrapper(io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw), **more)


class _Paths:
    """In place of os.path: what looks at the disk goes through the port."""

    def __init__(self, port: Port) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(os.path, name)

    def exists(self, path: str) -> bool:
        try:
            self._port.stat(path)
        except OSError:
            return False
        return True

    def isdir(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self._port.stat(path).st_mode)
        except OSError:
            return False


class _Raw(io.RawIOBase):
    """A file whose calls go through a port."""

    def __init__(self, port: Port, descriptor: int) -> None:
        self._port, self._descriptor = port, descriptor

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._port.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return int(self._port.write(self._descriptor, data))

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._port.close(self._descriptor)
        finally:
            super().close()


class _Listing:
    """What scandir gives; it may break off half way."""

    def __init__(self, port: Port, found: Any, args: tuple[Any, ...]) -> None:
        self._port, self._found, self._args = port, found, args

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        self._found.close()

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        for number, entry in enumerate(self._found):
            if number == 1 and (fault := self._port._meets("getdents", self._args)):
                raise OSError(fault.number, os.strerror(fault.number))
            yield entry


def trouble(port: Port, fault: Fault, lasting: bool, act: Callable[[], None], every: int = 1) -> int:
    """Act once for each call that meets the fault, until there is none left, or for each so-many-th; how often."""
    times = 0
    while True:
        port.plan(fault, 1 + times * every, lasting)
        with explained(port):
            act()
        if not port.struck:
            return times
        times += 1


@contextmanager
def explained(port: Port) -> Iterator[None]:
    """A failure tells what went wrong before."""
    fault = port.fault
    try:
        yield
    except BaseException as error:
        error.add_note(f"{fault.name if fault else 'no fault'}: {port.told()}")
        raise


def put_in_place(port: Port, patched: pytest.MonkeyPatch) -> None:
    """From now on the modules that touch a spool take a port for `os`."""
    for module in (storage, localdisk, stamps):
        patched.setattr(module, "os", port)


def through(port: Port, kind: type[Disk] = Disk) -> Disk:
    """A disk whose operations, and no others, go through a port."""
    return watched(port, kind)()


def watched(port: Port, kind: type[T]) -> type[T]:
    """A kind of thing whose public operations, and no others, go through a port."""
    names = [name for name in dir(kind) if callable(getattr(kind, name)) and not name.startswith("_")]
    operations = {name: _within(port, getattr(kind, name)) for name in names}
    made: type[T] = type(f"Watched{kind.__name__}", (kind,), operations)
    return made


def _within(port: Port, operation: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(operation)
    def within(*args: Any, **more: Any) -> Any:
        if port.operation:  # one that another one uses
            return operation(*args, **more)
        port.operation = operation.__name__
        try:
            with port:
                return operation(*args, **more)
        finally:
            port.operation = ""

    return within
