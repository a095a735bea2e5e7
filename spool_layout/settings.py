"""spool.yaml: what the admin says of a spool, its format and its own id.

The file is read by everybody and written by `init` and by the admin. A setting that does not exist is an
error that names the nearest real one; a missing one has the default below. Where the file itself is missing,
the share is not mounted: no daemon then takes the emptiness for an empty queue (promise P11).
"""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from spool_layout.errors import BadSettings, NewerFormat, NotASpool
from spool_layout.paths import FORMAT, Spool, is_cluster_name
from spool_layout.storage import Disk


class Keep(msgspec.Struct, frozen=True, omit_defaults=True):
    """How long, or how much, is kept of what is over. Seconds, bytes; None: all of it."""

    done: float | None = None
    logs: float | None = None
    rejected: float | None = None
    logs_size: int | None = None


class DeclaredNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an admin says of a node, in place of what it finds itself."""

    gpus: str | None = None
    cpus: float | None = None
    memory: float | None = None  # GB
    address: str | None = None


class Settings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of a spool. Durations in seconds."""

    format: int
    id: str
    name: str
    settle: float = 2.0  # a plain write is complete when it has been quiet for so long
    poll: float = 0.25  # between looks while there is work, where the file system tells nothing
    idle_poll: float = 2.0  # between looks when idle
    sweep: float = 30.0  # between looks of the head where the file system tells of changes
    heartbeat: float = 2.0  # of a runner
    node_timeout: float = 30.0  # T: after so long without a heartbeat a node's jobs may be given up
    fence_margin: float = 5.0  # T minus this: supervisors start nothing more, end what may run elsewhere
    lock_heartbeat: float = 1.0
    lock_threshold: float = 4.0
    grace: float = 30.0  # between SIGTERM and SIGKILL
    shell: str = "login"  # "login": bash as `bash -i` reads ~/.bashrc; "plain": bash alone
    gpu_ids: str = "index"  # what CUDA_VISIBLE_DEVICES holds: "index" or "uuid"
    memory: str = "enforced"  # "enforced": no job gets more memory than it asked for; "counted": it is only counted
    unsatisfiable_after: float = 600.0
    max_file: int = 1024 * 1024  # bytes of a task file
    max_pending: int = 10_000  # jobs of one user that wait; more files wait in pending/; 0: any number
    max_requests: int = 600  # of one user that are carried out in a minute; more wait; 0: any number
    recent: int = 1000  # ended jobs that the ledger remembers
    keep: Keep = Keep()
    nodes: dict[str, DeclaredNode] = {}
    users: str = "single"  # "single": head and runners are one user; "multi": jobs run as who dropped them
    allow: list[str | int] = []  # single: whose files are taken too; multi: if any, only theirs
    admins: list[str | int] = []  # may cancel everybody's jobs


_DURATIONS = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_DURATION_KEYS = frozenset(
    {
        "settle",
        "poll",
        "idle_poll",
        "sweep",
        "heartbeat",
        "node_timeout",
        "fence_margin",
        "lock_heartbeat",
        "lock_threshold",
        "grace",
        "unsatisfiable_after",
    }
)
MOST_SECONDS = 366 * 86400.0  # of a duration between two looks or signs of life
MOST_BYTES = 16 * 1024 * 1024  # of a file that is read as YAML
_CHOICES = {
    "shell": ("login", "plain"),
    "gpu_ids": ("index", "uuid"),
    "memory": ("enforced", "counted"),
    "users": ("single", "multi"),
}


def parse_duration(value: object, what: str) -> float:
    """Seconds of 30, 1.5, "90d", "12h", "10m", "2s" or "250ms"."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d|w)?\s*", str(value))
    if not match:
        raise BadSettings(f"{what}: {value!r} is no duration", "write a number with a unit: 30s, 10m, 12h, 90d")
    return float(match[1]) * _DURATIONS[match[2] or "s"]


def parse_size(value: object, what: str) -> int:
    """Bytes of 1048576, "16MiB", "10G" or "500 MB" (powers of 1024)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?\s*", str(value), re.IGNORECASE)
    if not match or isinstance(value, bool):
        raise BadSettings(f"{what}: {value!r} is no size", "write a number with a unit: 16MiB, 10GiB")
    return int(float(match[1]) * _SIZES[match[2].lower()])


def load(spool: Spool, disk: Disk) -> Settings:
    """The settings of a spool. NotASpool where there is none, NewerFormat, BadSettings; OSError: it cannot be told."""
    try:
        data = disk.read(spool.settings)
    except NotADirectoryError as error:
        raise NotASpool(f"{spool.root} is not a directory") from error
    if data is None:
        import shlex

        raise NotASpool(
            f"{spool.root} holds no spool.yaml: no spool was made there, or its share is not mounted",
            f"mount the share, or make a spool: skyspool init {shlex.quote(spool.root)}",
        )
    return parse(data, spool.settings)


def parse(data: bytes, where: str) -> Settings:
    """Settings from the text of a spool.yaml."""
    from spool_layout.taskfile import InvalidTask, read_mapping

    try:
        raw = read_mapping(data)
    except InvalidTask as error:
        raise BadSettings(f"{where}: {error.message}") from error
    written = raw.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise NewerFormat(
            f"{where}: the spool has format {written}, this program knows formats up to {FORMAT}",
            "upgrade skyspool on this host",
        )
    _check_names(raw, Settings, where)
    _check_names(_mapping(raw.get("keep"), where, "keep"), Keep, f"{where}: keep")
    for node, words in _mapping(raw.get("nodes"), where, "nodes").items():
        _check_names(_mapping(words, where, f"nodes.{node}"), DeclaredNode, f"{where}: nodes.{node}")
    try:
        settings = msgspec.convert(_units(dict(raw), where), Settings)
    except msgspec.ValidationError as error:
        raise BadSettings(f"{where}: {error}") from error
    _check_values(settings, where)
    return settings


def _mapping(value: object, where: str, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadSettings(f"{where}: {key} must be a mapping")
    return value


def _check_names(raw: dict[str, Any], kind: type[msgspec.Struct], where: str) -> None:
    known = kind.__struct_fields__
    for key in raw:
        if key not in known:
            import difflib

            near = difflib.get_close_matches(str(key), known, 1)
            raise BadSettings(f"{where}: there is no setting {key!r}", f"did you mean {near[0]!r}?" if near else "")


def _units(raw: dict[str, Any], where: str) -> dict[str, Any]:
    for key in _DURATION_KEYS & raw.keys():
        raw[key] = parse_duration(raw[key], f"{where}: {key}")
    if "max_file" in raw:
        raw["max_file"] = parse_size(raw["max_file"], f"{where}: max_file")
    if raw.get("keep") is not None:
        keep = {}
        for key, value in raw["keep"].items():
            if value is not None:
                read = parse_size if key == "logs_size" else parse_duration
                keep[key] = read(value, f"{where}: keep.{key}")
        raw["keep"] = keep
    return {key: value for key, value in raw.items() if value is not None}


def _check_values(settings: Settings, where: str) -> None:
    for key, words in _CHOICES.items():
        if getattr(settings, key) not in words:
            raise BadSettings(f"{where}: {key} is {getattr(settings, key)!r}, may be {' or '.join(words)}")
    for key in _DURATION_KEYS - {"settle", "grace", "unsatisfiable_after"}:
        if not 0.01 <= getattr(settings, key) <= MOST_SECONDS:
            raise BadSettings(f"{where}: {key} must be between 10ms and a year")
    if settings.max_file > MOST_BYTES:
        raise BadSettings(f"{where}: max_file may be {MOST_BYTES} bytes at most: more of a file is never read")
    for key, least in (("max_file", 1), ("recent", 0), ("max_pending", 0), ("max_requests", 0)):
        if getattr(settings, key) < least:
            raise BadSettings(f"{where}: {key} must be at least {least}")
    if settings.lock_threshold < 2 * settings.lock_heartbeat:
        raise BadSettings(f"{where}: lock_threshold must be at least twice as long as lock_heartbeat")
    if settings.node_timeout <= settings.fence_margin + settings.heartbeat:
        raise BadSettings(f"{where}: node_timeout must be longer than fence_margin and heartbeat together")
    if not is_cluster_name(settings.name):
        raise BadSettings(
            f"{where}: {settings.name!r} is no name for a spool: begin with a letter, then letters, "
            "digits, '.', '_' or '-'"
        )


def first_text(name: str, network: bool, users: str = "single", own: bool = True) -> str:
    """The spool.yaml that `init` writes. network: whether the directory is on a network file system; own: whether, if
    it is not, surely no other kernel has it mounted, so that a head that died there is followed at once (holder.py)."""
    beat, threshold = (12, 30) if network else (20, 50) if own else (1, 4)  # a renewal costs a file server 20 calls
    return (
        f"# Settings of this spool: see spool(5). What is not named here has its default.\n"
        f"format: {FORMAT}\n"
        f"id: s{os.urandom(8).hex()}\n"  # a letter first: YAML would read digits as a number
        f"name: {name}\n"
        f"lock_heartbeat: {beat}s      # how often the leading head says that it lives\n"
        f"lock_threshold: {threshold}s     # after so long another head leads\n"
        f"heartbeat: {12 if network else 5}s\n"
        + ("users: multi           # jobs run as who dropped them\n" if users == "multi" else "")
    )
