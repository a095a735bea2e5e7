"""What a power loss may leave of a directory: the operations on it are recorded, the legal states built from them.

`Tape` stands in for the calls of `os` (and for `open`) that change anything below one directory, whoever makes them:
the real client, head, runner and fsck of a test's process. The calls are made as ever; the tape keeps what of them is
durable, and after each one it can tell in which states the disk may be found if the power fails there. `port.py` stands
in for storage's own calls, to let one of them fail; a power loss concerns the local state as well, which does not go
through the port, and no call fails in it. So the two share nothing but the idea.

The model. Sources: POSIX (fsync of a file says nothing of its names); Pillai et al., "All File Systems Are Not Created
Equal" (ALICE, OSDI 2014); Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing"
(CrashMonkey and ACE, OSDI 2018); the Linux kernel's texts on ext4, XFS and btrfs; RFC 1813 and RFC 8881 for NFS.

- Data written since the last fsync of its file: all there, missing, cut (at the first lines and within them), or its
  length is there and zeros stand for all of it or for the first half (a hole: the later block reached the disk, the
  earlier did not). Names of a file that was never fsynced may be durable: then it is empty or cut.
- Names: each creation, rename, link, unlink, mkdir and rmdir is atomic, also a rename between two directories: every
  journaling file system keeps that, and without it a file could be lost by any move; ext2 is not served.
- Names are durable when their directory (for a rename: either of the two) was fsynced after. fsync of a file makes none
  durable. A directory that was made since keeps its own name when it is fsynced, or what is in it becomes durable (so
  do ext4, XFS and btrfs; POSIX does not say).
- Of the others any subset is there, but what touches one file or one name happens in order, and nothing stands in a
  directory that is missing, nor is lost with one that is removed (btrfs logs file by file). ext4 and XFS promise more,
  one order for all directories; what survives here survives there.
- A server of NFS that conforms (exported `sync`) makes each operation on names durable before it answers, and data with
  fsync (COMMIT). So where a client's host, or the server, loses power, names are as they were: see the worlds below.

Two worlds, by who loses power. The directory below the tape holds `spool/` and `state/` (the runner's own):

    host    one machine with a local disk: both are cut, and everything reboots. A node's host that loses power while
            the spool is on a server is among these: nothing of the spool is lost, anything of the local state.
    server  the file server, or the head's machine: unsynced data of the spool is cut, names stay, the runner lives on

In `host` the two parts are cut independently of each other (they may be two file systems), but not every state of the
one is tried with every state of the other: those of the spool with the newest and the oldest local state, those of the
local state with the newest spool.

What is exhaustive, and what is not. Of the subsets of pending names, those that leave the same under every name that
anybody looks at are one state (`_look`). Pending operations fall into groups that share no file, name or directory that
is made or moved (`_groups`): a moved file, an attempt with all in it, `renewed`, `led.json`. Each outcome of
each group is tried at each moment; with each outcome of all others where these are not more than TOGETHER, else with
all of the others and with none ("by groups" in Tape.moments). An attempt that is being removed is whole, half removed
or gone. Data of several files that are not durable at once is sampled: where there were more than MOST_DATA
combinations, all of it, none of it, and each way of the file that was written last (so of each file once). What is
looked at in local state is noted while one is recovered, and another state that answers alike is not (looks.py). Of a
story with more than 4,000 states each second, third … is recovered; all with KILLS=every (test_power.MOST).

Not modelled: what wears away while nothing is written; a device that lies about its cache; bit rot.
"""

from __future__ import annotations

import builtins
import collections
import itertools
import math
import os
import stat
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, NamedTuple

MANY = 1000  # subsets of one group, beyond which it is not asked which look alike
OF_ONE = 48  # outcomes of one group, beyond which it is taken apart
TOGETHER = {"spool": 96, "state": 24}  # outcomes of all groups of operations that are combined with each other
MOST_DATA = 48  # combinations of what is left of several files
HOST, SERVER = "host", "server"
SPOOL, STATE = "spool", "state"


class Op(NamedTuple):
    """One change of names. updates: (directory, name, what it names then; 0: nothing). node: what was named anew."""

    number: int
    updates: tuple[tuple[int, str, int], ...]
    node: int
    makes_dir: bool

    @property
    def removes(self) -> bool:
        return not any(node for _, _, node in self.updates)

    @property
    def places(self) -> set[tuple[int, str]]:
        return {(folder, name) for folder, name, _ in self.updates}


class File:
    """What a file holds, and what of it is durable."""

    def __init__(self, data: bytes = b"", mode: int = 0o644) -> None:
        self.durable = self.data = data
        self.mode = mode

    def write(self, data: bytes, offset: int) -> None:
        self.data = self.data[:offset].ljust(offset, b"\0") + data + self.data[offset + len(data) :]

    def left(self) -> tuple[bytes, ...]:
        """What a power loss may leave of it: all of it first, what was durable second."""
        if self.data == self.durable:
            return (self.data,)
        kept = self.durable if self.data.startswith(self.durable) else b""
        new = self.data[len(kept) :]
        cuts = {len(new) // 2, *_lines(new)} - {0, len(new)}
        holes = (bytes(len(new)), bytes(len(new) // 2) + new[len(new) // 2 :])
        found = [self.data, self.durable, kept, *(kept + new[:cut] for cut in sorted(cuts)), *(kept + h for h in holes)]
        return tuple(dict.fromkeys(found))


def _lines(data: bytes) -> Iterator[int]:
    """The ends of the first lines, and the middles of those after them."""
    end = 0
    for line in data.splitlines(keepends=True)[:4]:
        yield end + len(line) // 2
        end += len(line)
        yield end


class Left(NamedTuple):
    """A thing in a state: a directory (data None) or a file."""

    inode: int
    mode: int
    data: bytes | None


State = dict[str, Left]  # path relative to the tape's directory -> what stands there


class Found(NamedTuple):
    """A state that a power loss may leave, the last moment at which it may (how many operations had been made), and who
    lost power."""

    world: str
    part: str  # of the disk, the one whose past was gone through
    state: State
    moment: int
    said: str
    spool: Hashable  # what tells its spool from others


class Tape:
    """Records what is done below `root` while it is entered. `found`: the states of every moment since then."""

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self.files: dict[int, File] = {}
        self.modes: dict[int, int] = {}
        self.now: dict[int, dict[str, int]] = {}  # directory -> names: as every process sees them
        self.base: dict[int, dict[str, int]] = {}  # the same, as far as they are durable
        self.pending: list[Op] = []
        self.count = 0
        self.found: dict[Hashable, Found] = {}
        self.moments = collections.Counter[str]()  # how the states of how many moments were found
        self.facts: list[tuple[int, str, Any]] = []  # what was promised: (moment, kind, what)
        self.log: list[str] = []
        self._open: dict[int, tuple[int, int, bool]] = {}  # descriptor -> (inode, position, appends)
        self._written = 0  # the file that was written last
        self._root = os.stat(self.root).st_ino
        self.settle()

    # ---- what the test says

    def settle(self) -> None:
        """Everything is durable now, as after a quiet minute; whatever is there is taken in."""
        self.files, self.modes, self.now, self.base, self.pending = {}, {}, {}, {}, []
        for folder, names, files in os.walk(self.root):
            info = os.stat(folder)
            self.modes[info.st_ino] = stat.S_IMODE(info.st_mode)
            self.now[info.st_ino] = {}
            for name in (*names, *files):
                self._adopt(info.st_ino, os.path.join(folder, name))
        self.base = {folder: dict(names) for folder, names in self.now.items()}
        self._parts = {
            folder: part
            for part in (SPOOL, STATE)
            if (top := self.now[self._root].get(part))
            for folder in self._below(top)
        }
        self._needed: dict[Op, frozenset[Op]] = {}
        self._told: dict[tuple[Op, ...], list[frozenset[Op]]] = {}

    def _adopt(self, folder: int, path: str) -> None:
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                self.files[info.st_ino] = File(file.read(), stat.S_IMODE(info.st_mode))
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            self.now[folder][os.path.basename(path)] = info.st_ino

    def note(self, kind: str, what: Any) -> None:
        """From this moment on something is promised, or has happened in the world."""
        self.facts.append((self.count, kind, what))
        self.gather(kind)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is done meanwhile is not recorded; `begin` comes after."""
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def begin(self, *kinds: str) -> None:
        """The story begins here: all is durable, and of what was noted these kinds count."""
        self.settle()
        self.found.clear()
        self.facts = [fact for fact in self.facts if fact[1] in kinds]

    # ---- states

    def _step(self, said: str, part: str) -> None:
        self.count += 1
        self.log.append(said)
        self.gather(said, (part,))

    def gather(self, said: str, parts: tuple[str, ...] = (SPOOL, STATE)) -> None:
        """Keep the states in which the disk may be left at this moment. parts: those whose own past is gone through."""
        for part in parts:
            for world, state in self._states(part):
                spool, local = _essence(state)
                self.found[world, part, spool, local] = Found(world, part, state, self.count, said, spool)

    def _states(self, part: str) -> Iterator[tuple[str, State]]:
        other = STATE if part == SPOOL else SPOOL
        elsewhere = frozenset(op for op in self.pending if self._part(op) == other)
        names = self._subsets(part)
        yield from ((HOST, state) for state in self._pictures([kept | elsewhere for kept in names], part))
        if part == SPOOL:
            yield from ((HOST, state) for state in self._pictures(names, part, oldest=other))
            yield from ((SERVER, state) for state in self._pictures([frozenset(self.pending)], part))

    def _part(self, op: Op) -> str:
        return self._part_of(op.updates[-1][0])

    def _part_of(self, folder: int) -> str:
        return self._parts.get(folder, SPOOL)

    def _below(self, folder: int) -> Iterator[int]:
        yield folder
        for node in self.now.get(folder, {}).values():
            if node in self.now:
                yield from self._below(node)

    def _subsets(self, part: str) -> list[frozenset[Op]]:
        """Which of the pending operations of a part may have reached the disk: of those that leave the same, one."""
        pending = [op for op in self.pending if self._part(op) == part]
        groups = self._groups(pending)
        self.moments[f"{part}, all"] += 1
        if math.prod(map(len, groups)) <= TOGETHER[part]:
            chosen = [frozenset[Op]().union(*outcomes) for outcomes in itertools.product(*groups)]
        else:
            self.moments[f"{part}, by groups"] += 1
            full = frozenset(pending)
            chosen = [own | rest for of in groups for own in of for rest in (frozenset[Op](), full - of[-1])]
        return list(dict.fromkeys(map(self._legal, chosen)))

    def _legal(self, chosen: frozenset[Op]) -> frozenset[Op]:
        """Without what cannot be there, since what it needs is not."""
        kept, pending = set[Op](), {*self.pending}
        for op in sorted(chosen):
            if self._needs(op) & pending <= kept:
                kept.add(op)
        return frozenset(kept)

    def _groups(self, pending: list[Op]) -> list[list[frozenset[Op]]]:
        """Operations that have nothing to do with each other, apart, and of each group what may be there: those of one
        group share a file or a name, or a directory that is made, moved or removed; but of directories that are made
        within each other only the innermost, where there were too many outcomes else."""
        folders = [op.node for op in pending if op.node in self.now]
        while True:
            groups = [self._outcomes(group) for group in self._related(pending, {*folders})]
            if not folders or max(map(len, groups)) <= OF_ONE:
                return groups
            folders = [folder for folder in folders if folder != folders[0]]

    def _related(self, pending: list[Op], folders: set[int]) -> list[tuple[Op, ...]]:
        groups: list[tuple[set[Hashable], list[Op]]] = []
        for op in pending:
            touched: set[Hashable] = {op.node, *op.places, *({f for f, _, _ in op.updates} & folders)}
            mine = [group for group in groups if group[0] & touched]
            groups = [group for group in groups if not group[0] & touched]
            groups.append((touched.union(*(t for t, _ in mine)), [*itertools.chain(*(ops for _, ops in mine)), op]))
        return [tuple(sorted(ops)) for _, ops in groups]

    def _outcomes(self, group: tuple[Op, ...]) -> list[frozenset[Op]]:
        """What may be there of a group; of those that look alike the first. The whole group comes last."""
        if group not in self._told:
            kept = [frozenset[Op]()]
            for op in group:
                if _is_private(op):
                    continue  # there where another one needs it
                needs = self._needs(op) & {*group}
                loud = {other for other in needs if not _is_private(other)}
                more = [ops | needs | {op} for ops in kept if loud <= ops]
                if op.node in self.now and op.updates[-1][1].startswith(
                    "."
                ):  # out of sight, all look alike but empty ones
                    more = list({self._look(group, ops): ops for ops in more}.values())
                elif op.removes:
                    more = [ops for ops in more if not self._is_hidden(op.updates[0][0], ops)]
                kept += more
                if len(kept) > MANY:  # it has to be taken apart
                    self._told[group] = kept
                    return kept
            alike = {self._look(group, ops): ops for ops in reversed([*kept, frozenset(group)])}
            whole = alike.pop(self._look(group, frozenset(group)))
            self._told[group] = [*alike.values(), whole | frozenset(group)]
        return self._told[group]

    def _is_hidden(self, folder: int, kept: frozenset[Op]) -> bool:
        """Whether a directory is being removed: then it does not matter what is in it, but that something is."""
        named = [op for op in sorted(kept) if op.node == folder]
        return bool(named) and named[-1].updates[-1][1].startswith(".")

    def _look(self, group: tuple[Op, ...], kept: frozenset[Op]) -> Hashable:
        """What is seen of a group's places: what nobody can reach, or looks at, is left out."""
        places = {place: self.base.get(place[0], {}).get(place[1], 0) for op in group for place in op.places}
        for op in group:
            if op in kept:
                places |= {(folder, name): node for folder, name, node in op.updates}
        named = {node: name for (_, name), node in places.items()}
        moved = {op.node for op in group}
        seen: dict[Hashable, int | bool] = {}
        for (folder, name), node in places.items():
            within = named.get(folder, "") if folder in moved else "is there"
            if within.startswith("."):  # a directory that is half made or half removed: whether anything is in it
                seen[folder] = seen.get(folder, False) or node != 0
            elif within and not is_private(name):
                seen[folder, name] = node
        return frozenset(seen.items())

    def _needs(self, op: Op) -> frozenset[Op]:
        """What must be there where an operation is: all that came earlier for the same file, the same name or the
        making of the directory, or to empty the one that is removed."""
        if op not in self._needed:
            folders = {folder for folder, _, _ in op.updates}
            self._needed[op] = frozenset(
                other
                for other in self.pending
                if other.number < op.number
                and (
                    other.node == op.node
                    or other.places & op.places
                    or (other.makes_dir and other.node in folders)
                    or (op.removes and op.node in {folder for folder, _, _ in other.updates})
                )
            )
        return self._needed[op]

    def _closed(self, ops: set[Op]) -> set[Op]:
        """With all that must be there then."""
        pending = {*self.pending}
        while more := {b for op in ops for b in self._needs(op) & pending} - ops:
            ops = ops | more
        return ops

    def _pictures(self, choices: list[frozenset[Op]], part: str, oldest: str = "") -> Iterator[State]:
        """The states with each of these choices of operations. part: whose data may be cut; oldest: the part whose data
        is what was durable. Where that were too many states: every choice with all data and with what was durable, and
        the last one with the file cut that was written last (the others were cut when they were)."""
        plans = [self._plan(kept) for kept in choices]
        cut = [
            [(path, self.files[node].left()) for path, node in plan.items() if self._is_cut(path, node, part)]
            for plan in plans
        ]
        few = sum(_product(files) for files in cut) <= MOST_DATA
        for plan, files in zip(plans, cut, strict=True):
            lefts = [left for _, left in files]
            last = [n for n, (path, _) in enumerate(files) if plan[path] == self._written and plan is plans[-1]]
            for chosen in itertools.product(*lefts) if few else _extremes(lefts, last):
                data = dict(zip((path for path, _ in files), chosen, strict=True))
                yield {path: self._left(path, node, data.get(path), oldest) for path, node in plan.items()}

    def _is_cut(self, path: str, node: int, part: str) -> bool:
        return node in self.files and path.startswith(f"{part}/") and self.files[node].data != self.files[node].durable

    def _plan(self, kept: frozenset[Op]) -> dict[str, int]:
        """What stands where, if these operations have reached the disk."""
        names: dict[int, dict[str, int]] = {folder: dict(inside) for folder, inside in self.base.items()}
        for op in self.pending:
            for folder, name, node in op.updates if op in kept else ():
                inside = names.setdefault(folder, {})
                if node:
                    inside[name] = node
                else:
                    inside.pop(name, None)
        plan: dict[str, int] = {}
        self._walk(names, self._root, "", plan)
        return plan

    def _walk(self, names: dict[int, dict[str, int]], folder: int, path: str, plan: dict[str, int]) -> None:
        for name, node in names.get(folder, {}).items():
            where = f"{path}/{name}" if path else name
            plan[where] = node
            if node not in self.files:
                self._walk(names, node, where, plan)

    def _left(self, path: str, node: int, data: bytes | None, oldest: str) -> Left:
        if node not in self.files:
            return Left(node, self.modes.get(node, 0o755), None)
        file = self.files[node]
        if data is None:
            data = file.durable if oldest and path.startswith(f"{oldest}/") else file.data
        return Left(node, file.mode, data)

    # ---- what is recorded

    def _find(self, path: str, dir_fd: int | None = None) -> tuple[int, str] | None:
        """(directory, name) of a path below the root; None: it is elsewhere."""
        if dir_fd is not None and not os.path.isabs(path):
            return (self._open[dir_fd][0], path) if dir_fd in self._open else None
        path = os.path.normpath(
            os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
        )
        if not path.startswith(self.root + os.sep):
            return None
        folder = self._root
        *folders, name = path[len(self.root) + 1 :].split(os.sep)
        for part in folders:
            folder = self.now[folder][part]
        return folder, name

    def names(self, said: str, node: int, *updates: tuple[int, str, int], makes_dir: bool = False) -> None:
        """An operation on names was made."""
        self.pending.append(Op(self.count, updates, node, makes_dir))
        for folder, name, target in updates:
            if target:
                self.now[folder][name] = target
            else:
                self.now[folder].pop(name, None)
        self._step(f"{said} {' '.join(name for _, name, _ in updates)}", self._part_of(updates[-1][0]))

    def synced(self, node: int) -> None:
        """fsync returned."""
        if node in self.files:
            self.files[node].durable = self.files[node].data
        else:
            done = self._closed({op for op in self.pending if node in {folder for folder, _, _ in op.updates}})
            for op in [op for op in self.pending if op in done]:
                for folder, name, target in op.updates:
                    inside = self.base.setdefault(folder, {})
                    if target:
                        inside[name] = target
                    else:
                        inside.pop(name, None)
            self.pending = [op for op in self.pending if op not in done]
        self.changed("fsync", node)

    def changed(self, said: str, node: int) -> None:
        """Something was done to a file, or to a directory by its descriptor."""
        self._written = node
        folder, name = next(
            ((f, name) for f, inside in self.now.items() for name, n in inside.items() if n == node), (0, "")
        )
        self._step(f"{said} {name}", self._part_of(node if node in self.now else folder))

    # ---- standing in

    def __enter__(self) -> Tape:
        self._real = {name: getattr(os, name) for name in _CALLS}
        self._real_open = builtins.open
        for name, call in _CALLS.items():
            setattr(os, name, _stand_in(self, call, self._real[name]))
        # Local state is written through open() as well; it is put back in __exit__.
        builtins.open = self._open_file  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)
        builtins.open = self._real_open

    def _open_file(self, path: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        """open() for writing: what is written is told when it is closed, as one write."""
        if isinstance(path, int) or not set(mode) & set("wax") or self._find(os.fspath(path)) is None:
            return self._real_open(path, mode, *args, **more)
        kind = os.O_APPEND if "a" in mode else os.O_TRUNC
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | kind | os.O_CLOEXEC, 0o666)
        return Whole(self, descriptor, self._real_open(descriptor, mode, *args, **more))


class Whole:
    """A file object of open(): its content is told when it is closed."""

    def __init__(self, tape: Tape, descriptor: int, file: IO[Any]) -> None:
        self.tape, self.descriptor, self.file = tape, descriptor, file
        self.node = tape._open[descriptor][0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        if self.file.closed:
            return
        self.file.flush()
        with self.tape._real_open(f"/proc/self/fd/{self.descriptor}", "rb") as again:
            data = again.read()
        self.tape._open.pop(self.descriptor, None)
        self.file.close()
        if data != self.tape.files[self.node].data:
            self.tape.files[self.node].data = data
            self.tape.changed("write", self.node)


def _product(files: list[tuple[str, tuple[bytes, ...]]]) -> int:
    total = 1
    for _, left in files:
        total *= len(left)
    return total


def _extremes(lefts: list[tuple[bytes, ...]], each: list[int]) -> Iterable[tuple[bytes, ...]]:
    """Everything, and only what was durable; each: files that are also left in each way, beside the others whole."""
    whole = [left[0] for left in lefts]
    found = [tuple(whole), tuple(left[1] for left in lefts)]
    for n in each:
        found += [(*whole[:n], one, *whole[n + 1 :]) for one in lefts[n]]
    return dict.fromkeys(found)


def _essence(state: State) -> tuple[Hashable, Hashable]:
    """What tells states apart, of the spool and of local state: private files that nobody reads are left out."""
    told: dict[bool, list[Hashable]] = {True: [], False: []}
    for path, left in state.items():
        if not is_private(path.rpartition("/")[2]):
            told[path.startswith(SPOOL)].append((path, left.inode if left.data is not None else 0, left.data))
    return hash(frozenset(told[True])), hash(frozenset(told[False]))


def _is_private(op: Op) -> bool:
    return all(is_private(name) for _, name, _ in op.updates)


def is_private(name: str) -> bool:
    """Whether nobody looks at a file of this name but who makes it."""
    return name.startswith((".part-", "led.json.")) or (
        len(name.rpartition(".")[2]) == 8 and _is_hex(name.rpartition(".")[2])
    )


def _is_hex(word: str) -> bool:
    return all(letter in "0123456789abcdef" for letter in word)


def build(root: str, state: State) -> dict[int, int]:
    """Put a state there, in place of what is below root. The inode of each file -> the one that it had on the tape."""
    inodes: dict[int, int] = {}
    made: dict[int, str] = {}
    for path, left in state.items():
        where = os.path.join(root, path)
        if left.data is None:
            os.mkdir(where)
            os.chmod(where, left.mode)
            continue
        if left.inode in made:
            os.link(made[left.inode], where)
            continue
        made[left.inode] = where
        descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL, left.mode)
        os.write(descriptor, left.data)
        inodes[os.fstat(descriptor).st_ino] = left.inode
        os.close(descriptor)
    return inodes


# ---- the calls -------------------------------------------------------------------------------------------------


def _stand_in(tape: Tape, call: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def stand_in(*args: Any, **more: Any) -> Any:
        return call(tape, real, *args, **more)

    return stand_in


def _do_open(tape: Tape, real: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    place = tape._find(os.fspath(path), dir_fd) if isinstance(path, (str, os.PathLike)) else None
    known = place is not None and place[1] in tape.now.get(place[0], {})
    descriptor: int = real(path, flags, mode, dir_fd=dir_fd)
    tape._open.pop(descriptor, None)
    if place is None:
        if isinstance(path, str) and os.path.realpath(path) == tape.root:
            tape._open[descriptor] = (tape._root, 0, False)
        return descriptor
    info = os.fstat(descriptor)
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        return descriptor
    tape._open[descriptor] = (info.st_ino, 0, bool(flags & os.O_APPEND))
    if not known and flags & os.O_CREAT:
        tape.files[info.st_ino] = File(b"", stat.S_IMODE(info.st_mode))
        tape.names("create", info.st_ino, (*place, info.st_ino))
    elif flags & os.O_TRUNC and tape.files[info.st_ino].data:
        tape.files[info.st_ino].data = b""
        tape.changed("truncate", info.st_ino)
    return descriptor


def _do_close(tape: Tape, real: Any, descriptor: int) -> None:
    tape._open.pop(descriptor, None)
    real(descriptor)


def _do_write(tape: Tape, real: Any, descriptor: int, data: Any) -> int:
    count: int = real(descriptor, data)
    if descriptor in tape._open:
        node, position, appends = tape._open[descriptor]
        at = len(tape.files[node].data) if appends else position
        _wrote(tape, node, bytes(data[:count]), at)
        tape._open[descriptor] = (node, at + count, appends)
    return count


def _do_pwrite(tape: Tape, real: Any, descriptor: int, data: Any, offset: int) -> int:
    count: int = real(descriptor, data, offset)
    if descriptor in tape._open:
        _wrote(tape, tape._open[descriptor][0], bytes(data[:count]), offset)
    return count


def _wrote(tape: Tape, node: int, data: bytes, offset: int) -> None:
    if data:
        tape.files[node].write(data, offset)
        tape.changed("write", node)


def _do_ftruncate(tape: Tape, real: Any, descriptor: int, length: int) -> None:
    real(descriptor, length)
    if descriptor in tape._open:
        node = tape._open[descriptor][0]
        tape.files[node].data = tape.files[node].data[:length].ljust(length, b"\0")
        tape.changed("truncate", node)


def _do_fsync(tape: Tape, real: Any, descriptor: int) -> None:
    if descriptor in tape._open:
        tape.synced(tape._open[descriptor][0])
    else:
        real(descriptor)


def _do_rename(tape: Tape, real: Any, source: Any, target: Any, **more: Any) -> None:
    real(source, target, **more)
    old, new = tape._find(os.fspath(source)), tape._find(os.fspath(target))
    if old is None and new is None:
        return
    assert old is not None and new is not None, f"{source} -> {target} leaves the tape"
    node = tape.now[old[0]].get(old[1])
    if node is None:  # a file that the test put there by itself: it is durable
        tape._adopt(new[0], os.fspath(target))
        tape.base[new[0]][new[1]] = tape.now[new[0]][new[1]]
        return
    tape.names("rename", node, (*old, 0), (*new, node))


def _do_link(tape: Tape, real: Any, source: Any, target: Any, **more: Any) -> None:
    real(source, target, **more)
    old, new = tape._find(os.fspath(source)), tape._find(os.fspath(target))
    if new is not None and old is not None:
        node = tape.now[old[0]][old[1]]
        tape.names("link", node, (*new, node))


def _do_unlink(tape: Tape, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
    real(path, dir_fd=dir_fd)
    place = tape._find(os.fspath(path), dir_fd)
    if place is not None and (node := tape.now[place[0]].get(place[1])):
        tape.names("unlink", node, (*place, 0))


def _do_mkdir(tape: Tape, real: Any, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    real(path, mode, dir_fd=dir_fd)
    place = tape._find(os.fspath(path), dir_fd)
    if place is not None:
        node = os.stat(path, dir_fd=dir_fd).st_ino
        tape.now[node], tape.modes[node] = {}, mode
        top = place[1] if place[0] == tape._root else SPOOL
        tape._parts[node] = tape._parts.get(place[0], top)
        tape.names("mkdir", node, (*place, node), makes_dir=True)


def _do_rmdir(tape: Tape, real: Any, path: Any, *, dir_fd: int | None = None) -> None:
    real(path, dir_fd=dir_fd)
    place = tape._find(os.fspath(path), dir_fd)
    if place is not None and (node := tape.now[place[0]].get(place[1])):
        tape.names("rmdir", node, (*place, 0))


_CALLS: dict[str, Callable[..., Any]] = {
    "open": _do_open,
    "close": _do_close,
    "write": _do_write,
    "pwrite": _do_pwrite,
    "ftruncate": _do_ftruncate,
    "fsync": _do_fsync,
    "fdatasync": _do_fsync,
    "rename": _do_rename,
    "replace": _do_rename,
    "link": _do_link,
    "unlink": _do_unlink,
    "remove": _do_unlink,
    "mkdir": _do_mkdir,
    "rmdir": _do_rmdir,
}
