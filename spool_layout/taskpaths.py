"""The paths of a task: its working directory, and what it wants to have elsewhere.

    workdir: ~/project                        used in place; nothing is copied
    workdir: {url: https://…, ref: main}      cloned by the runner
    file_mounts: {/data: ~/data}              a link where the target is absent
    file_mounts: {/data: s3://bucket}         means nothing here, as does a mapping that describes a bucket

$NAME and ${NAME} stand for the task's own envs and secrets. In a dropped file paths must be absolute.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from spool_layout.fields import GIT, STORAGE
from spool_layout.problems import Path, Problems, told

LONGEST = 4096  # characters of a path, its variables filled in (PATH_MAX of Linux)
MOST_MOUNTS = 1_000

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^/]", re.IGNORECASE)


class Git(msgspec.Struct, frozen=True, omit_defaults=True):
    """A working directory that is cloned."""

    url: str
    ref: str = ""


class PathsReader:
    """Reads workdir and file_mounts. What is wrong goes to problems, what means nothing here to ignored.

    variables: what may be filled in. dropped: the file was dropped, and nobody knows what a path would be relative to.
    """

    def __init__(self, problems: Problems, ignored: list[Path], variables: Mapping[str, str], dropped: bool) -> None:
        self.problems, self.ignored, self.variables, self.dropped = problems, ignored, variables, dropped

    def workdir(self, value: Any) -> tuple[str, Git | None]:
        """A path, "" for none; or what to clone."""
        where: Path = ("workdir",)
        if isinstance(value, dict):
            return "", self._git(value, where)
        if not isinstance(value, str):
            self.problems.add(where, f"must be a path or {{url, ref}}, not {told(value)}")
            return "", None
        path = self._filled(value, where)
        if path:
            self._absolute(path, value, where)
        return path, None

    def _git(self, value: dict[str, Any], where: Path) -> Git | None:
        self.problems.check_names(value, where, GIT, {})
        found = {word: self._filled(item, (*where, word)) for word, item in value.items() if isinstance(item, str)}
        if _unfit(found.get("url")):
            self.problems.add((*where, "url"), "must be the address of a git repository")
        elif "ref" in value and _unfit(found.get("ref")):
            hint = "put it in quotes" if isinstance(value["ref"], (int, float)) else ""
            self.problems.add((*where, "ref"), "must be a branch, a tag or a commit", hint)
        else:
            return Git(found["url"], found.get("ref", ""))
        return None

    def file_mounts(self, mounts: dict[str, Any]) -> dict[str, str]:
        """Target -> source, for local sources."""
        found: dict[str, str] = {}
        if len(mounts) > MOST_MOUNTS:
            self.problems.add(("file_mounts",), f"has {len(mounts)} entries; at most {MOST_MOUNTS} are taken")
            return found
        for word, value in mounts.items():
            where: Path = ("file_mounts", word)
            if isinstance(value, dict):
                self.problems.add_all(where, STORAGE.complaints(value))
                self.ignored.append(where)
            elif isinstance(value, str) and value and word:
                found |= self._mount(self._filled(word, where), self._filled(value, where), value, where)
            else:
                self.problems.add(where, f"must be a path, or an address in a cloud, not {told(value)}")
        return found

    def _mount(self, target: str, source: str, written: str, where: Path) -> dict[str, str]:
        if _ADDRESS.match(source):
            self.ignored.append(where)
            return {}
        if not (source and target):
            self.problems.add(where, "is no path once its variables are filled in", "give them values: --env NAME=…")
        elif source.startswith("file:"):
            self.problems.add(where, f"{told(written)} must be a path", "leave file:// out")
        else:
            self._absolute(source, written, where)
        return {target.rstrip("/") or "/": source.rstrip("/") or "/"}

    def _absolute(self, path: str, written: str, where: Path) -> None:
        """written: the path before its variables were filled in, which may be secrets."""
        if self.dropped and not path.startswith(("/", "~")):
            message = f"{told(written)} must be absolute: in a dropped file nobody knows what it would be relative to"
            hint = "to clone a repository, write workdir: {url: …}" if _ADDRESS.match(path) else "begin it with / or ~"
            self.problems.add(where, message, hint)

    def _filled(self, text: str, where: Path) -> str:
        """With the task's variables in it; names that it does not have stay as they are, as in SkyPilot."""
        names = _VARIABLE.findall(text) if len(text) <= LONGEST else ()
        if len(text) + sum(len(self.variables.get(name, "")) for name in names) > LONGEST:
            self.problems.add(where, f"is longer than {LONGEST} characters, its variables filled in")
        elif "\0" in text:
            self.problems.add(where, "holds a NUL character")
        else:
            return _VARIABLE.sub(lambda match: self.variables.get(match[1], match[0]), text)
        return ""


def _unfit(word: str | None) -> bool:
    """Whether git would take it for an option, or it is no word at all."""
    return not word or word.startswith("-")
