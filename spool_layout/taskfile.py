"""SkyPilot's task YAML: bytes in, a TaskSpec out, or every problem at once with its line.

How a file becomes a task: yamltext reads it in bounds; this module reads the fields that mean something here, with
taskpaths and resources for two groups of them; fields says which others there are, shapes what kind of value each may
have; problems collects what is wrong. task.schema.json says the same to editors, as far as a schema can.

A file is accepted or refused as SkyPilot 0.14.1 does it, and its values are the same. Where it differs, on purpose:
- Every secret needs a value. SkyPilot leaves one without to its server's store; there is none here, and a job that runs
  without its token fails later and dearer.
- What could not run is refused at once: 1.5 accelerators, a size of memory that none has (SkyPilot then gives the job
  no accelerator), a name that no variable can have, a share below 0.001, a mount to or from nothing (SkyPilot takes
  an empty source for the directory where `sky` was called), numbers and texts beyond measure.
- A name is also a part of file names: at most 120 characters.
- Words that only a cloud understands (its name, its regions, its kinds of machines and disks) may be any.
- A date is text as it is written; SkyPilot writes it anew, and takes none for a name. So is the name of a variable:
  NO stays NO there.
- `envs:` with nothing in it, a slash at the end of a mount, and a header's name for a task without one are accepted.
- Accelerators: see there.

A field that SkyPilot does not have is an error that names the nearest real one. One that only means something in a
cloud is accepted and told once in `ignored`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from spool_layout import resources
from spool_layout.fields import CLOUD_TASK, FORMER, MISPLACED, TASK
from spool_layout.problems import InvalidTask, Path, Problem, Problems, dotted, kind, told
from spool_layout.records import Demand
from spool_layout.shapes import TEXT
from spool_layout.taskpaths import Git, PathsReader
from spool_layout.yamltext import MAX_BYTES, ONE_TASK, Document, documents, is_complete, read_mapping

__all__ = [
    "MAX_BYTES",
    "Git",
    "InvalidTask",
    "Problem",
    "TaskSpec",
    "is_complete",
    "parse_task",
    "read_mapping",
    "read_task_mapping",
]

LONGEST_NAME = 120  # characters
MOST_NODES = 100_000

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TASK_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]{1,2}[A-Za-z0-9]+)*\Z")
_SECRET_OF_SERVER = re.compile(r"(?:secrets:)?(?:(?:personal|workspace|global)\.)?")
_SECRET = ("envs", "secrets")  # their values are never repeated in a message: everybody may read it
_LOGIN = {"SKYPILOT_DOCKER_USERNAME", "SKYPILOT_DOCKER_PASSWORD", "SKYPILOT_DOCKER_SERVER"}
_NO_STORE = "has no value, and there is no store of secrets here"


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task, checked. demands: alternatives, best first; ignored: dotted keys without meaning here."""

    name: str = ""
    workdir: str = ""
    git: Git | None = None
    num_nodes: int = 1
    demands: tuple[Demand, ...] = (Demand(),)
    envs: dict[str, str] = {}
    secrets: dict[str, str] = {}
    setup: str = ""
    run: str = ""
    file_mounts: dict[str, str] = {}
    restartable: bool = False
    ignored: tuple[str, ...] = ()


def parse_task(text: bytes, *, overrides: Mapping[str, str] = {}, require_absolute_workdir: bool = False) -> TaskSpec:
    """A task file's text as a TaskSpec. InvalidTask with every problem.

    overrides: values for envs and secrets, which win over the file's. require_absolute_workdir: the file was dropped,
    and nobody knows what its paths would be relative to.
    """
    document = _task_document(text)
    problems = Problems(document.places)
    task = _Reader(document.value, problems, overrides, require_absolute_workdir).task()
    problems.check()
    return task


def read_task_mapping(text: bytes) -> dict[str, Any]:
    """The mapping of a task file as it is written, with SkyPilot's header document taken in. InvalidTask."""
    value: dict[str, Any] = _task_document(text).value
    return value


def _task_document(text: bytes) -> Document:
    """The one task. An optional first document holds only a name (and `execution: serial`)."""
    found = documents(text)
    if not found or found[0].value == {}:
        raise InvalidTask([Problem("is empty", hint="write at least `run:` and a command")])
    for document in found:
        if not isinstance(document.value, dict):
            raise InvalidTask([Problem("must be a mapping of fields to values, such as `run: echo hello`")])
    if not _is_header(found[0].value):
        if len(found) > 1:
            raise InvalidTask([Problem("holds several tasks", hint=ONE_TASK)])
        return found[0]
    head = Document({"name": found[0].value["name"]}, {"name": found[0].places["name"]})
    task = found[1] if len(found) > 1 else head
    named = head.value if task.value.get("name") is None else {}
    return Document({**task.value, **named}, {**head.places, **task.places})


def _is_header(value: dict[str, Any]) -> bool:
    return set(value) in ({"name"}, {"name", "execution"}) and value.get("execution") in (None, "serial")


def _held(raw: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that hold nothing: they count as left out."""
    return {word: value for word, value in raw.items() if value is not None}


class _Reader:
    """Reads one task's mapping, collecting problems."""

    def __init__(self, raw: dict[str, Any], problems: Problems, overrides: Mapping[str, str], dropped: bool) -> None:
        self.raw, self.problems, self.overrides, self.dropped = _held(raw), problems, overrides, dropped
        problems.check_names(raw, (), (*TASK, *CLOUD_TASK), {**MISPLACED, **FORMER})
        self.ignored: list[Path] = []

    def task(self) -> TaskSpec:
        """What the fields say, in the order of the manual."""
        self._clouds()
        secrets = self._secrets()
        envs = self._envs(secrets)
        self._login({"envs": envs, "secrets": secrets})
        paths = PathsReader(self.problems, self.ignored, {**envs, **secrets}, self.dropped)
        workdir, git = paths.workdir(self.raw.get("workdir", ""))
        asked = self._mapping("resources")
        return TaskSpec(
            name=self._name(),
            workdir=workdir,
            git=git,
            num_nodes=self._num_nodes(),
            demands=resources.ResourcesReader(self.problems, self.ignored).demands(asked, ("resources",)),
            envs=envs,
            secrets=secrets,
            setup=self._text("setup"),
            run=self._text("run"),
            file_mounts=paths.file_mounts(self._mapping("file_mounts")),
            restartable=resources.restartable(asked),
            ignored=tuple(dict.fromkeys(dotted(_numberless(path)) for path in self.ignored)),
        )

    def _clouds(self) -> None:
        for word, shape in CLOUD_TASK.items():
            if word in self.raw:
                self.problems.add_all((word,), shape.complaints(self.raw[word]))
                if not word.startswith("_"):
                    self.ignored.append((word,))
        if "service" in self.raw and "pool" in self.raw:
            self.problems.add(("pool",), "and service exclude each other")

    def _mapping(self, word: str) -> dict[str, Any]:
        value = self.raw.get(word, {})
        if isinstance(value, dict):
            return value
        self.problems.add((word,), f"must be a mapping, not {kind(value) if word in _SECRET else told(value)}")
        return {}

    def _text(self, word: str) -> str:
        """A script."""
        value = self.raw.get(word, "")
        if not isinstance(value, str):
            self.problems.add(
                (word,), f"must be text (shell commands), not {told(value)}", _AS_TEXT.get(type(value), "")
            )
        elif "\0" in value:
            self.problems.add((word,), "holds a NUL character")
        else:
            return value
        return ""

    def _name(self) -> str:
        value = self.raw.get("name")
        if value is None:
            return ""
        if complaints := TEXT.complaints(value):
            self.problems.add_all(("name",), complaints)
        elif len(value) > LONGEST_NAME or not _TASK_NAME.match(value):
            hint = f"letters and digits, and '.', '_', '-' between them, at most two in a row; up to {LONGEST_NAME}"
            self.problems.add(("name",), f"{told(value)} is no name for a task", hint)
        else:
            return str(value)
        return ""

    def _num_nodes(self) -> int:
        value = self.raw.get("num_nodes", 1)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_NODES:
            return value
        self.problems.add(("num_nodes",), f"must be a whole number from 1 to {MOST_NODES}, not {told(value)}")
        return 1

    # ---- envs and secrets

    def _envs(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """The file's envs, and what was given besides for names that are no secrets."""
        found: dict[str, str] = {}
        for name, value in self._mapping("envs").items():
            if value is None and name not in self.overrides and "=" not in name:
                hint = f'give one: --env {name}=…, or write {name}: "" for an empty one'
                self.problems.add(("envs", name), "has no value", hint)
            self._variable(found, name, value, ("envs", name))
        return {**found, **{name: value for name, value in self.overrides.items() if name not in secrets}}

    def _secrets(self) -> dict[str, str]:
        """The secrets, with values. A list, a prefix `secrets:` and managed_secrets name those of SkyPilot's server."""
        found: dict[str, str] = {}
        for name, value, path in self._named_secrets():
            bare = _SECRET_OF_SERVER.sub("", name, count=1) if value is None else name
            if value is None and bare not in self.overrides and "=" not in bare:
                self.problems.add(path, _NO_STORE, f"give one: --secret {bare}=…, or write {bare}: VALUE under secrets")
            self._variable(found, bare, value, path)
        return found

    def _named_secrets(self) -> list[tuple[str, Any, Path]]:
        named: list[tuple[str, Any, Path]] = []
        for word in ("secrets", "managed_secrets"):
            value = self.raw.get(word, [])
            if isinstance(value, dict) and word == "secrets":
                named += [(name, item, (word, name)) for name, item in value.items()]
            elif isinstance(value, list) and all(isinstance(item, str) for item in value):
                named += [(item, None, (word, n)) for n, item in enumerate(value)]
            else:
                self.problems.add((word,), f"must name variables and their values, not be {kind(value)}")
        return named

    def _login(self, places: Mapping[str, Mapping[str, str]]) -> None:
        """The variables by which SkyPilot logs in to a registry: all in one place, or none."""
        held = {word: _LOGIN & names.keys() for word, names in places.items()}
        used = [word for word, names in held.items() if names]
        if len(used) > 1 or (used and held[used[0]] != _LOGIN):
            message = "is one of three that log in to a registry: all of them stand in one place, or none"
            hint = f"all under envs or secrets: {', '.join(sorted(_LOGIN))}"
            self.problems.add((used[0], min(held[used[0]])), message, hint)

    def _variable(self, found: dict[str, str], name: str, value: Any, path: Path) -> None:
        """Take a variable in: as text, as SkyPilot does it (true becomes "True"), or as it was given besides."""
        text = self.overrides.get(name, "" if value is None else str(value))
        if not _ENV_NAME.match(name):
            self._no_variable(name, path)
        elif "\0" in text:
            self.problems.add(path, "holds a NUL character")
        else:
            found[name] = text

    def _no_variable(self, name: str, path: Path) -> None:
        """A name that is none, which may hold the value too (`- TOKEN=abc`): then that is not repeated."""
        bare, equals, _ = name.partition("=")
        hint = "letters, digits and '_', and no digit first"
        if equals and _ENV_NAME.match(bare):
            message, hint = f"{bare}=… is a name and its value in one word", f"write {bare}: VALUE, without a dash"
        elif equals:
            message = "is no name for an environment variable"
        else:
            message = f"{told(name)} is no name for an environment variable"
        self.problems.add(path, message, hint, hidden=bool(equals))


_AS_TEXT = {
    list: "write `|` after the colon and the commands below it, one a line",
    dict: "write `|` after the colon and the commands below it",
    int: "put it in quotes",
    float: "put it in quotes",
    bool: "put it in quotes",
}


def _numberless(path: Path) -> Path:
    """resources.any_of[3].infra is told as resources.any_of.infra, once."""
    return tuple(step for step in path if isinstance(step, str))
