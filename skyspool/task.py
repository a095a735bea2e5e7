"""From the words and options of `exec` and `launch` to the text that is submitted.

The words are a task file or a command, as under SkyPilot: joined by spaces they name a file that holds a YAML mapping,
or they are a bash command (named `sky-cmd`). One word that ends in .yaml is always meant as a file, unless it stands
behind `--` and there is none; a task file that more words follow is an error, since nothing could be done with them.
What is submitted is complete in itself: the options are in it, envs are resolved, paths are absolute, and it ends with
YAML's end mark, so that the head never waits for more of it.

`exec` leaves out setup and file_mounts; `launch` keeps them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skyspool.variables import Variables
from spool_layout.errors import SpoolError, UsageError
from spool_layout.paths import TASK_ENDINGS, without_ending
from spool_layout.taskfile import InvalidTask, Problem, TaskSpec, parse_task, read_task_mapping
from spool_layout.yamltext import MAX_BYTES

COMMAND_NAME = "sky-cmd"
END_MARK = b"...\n"
RESETS = "none"  # SkyPilot: `--gpus none` takes back what the file asks for
_CANDIDATES = ("any_of", "ordered")
_NUMBERLIKE = tuple("0123456789+-.")  # texts that begin so are quoted: readers differ in what is a number


class Entry(NamedTuple):
    """What is to be run. path: of the task file as it was typed, "" for a command. text: the file's bytes."""

    path: str
    text: bytes
    command: str


class Asked(NamedTuple):
    """What the options say over the file."""

    variables: Variables
    name: str | None = None
    workdir: str | None = None
    git_url: str | None = None
    git_ref: str | None = None
    num_nodes: int | None = None
    gpus: str | None = None
    cpus: str | None = None
    memory: str | None = None


class Resolved(NamedTuple):
    """What is submitted. label: for its file name. notes: what to tell."""

    text: bytes
    spec: TaskSpec
    label: str
    notes: list[str]


# ---- what the words mean


def entry(words: Sequence[str], quoted: bool = False) -> Entry:
    """A task file, or a command. quoted: the words came behind `--`. UsageError for a FILE.yaml that is not there."""
    joined = " ".join(words)
    looks_so = len(words) == 1 and joined.endswith(TASK_ENDINGS)
    text = _text(joined)
    if text is None and looks_so and not quoted:
        raise UsageError(f"there is no task file {joined}", f"skyspool exec -- {joined}      # if it is a command")
    if text is not None and (looks_so or _is_mapping(text)):
        return Entry(joined, text, "")
    return Entry("", b"", joined)


def which(program: str) -> str | None:
    """Where a program is found, if it is."""
    import shutil  # here, since a task file alone does not need it

    return shutil.which(program)


def leading_file(words: Sequence[str]) -> str:
    """The first of several words where it is a task file, or is called like one, and is no program; else ""."""
    first = words[0] if len(words) > 1 else ""
    if not first or " ".join(words) == entry(words, quoted=True).path or which(first):
        return ""
    text = _text(first)
    return first if first.endswith(TASK_ENDINGS) or (text is not None and _is_mapping(text)) else ""


def script(command: str) -> str:
    """The script or program beside us that bash will not find or may not run, being called so; else "".

    Where it runs PATH may be another one: it is no error.
    """
    word = command.split(maxsplit=1)[0] if command.strip() else ""
    is_script = os.path.isfile(word) and not word.endswith(TASK_ENDINGS)
    return word if is_script and not which(word) else ""


def _text(path: str) -> bytes | None:
    """The text of a regular file, or as much of it as shows that it is no task; None: it is something else."""
    place = os.path.expanduser(path)
    if not os.path.isfile(place):
        return None
    try:
        with open(place, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        if path.endswith(TASK_ENDINGS):
            raise SpoolError(f"{path}: {error.strerror}") from error
        return None  # a program that may be run and not read


def _is_mapping(text: bytes) -> bool:
    try:
        return bool(read_task_mapping(text))
    except InvalidTask:
        return False


# ---- resolving


def resolve(what: Entry, asked: Asked, leave_out: tuple[str, ...] = ()) -> Resolved:
    """The task that is submitted, without some of its fields. BadTask, with the file's own lines, where it is none."""
    raw: dict[str, Any] = {"name": COMMAND_NAME, "run": what.command}
    if what.path:
        check(what.path, what.text, asked.variables.all())
        raw = dict(read_task_mapping(what.text))
    notes = _leave_out(raw, leave_out)
    raw = raw or {"run": None}  # there was nothing else in it
    _override(raw, asked)
    spec = _parsed(raw)
    _settle(raw, spec, notes)
    spec = _parsed(raw, require_absolute_workdir=True)
    label = spec.name or (without_ending(os.path.basename(what.path)) if what.path else COMMAND_NAME)
    text = emit(raw)
    if len(text) > MAX_BYTES:
        raise BadTask(f"written out, the task has {len(text)} bytes; at most {MAX_BYTES} are taken")
    return Resolved(text, spec, label, notes + _ignored(spec))


class BadTask(SpoolError):
    """A file that is no task: one line a problem."""

    fault = "user"


def check(path: str, text: bytes, values: Mapping[str, str]) -> TaskSpec:
    """The task in a file. BadTask where it is none. values: of envs and secrets, from the command line."""
    try:
        return parse_task(text, overrides=values)
    except InvalidTask as error:
        raise BadTask(
            "this is no task:\n" + "\n".join(placed(path, problem) for problem in error.problems),
            f"skyspool lint {path}",
        ) from error


def placed(path: str, problem: Problem) -> str:
    """FILE:LINE:COLUMN: KEY: MESSAGE, as compilers say it."""
    where = f":{problem.line}:{problem.column or 1}" if problem.line else ""
    return f"{path}{where}: {unplaced(problem)}"


def unplaced(problem: Problem) -> str:
    """A problem without its line."""
    key = f"{problem.key}: " if problem.key else ""
    return f"{key}{problem.message}{f' ({problem.hint})' if problem.hint else ''}"


def _leave_out(raw: dict[str, Any], fields: tuple[str, ...]) -> list[str]:
    """exec leaves out setup and file_mounts, which are launch's; --no-setup leaves out setup. What to tell of it."""
    skipped = [key for key in fields if raw.pop(key, None)]
    why = "as --no-setup says" if fields == ("setup",) else "which only `skyspool launch` heeds"
    return [f"note: skipped: {' and '.join(skipped)}, {why}"] if skipped else []


def _override(raw: dict[str, Any], asked: Asked) -> None:
    if asked.name is not None:
        raw["name"] = asked.name
    if asked.num_nodes is not None:
        raw["num_nodes"] = asked.num_nodes
    _override_workdir(raw, asked)
    _override_resources(raw, asked)
    envs, secrets = raw.get("envs"), raw.get("secrets")
    if isinstance(envs, dict | None) and isinstance(secrets, dict | None):
        merged = asked.variables.over(envs or {}, secrets or {})
        raw.update({key: values for key, values in zip(("envs", "secrets"), merged, strict=True) if values})


def _override_workdir(raw: dict[str, Any], asked: Asked) -> None:
    if asked.workdir is not None:
        if not os.path.isdir(os.path.expanduser(asked.workdir)):
            raise UsageError(f"--workdir {asked.workdir}: there is no such directory")
        raw["workdir"] = asked.workdir
    if asked.git_url is not None:
        raw["workdir"] = {"url": asked.git_url}
    if asked.git_ref is not None:
        if not isinstance(raw.get("workdir"), dict):
            raise UsageError("--git-ref says which commit of a repository: it needs --git-url or `workdir: {url: …}`")
        raw["workdir"] = {**raw["workdir"], "ref": asked.git_ref}


def _override_resources(raw: dict[str, Any], asked: Asked) -> None:
    options = {"accelerators": asked.gpus, "cpus": asked.cpus, "memory": asked.memory}
    given = {key: value for key, value in options.items() if value is not None}
    resources = raw.get("resources")
    if not given or not isinstance(resources, dict | None):
        return
    replaced = {*given, *(["gpus"] if "accelerators" in given else [])}
    resources = _stripped(resources or {}, replaced)
    for key in _CANDIDATES:
        if isinstance(resources.get(key), list):
            resources[key] = [_stripped(c, replaced) if isinstance(c, dict) else c for c in resources[key]]
            resources[key] = [c for c in resources[key] if c]
    resources = {key: value for key, value in resources.items() if key not in _CANDIDATES or value}
    raw["resources"] = {**resources, **{key: value for key, value in given.items() if value.lower() != RESETS}}


def _stripped(words: dict[str, Any], but: set[str]) -> dict[str, Any]:
    return {key: value for key, value in words.items() if key not in but}


def _settle(raw: dict[str, Any], spec: TaskSpec, notes: list[str]) -> None:
    """Make absolute what is relative to the caller's directory."""
    if not isinstance(raw.get("workdir"), dict):
        raw["workdir"] = os.path.abspath(os.path.expanduser(spec.workdir or "."))
        if not os.path.isdir(raw["workdir"]):
            notes.append(f"note: {raw['workdir']} is not a directory here; the job needs it where it runs")
    mounts = raw.get("file_mounts")
    if isinstance(mounts, dict):
        raw["file_mounts"] = {there: _absolute(here) for there, here in mounts.items()}


def _absolute(source: Any) -> Any:
    if isinstance(source, str) and "://" not in source and not source.startswith("$"):
        return os.path.abspath(os.path.expanduser(source))
    return source


def _parsed(raw: dict[str, Any], require_absolute_workdir: bool = False) -> TaskSpec:
    """The task that a mapping describes. The user's own text was right, so what is wrong now came with the options."""
    try:
        return parse_task(emit(raw), require_absolute_workdir=require_absolute_workdir)
    except InvalidTask as error:
        told = "; ".join(unplaced(problem) for problem in error.problems)
        raise BadTask(f"with the options given, this is no task: {told}") from error


def _ignored(spec: TaskSpec) -> list[str]:
    if not spec.ignored:
        return []
    return [f"note: ignored, since nothing is made in a cloud: {', '.join(dict.fromkeys(spec.ignored))}"]


# ---- writing


def emit(raw: dict[str, Any]) -> bytes:
    """The mapping as YAML, scripts as block scalars, with the end mark."""
    import yaml

    body = yaml.dump(raw, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1 << 20)
    return body.encode() + END_MARK


def _dumper() -> type:
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: object) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else "'" if value[:1] in _NUMBERLIKE else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def shown(resolved: Resolved) -> str:
    """The text as it may be shown: secrets are not."""
    raw = dict(read_task_mapping(resolved.text))
    if isinstance(raw.get("secrets"), dict):
        raw["secrets"] = dict.fromkeys(raw["secrets"], "<redacted>")
    return emit(raw).decode()
