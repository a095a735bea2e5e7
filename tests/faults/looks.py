"""What a recovery looked at below a directory: where all of that is the same, it goes the same way.

The programs are driven pass by pass, with the same time and the same names by chance (machine.py); so what they do
follows from what they find. `Looks` stands in for the calls by which they find something, while it is entered, and
notes each: whether something stands under a name, which names are in a directory, what a file says. Two states that
answer every one of these alike need not both be recovered. What the recovery has put there itself, or taken away,
is not asked of the state any more.

A file of local state says its JSON, or nothing where it has none: all who read one there go by that (`read_json` of
spoold/node/workplace.py, `_led` of spoold/restored.py), but for those in TEXTS. (What `lock` says is told to people.)
Names that begin with a dot are passed over by all who list a directory there.

Not noted: what shutil.rmtree finds below the directory that it removes, since it comes to the same.
"""

from __future__ import annotations

import builtins
import io
import json
import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from spoold.node.workplace import Attempt
from tests.faults.power import State

TEXTS = frozenset({"memory", "begun", "bashrc"})  # files that are no JSON
IS, HOLDS, LISTS, SAYS = "is there", "holds anything", "lists", "says"
Look = tuple[str, str]  # what was asked, and of which path, relative to the root of the states


class Names(set[str]):
    """What an attempt's directory holds: of whom something is asked, that is noted, and no more."""

    def __init__(self, names: set[str], looks: Looks, path: str) -> None:
        super().__init__(names)
        self._looks, self._path = looks, path

    def __contains__(self, name: object) -> bool:
        self._looks.note(IS, os.path.join(self._path, str(name)))
        return super().__contains__(name)

    def __and__(self, others: Any) -> set[str]:
        return {name for name in others if name in self}

    def __bool__(self) -> bool:
        self._looks.note(HOLDS, self._path)
        return len(self) > 0

    def __iter__(self) -> Any:
        raise AssertionError("not noted")


class Looks:
    """Notes what is looked at below root/part while it is entered. `found`: since the last `begin`."""

    def __init__(self, root: str, part: str) -> None:
        self.root, self.below = root, os.path.join(root, part) + os.sep
        self.begin()

    def begin(self) -> None:
        """Another recovery."""
        self.found: set[Look] = set()
        self._own: set[str] = set()  # files that it has put there, or taken away
        self._made: tuple[str, ...] = ()  # directories that it has made, with "/"

    def note(self, asked: str, path: Any) -> None:
        """Something was asked of a path."""
        if not isinstance(path, str | os.PathLike) or not (path := os.fspath(path)).startswith(self.below):
            return
        if path not in self._own and not path.startswith(self._made):
            self.found.add((asked, path[len(self.root) + 1 :]))

    def own(self, *paths: Any) -> None:
        """From now on a path tells what the recovery did."""
        self._own |= {os.fspath(path) for path in paths if isinstance(path, str | os.PathLike)}

    def __enter__(self) -> Looks:
        self._real: list[tuple[Any, str, Any]] = []
        for name in ("stat", "lstat", "access", "rmdir", "chmod", "utime", "readlink"):
            self._stand_in(os, name, lambda path, *args, **more: self.note(IS, path))
        for name in ("listdir", "scandir"):
            self._stand_in(os, name, lambda path=".", *args: self.note(LISTS, path))
        for name in ("unlink", "remove"):
            self._stand_in(os, name, lambda path, **more: self.note(IS, path), lambda path, **more: self.own(path))
        for name in ("rename", "replace"):
            self._stand_in(os, name, self._renames, self._renamed)
        self._stand_in(os, "mkdir", lambda path, *args, **more: self.note(IS, path), self._makes)
        self._stand_in(os, "link", self._links, lambda source, target, **more: self.own(target))
        self._stand_in(os, "open", self._opens, self._opened)
        for module in (builtins, io):
            self._stand_in(module, "open", self._reads, self._wrote)
        names = Attempt.names
        self._real.append((Attempt, "names", names))
        Attempt.names = lambda attempt: self._names(names, attempt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, name, real in reversed(self._real):
            setattr(module, name, real)

    def _stand_in(
        self, module: Any, name: str, before: Callable[..., None], after: Callable[..., None] | None = None
    ) -> None:
        real = getattr(module, name)
        self._real.append((module, name, real))

        def stand_in(*args: Any, **more: Any) -> Any:
            before(*args, **more)
            made = real(*args, **more)
            if after is not None:
                after(*args, **more)
            return made

        setattr(module, name, stand_in)

    def _names(self, real: Callable[[Attempt], set[str]], attempt: Attempt) -> set[str]:
        found = self.found
        self.found = set()
        try:
            return Names(real(attempt), self, attempt.path)
        finally:
            self.found = found

    def _makes(self, path: Any, *args: Any, **more: Any) -> None:
        self._made += (f"{os.fspath(path)}/",)
        self.own(path)

    def _links(self, source: Any, target: Any, **more: Any) -> None:
        self.note(IS, source)
        self.note(IS, target)

    def _renames(self, source: Any, target: Any, **more: Any) -> None:
        self.note(IS, source)
        self.note(HOLDS, target)  # a directory gives way if nothing is in it

    def _renamed(self, source: Any, target: Any, **more: Any) -> None:
        if f"{source}/" in self._made:
            self._made += (f"{target}/",)
        self.own(source, target)

    def _opens(self, path: Any, flags: int, *args: Any, **more: Any) -> None:
        if flags & (os.O_EXCL | os.O_DIRECTORY):
            self.note(IS, path)
        elif not flags & os.O_TRUNC:
            self.note(SAYS, path)

    def _opened(self, path: Any, flags: int, *args: Any, **more: Any) -> None:
        if flags & (os.O_EXCL | os.O_TRUNC):
            self.own(path)

    def _reads(self, path: Any, mode: str = "r", *args: Any, **more: Any) -> None:
        if "w" not in mode:
            self.note(SAYS, path)

    def _wrote(self, path: Any, mode: str = "r", *args: Any, **more: Any) -> None:
        if "w" in mode:
            self.own(path)


def answers(state: State, looks: Iterable[Look]) -> dict[Look, object]:
    """What a state answers to these."""
    return {look: _answer(state, *look) for look in looks}


def agrees(state: State, answers: dict[Look, object]) -> bool:
    """Whether a state answers so."""
    return all(_answer(state, *look) == answer for look, answer in answers.items())


def _answer(state: State, asked: str, path: str) -> object:
    left = state.get(path)
    if asked == IS:
        return left is not None
    if asked == SAYS:
        return left and _said(path.rpartition("/")[2], left.data)
    within = {other[len(path) + 1 :] for other in state if other.startswith(f"{path}/")}
    if asked == HOLDS:
        return bool(within)
    return left is not None and frozenset(name for name in within if "/" not in name and not name.startswith("."))


def _said(name: str, data: bytes | None) -> bytes | None:
    """What a file tells who reads it."""
    if name == "lock":
        return None
    if data is None or name in TEXTS:
        return data
    try:
        return data if json.loads(data) is not None else None
    except ValueError:
        return None
