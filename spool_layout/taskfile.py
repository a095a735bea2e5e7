"""SkyPilot's task YAML: bytes in, a TaskSpec out, or every problem at once with its line.

One pass over the parser's events, which cost the same however a file is built. It refuses what would
hurt later: deep nesting (the C composer recurses, and dies at 100,000 levels), tags, several tasks, and more values
than any task has, where an alias counts as all that it stands for (with aliases and merge keys a file of 400 bytes can
stand for gigabytes). Values are built from the same events, with the place of every key; numbers, booleans and strings
have YAML 1.1's meaning as PyYAML gives it, since that is what SkyPilot's users have written their files for; dates
stay text.

A field that SkyPilot does not have is an error that names the nearest real one. One that only means something in a
cloud is accepted and told in `ignored`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import yaml

from spool_layout import accelerators
from spool_layout.errors import SpoolError
from spool_layout.records import WHOLE, Demand

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 30
MAX_NODES = 50_000


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a task file. line, column: from 1."""

    message: str
    key: str = ""
    line: int | None = None
    column: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}: " if self.line else ""
        return f"{where}{self.key + ': ' if self.key else ''}{self.message}{f' ({self.hint})' if self.hint else ''}"


class InvalidTask(SpoolError):
    """A file that is no task. problems: all of them; message: one a line."""

    fault = "user"

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class Git(msgspec.Struct, frozen=True, omit_defaults=True):
    """A working directory that is cloned."""

    url: str
    ref: str = ""


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


# ---- YAML in bounds -----------------------------------------------------------------------------------------

_LAST_LINE = re.compile(rb"(?:^|\n)\.\.\.[ \t\r\n]*\Z")


def is_complete(text: bytes) -> bool:
    """Whether the last line is YAML's end mark `...` at column 0."""
    return bool(_LAST_LINE.search(text[-200:]))


class Marks(NamedTuple):
    """Where keys stand: dotted key -> (line, column), from 1."""

    places: dict[str, tuple[int, int]]


class _Refused(Exception):
    def __init__(self, message: str, mark: Any = None, hint: str = "") -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        self.problem = Problem(message, line=line, column=column, hint=hint)


def read_mapping(text: bytes) -> dict[str, Any]:
    """The one mapping of a YAML text, read in bounds. InvalidTask for anything else."""
    documents, _ = _load(text)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise InvalidTask([Problem("must be one mapping of keys to values")])
    return documents[0]


def read_task_mapping(text: bytes) -> dict[str, Any]:
    """The mapping of a task file as it is written, with SkyPilot's header document taken in. InvalidTask."""
    documents, _ = _without_header(*_load(text))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise InvalidTask([Problem("must be one mapping of keys to values")])
    return documents[0]


def _load(text: bytes) -> tuple[list[Any], list[Marks]]:
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidTask([Problem(f"is not UTF-8 text (byte {error.start})")]) from None
    builder = _Builder(yaml.parse(decoded, Loader=_LOADER))
    try:
        return builder.documents()
    except _Refused as error:
        raise InvalidTask([error.problem]) from None
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        refused = _Refused(f"is not YAML: {error.problem or error.context}", mark)
        raise InvalidTask([refused.problem]) from None
    except yaml.YAMLError as error:
        raise InvalidTask([Problem(f"is not YAML: {' '.join(str(error).split())}")]) from None
    except ValueError as error:
        raise InvalidTask([Problem(f"is not YAML: {error}")]) from None


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]*|[1-9][0-9_]*)\Z")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?\Z")
_BOOL = {
    word: value
    for value, words in ((True, "yes true on"), (False, "no false off"))
    for bare in words.split()
    for word in (bare, bare.capitalize(), bare.upper())
}


class _Builder:
    """Builds values from events. Recursion is bounded by MAX_DEPTH."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.nodes = 0
        self.places: dict[str, tuple[int, int]] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}  # name -> (value, how many values it stands for)

    def documents(self) -> tuple[list[Any], list[Marks]]:
        documents: list[Any] = []
        marks: list[Marks] = []
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.places = {}
                documents.append(self._value(next(self.events), "", 0))
                marks.append(Marks(self.places))
                if len(documents) > 2:
                    raise _Refused(
                        "holds several tasks",
                        event.start_mark,
                        "pipelines and job groups are no cluster jobs: one file is one task",
                    )
        return documents, marks

    def _value(self, event: Any, key: str, depth: int) -> Any:
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        before = self.nodes
        value = self._fresh(event, key, depth)
        if event.anchor:
            self.anchors[event.anchor] = value, self.nodes - before + 1
        return value

    def _count(self, nodes: int, event: Any) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _Refused(f"holds more than {MAX_NODES} values, aliases written out", event.start_mark)

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            raise _Refused(f"*{event.anchor} stands for nothing before it", event.start_mark)
        value, nodes = self.anchors[event.anchor]
        self._count(nodes, event)
        return value

    def _fresh(self, event: Any, key: str, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if event.tag not in (None, "!"):
            raise _Refused(f"tag {event.tag} is not accepted", event.start_mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self._value(item, f"{key}[{n}]", depth + 1) for n, item in enumerate(iter(self._next, None))]
        return self._mapping(key, depth)

    def _next(self) -> Any:
        event = next(self.events)
        return None if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)) else event

    def _mapping(self, key: str, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        merged: list[Any] = []
        for event in iter(self._next, None):
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused("a key must be a plain word", event.start_mark)
            word = self._value(event, key, depth + 1)
            if event.value == "<<" and not event.style:
                merged += self._merged(self._value(next(self.events), key, depth + 1), event)
                continue
            if word in found:
                raise _Refused(f"key {word!r} stands here a second time", event.start_mark)
            inner = f"{key}.{word}" if key else str(word)
            start: Any = event.start_mark
            self.places[inner] = (start.line + 1, start.column + 1)
            found[word] = self._value(next(self.events), inner, depth + 1)
        for mapping in merged:  # own keys win, then earlier mappings
            found = {**mapping, **found}
        return found

    def _merged(self, value: Any, event: Any) -> list[dict[Any, Any]]:
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            raise _Refused("<< merges mappings only", event.start_mark)
        return mappings


def _scalar(event: Any) -> Any:
    """A plain scalar as PyYAML would read it, save that dates stay text; a quoted one is text."""
    text: str = event.value
    if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise _Refused(f"tag {event.tag} is not accepted", event.start_mark)
    if event.style or event.tag or not event.implicit[0]:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text):
        return _integer(text, event)
    return float(text.replace("_", "")) if _FLOAT.match(text) else text


def _integer(text: str, event: Any) -> int:
    if len(text) > 18:
        raise _Refused(f"a number of {len(text)} digits", event.start_mark)
    bare = text.replace("_", "")
    sign = -1 if bare.startswith("-") else 1
    digits = bare.lstrip("+-")
    base = 2 if digits.startswith("0b") else 16 if digits.startswith("0x") else 8 if digits[0] == "0" else 10
    return sign * int(digits[2:] if base in (2, 16) else digits.replace("o", "") or "0", base)


# ---- a task -------------------------------------------------------------------------------------------------

_TASK_FIELDS = ("name", "workdir", "num_nodes", "resources", "setup", "run", "envs", "secrets", "file_mounts")
_TASK_IGNORED = (
    "volumes",
    "volume_mounts",
    "service",
    "pool",
    "config",
    "event_callback",
    "managed_secrets",
    "api_server_access",
    "inputs",
    "outputs",
    "file_mounts_mapping",
    "_metadata",
    "experimental",
)
_RESOURCE_FIELDS = ("accelerators", "gpus", "cpus", "memory", "job_recovery", "any_of", "ordered")
_RESOURCE_IGNORED = (
    "instance_type",
    "infra",
    "cloud",
    "region",
    "zone",
    "use_spot",
    "disk_size",
    "disk_tier",
    "network_tier",
    "local_disk",
    "max_hourly_cost",
    "ports",
    "labels",
    "accelerator_args",
    "image_id",
    "autostop",
    "priority",
    "priority_class",
    "volumes",
    "ephemeral_storage",
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TASK_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._@+-]*[A-Za-z0-9._+-])?\Z")
_CLOUD_URI = re.compile(r"(?!file:)[a-z0-9]+://", re.IGNORECASE)
_UNITS = {
    "": 1.0,
    "kb": 1e-6,
    "mb": 1 / 1024,
    "gb": 1.0,
    "tb": 1024.0,
    "pb": 1024.0**2,
    "ki": 2.0**-20,
    "mi": 2.0**-10,
    "gi": 1.0,
    "ti": 1024.0,
    "pi": 1024.0**2,
    "k": 2.0**-20,
    "m": 2.0**-10,
    "g": 1.0,
    "t": 1024.0,
    "p": 1024.0**2,
}


def parse_task(text: bytes, *, overrides: Mapping[str, str] = {}, require_absolute_workdir: bool = False) -> TaskSpec:
    """A task file's text as a TaskSpec. overrides: values for envs and secrets, which win over the file's.

    InvalidTask with every problem.
    """
    if len(text) > MAX_BYTES:
        raise InvalidTask([Problem(f"has {len(text)} bytes; at most {MAX_BYTES} are read")])
    documents, marks = _load(text)
    documents, marks = _without_header(documents, marks)
    if not documents or documents[0] is None:
        raise InvalidTask([Problem("is empty")])
    if not isinstance(documents[0], dict):
        raise InvalidTask([Problem("must be a mapping of fields to values, such as `run: echo hello`")])
    reader = _Reader(documents[0], marks[0].places, overrides, require_absolute_workdir)
    task = reader.task()
    if reader.problems:
        raise InvalidTask(sorted(reader.problems, key=lambda p: (p.line or 0, p.column or 0)))
    return task


def _without_header(documents: list[Any], marks: list[Marks]) -> tuple[list[Any], list[Marks]]:
    """SkyPilot takes an optional first document with only a name (and `execution: serial`)."""
    if len(documents) < 2:
        return documents, marks
    head = documents[0]
    if isinstance(head, dict) and set(head) <= {"name", "execution"} and head.get("execution", "serial") == "serial":
        if isinstance(documents[1], dict) and head.get("name") and not documents[1].get("name"):
            documents[1]["name"] = head["name"]
        return documents[1:], marks[1:]
    raise InvalidTask(
        [Problem("holds several tasks", hint="pipelines and job groups are no cluster jobs: one file is one task")]
    )


class _Reader:
    """Reads one task's mapping, collecting problems."""

    def __init__(
        self, raw: dict[Any, Any], places: dict[str, tuple[int, int]], overrides: Mapping[str, str], absolute: bool
    ) -> None:
        self.raw, self.places, self.overrides, self.absolute = raw, places, overrides, absolute
        self.problems: list[Problem] = []
        self.ignored: list[str] = []

    def wrong(self, key: str, message: str, hint: str = "") -> None:
        """Note a problem at a dotted key."""
        line, column = self.places.get(key, (None, None))
        self.problems.append(Problem(message, key, line, column, hint))

    def task(self) -> TaskSpec:
        self.check_names(self.raw, "", _TASK_FIELDS, _TASK_IGNORED)
        envs = self.variables("envs")
        secrets = self.secrets()
        for name, value in self.overrides.items():
            (secrets if name in secrets else envs)[name] = value
        resources = self.mapping("resources")
        workdir, git = self.workdir({**envs, **secrets})
        return TaskSpec(
            name=self.name(),
            workdir=workdir,
            git=git,
            num_nodes=self.num_nodes(),
            demands=self.demands(resources),
            envs=envs,
            secrets=secrets,
            setup=self.script("setup"),
            run=self.script("run"),
            file_mounts=self.file_mounts({**envs, **secrets}),
            restartable=self.recovery(resources),
            ignored=tuple(self.ignored),
        )

    def check_names(self, raw: dict[Any, Any], key: str, known: tuple[str, ...], ignored: tuple[str, ...]) -> None:
        """Unknown fields are problems, fields of clouds are noted."""
        for word in raw:
            dotted = f"{key}.{word}" if key else str(word)
            if word in ignored:
                if raw[word] is not None and dotted != "_metadata":
                    self.ignored.append(dotted)
            elif word not in known:
                near = difflib.get_close_matches(str(word), (*known, *ignored), 1, 0.6)
                self.wrong(dotted, "there is no such field", f"did you mean {near[0]!r}?" if near else "")

    def mapping(self, key: str) -> dict[Any, Any]:
        value = self.raw.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, "must be a mapping")
            return {}
        return value

    def name(self) -> str:
        value = self.raw.get("name")
        if value is None:
            return ""
        if not isinstance(value, str):
            self.wrong("name", f"must be text, not {value!r}", f'write name: "{value}"')
        elif len(value) > 120 or not _TASK_NAME.match(value) or ".." in value:
            self.wrong(
                "name",
                f"{value[:60]!r} is no name for a task",
                "letters, digits, '.', '_', '-', '+', '@' and spaces; at most 120",
            )
        else:
            return value
        return ""

    def script(self, key: str) -> str:
        value = self.raw.get(key)
        if value is None or isinstance(value, str):
            if value and "\0" in value:
                self.wrong(key, "holds a NUL character")
            return value or ""
        self.wrong(key, f"must be text (shell commands), not {_kind(value)}", "write `|` and the commands below it")
        return ""

    def num_nodes(self) -> int:
        value = self.raw.get("num_nodes")
        if value is None:
            return 1
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        self.wrong("num_nodes", f"must be a whole number above 0, not {value!r}")
        return 1

    # ---- envs and secrets

    def variables(self, key: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, value in self.mapping(key).items():
            dotted = f"{key}.{name}"
            if not isinstance(name, str) or not _ENV_NAME.match(name):
                self.wrong(dotted, f"{name!r} is no name for an environment variable")
            elif isinstance(value, (dict, list)):
                self.wrong(dotted, f"must be text or a number, not {_kind(value)}")
            elif value is None and name not in self.overrides:
                self.wrong(dotted, "has no value", f"give one: --{'secret' if key == 'secrets' else 'env'} {name}=…")
            elif "\0" in str(value):
                self.wrong(dotted, "holds a NUL character")
            else:
                found[name] = self.overrides.get(name, "" if value is None else str(value))
        return found

    def secrets(self) -> dict[str, str]:
        if isinstance(self.raw.get("secrets"), list):
            self.wrong(
                "secrets", "a list names secrets kept by SkyPilot's server, and there is none here", "write NAME: value"
            )
            return {}
        return self.variables("secrets")

    def filled(self, text: str, variables: Mapping[str, str]) -> str:
        """$NAME and ${NAME} of the task's own variables; others stay as they are, as in SkyPilot."""
        return re.sub(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))", lambda m: variables.get(m[1] or m[2], m[0]), text)

    # ---- places

    def workdir(self, variables: Mapping[str, str]) -> tuple[str, Git | None]:
        value = self.raw.get("workdir")
        if value is None:
            return "", None
        if isinstance(value, dict):
            return "", self.git(value)
        if not isinstance(value, str) or not value or "\0" in value:
            self.wrong("workdir", f"must be a path or {{url, ref}}, not {_kind(value)}")
            return "", None
        path = self.filled(value, variables)
        if self.absolute and not path.startswith(("/", "~")):
            self.wrong(
                "workdir",
                f"{path!r} must be absolute: in a dropped file nobody knows what it would be relative to",
                "begin it with / or ~",
            )
        return path, None

    def git(self, value: dict[Any, Any]) -> Git | None:
        self.check_names(value, "workdir", ("url", "ref"), ())
        url, ref = value.get("url"), value.get("ref")
        if not isinstance(url, str) or not url or url.startswith("-"):
            self.wrong("workdir.url", "must be the address of a git repository")
        elif ref is not None and (not isinstance(ref, (str, int, float)) or str(ref).startswith("-")):
            self.wrong("workdir.ref", "must be a branch, a tag or a commit")
        else:
            return Git(url, "" if ref is None else str(ref))
        return None

    def file_mounts(self, variables: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for target, source in self.mapping("file_mounts").items():
            key = f"file_mounts.{target}"
            if isinstance(source, dict) or (isinstance(source, str) and _CLOUD_URI.match(source)):
                self.ignored.append(key)
            elif not isinstance(source, str) or not source or not isinstance(target, str):
                self.wrong(key, "must be a path, or an address in a cloud")
            else:
                found[self.filled(target, variables)] = self.filled(source, variables)
        return found

    # ---- resources

    def recovery(self, resources: dict[Any, Any]) -> bool:
        """Whether the task asks to be run again when its node is lost (SkyPilot's job_recovery)."""
        value = resources.get("job_recovery")
        if isinstance(value, dict):
            return True
        if value is not None and not isinstance(value, str):
            self.wrong("resources.job_recovery", "must be a word or a mapping")
        return isinstance(value, str) and value.lower() != "none"

    def demands(self, resources: dict[Any, Any]) -> tuple[Demand, ...]:
        self.check_names(resources, "resources", _RESOURCE_FIELDS, _RESOURCE_IGNORED)
        several = [key for key in ("any_of", "ordered") if resources.get(key) is not None]
        if len(several) == 2:
            self.wrong("resources.ordered", "and any_of exclude each other")
        base = {k: v for k, v in resources.items() if k not in ("any_of", "ordered") and v is not None}
        if not several:
            return self.alternatives(base, "resources")
        if "ordered" in several and len(self.accelerators(base, "resources")) > 1:
            self.wrong("resources.ordered", "does not go with several accelerators beside it")
        return self.candidates(resources[several[0]], base, f"resources.{several[0]}")

    def candidates(self, rows: Any, base: dict[Any, Any], key: str) -> tuple[Demand, ...]:
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            self.wrong(key, "must be a list of resources")
            return (Demand(),)
        found: list[Demand] = []
        for number, row in enumerate(rows):
            inner = f"{key}[{number}]"
            self.check_names(row, inner, ("accelerators", "gpus", "cpus", "memory", "job_recovery"), _RESOURCE_IGNORED)
            own = {k: v for k, v in row.items() if v is not None}
            rest = {
                k: v
                for k, v in base.items()
                if not ({"accelerators", "gpus"} & own.keys() and k in ("accelerators", "gpus"))
            }
            found += self.alternatives({**rest, **own}, inner)
        return tuple(dict.fromkeys(found))

    def alternatives(self, resources: dict[Any, Any], key: str) -> tuple[Demand, ...]:
        cpus = self.amount(resources.get("cpus"), f"{key}.cpus", {"": 1.0})
        memory = self.amount(resources.get("memory"), f"{key}.memory", _UNITS)
        cpus_milli = 500 if cpus is None else max(1, round(cpus * WHOLE))
        memory_mb = 0 if memory is None else max(1, round(memory * 1024))
        kinds = self.accelerators(resources, key) or [("", 0)]
        return tuple(Demand(name, milli, cpus_milli, memory_mb) for name, milli in kinds)

    def amount(self, value: Any, key: str, units: dict[str, float]) -> float | None:
        """A number above 0, with `+` and a unit where it is text."""
        if value is None:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\+?", str(value).strip())
        unit = match[2].lower() if match else ""
        unit = unit if unit in units else unit.removesuffix("b")
        number = float(match[1]) * units[unit] if match and unit in units else 0.0
        if isinstance(value, bool) or number <= 0 or number > 1e9:
            self.wrong(key, f"must be a number above 0, such as 4, 4+ or 0.5, not {value!r}")
            return None
        return number

    def accelerators(self, resources: dict[Any, Any], key: str) -> list[tuple[str, int]]:
        """Alternatives as (name, thousandths), in order."""
        if resources.get("accelerators") is not None and resources.get("gpus") is not None:
            self.wrong(f"{key}.gpus", "is another word for accelerators: write one of them")
        word = "gpus" if resources.get("gpus") is not None else "accelerators"
        value, where = resources.get(word), f"{key}.{word}"
        if value is None:
            return []
        if isinstance(value, str):
            return self.written(value, where)
        if isinstance(value, list):
            return [pair for n, item in enumerate(value) for pair in self.written(item, f"{where}[{n}]")]
        if isinstance(value, dict):
            return [pair for name, count in value.items() for pair in self.keyed(name, count, where)]
        self.wrong(where, f"must be a name and a count, such as H100:8, not {value!r}")
        return []

    def keyed(self, name: Any, count: Any, where: str) -> list[tuple[str, int]]:
        """One entry of a mapping: `H100: 8`, or `H100:8` with nothing (YAML's reading of {H100:8, A100:2})."""
        key = f"{where}.{name}"
        if count is None:
            return self.written(name, key, where)
        if isinstance(count, bool) or not isinstance(count, (int, float)):
            self.wrong(key, f"must be a number, not {count!r}")
            return []
        return self.counted(str(name), float(count), key)

    def written(self, value: Any, key: str, where: str = "") -> list[tuple[str, int]]:
        """`H100:8`, `H100`, `80GB+:2`."""
        if not isinstance(value, str):
            self.wrong(key, f"must be a name and a count, such as H100:8, not {value!r}")
            return []
        name, _, count = value.strip().rpartition(":")
        if not name or not re.fullmatch(r"\s*[-+]?[\d.]+\s*", count):
            if name and not accelerators.is_memory_request(value.strip()):
                self.wrong(key, f"{count.strip()!r} is no count", "write a name and a number, such as H100:8")
                return []
            name, count = value.strip(), "1"
        try:
            return self.counted(name.strip(), float(count), key)
        except ValueError:
            self.wrong(key, f"{count!r} is no count")
            return []

    def counted(self, name: str, count: float, key: str) -> list[tuple[str, int]]:
        milli = round(count * WHOLE)
        if not name or re.fullmatch(r"[\d.]*", name) or not re.fullmatch(r"[A-Za-z0-9._+:-]+", name):
            self.wrong(key, f"{name!r} is no name of an accelerator", "write a name and a number, such as H100:8")
        elif milli <= 0 or milli > 1_000_000:
            self.wrong(key, f"the count must be above 0, not {count:g}")
        elif milli > WHOLE and milli % WHOLE:
            self.wrong(
                key, f"{count:g} is no count: above 1 it must be whole", "a share of a GPU is below 1, such as H100:0.5"
            )
        else:
            return [(kind, milli) for kind in accelerators.resolve(name)]
        return []


def _kind(value: Any) -> str:
    kinds: list[tuple[Any, str]] = [
        (bool, "true or false"),
        ((int, float), "a number"),
        (list, "a list"),
        (dict, "a mapping"),
    ]
    return next((word for kind, word in kinds if isinstance(value, kind)), repr(value))
