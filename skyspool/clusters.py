"""Which spool is meant: the words CLUSTER of the command line, and the configuration behind them.

A CLUSTER is a name that the configuration knows, or a directory that holds a spool.yaml. The configuration is
~/.config/skyspool/config.yaml (XDG_CONFIG_HOME is honoured), over /etc/skyspool/config.yaml:

    default: NAME
    clusters:
      NAME: DIR

A word that is neither belongs to what follows; digits are always a job's ID. Where no cluster is named, it is the
directory in SKYSPOOL_DIR, else the default of the configuration, else its only cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from skyspool import plain
from spool_layout.errors import BadSettings, NewerFormat, NotASpool, SpoolError, UsageError
from spool_layout.mounts import read_on
from spool_layout.paths import FORMAT, Spool, is_cluster_name, is_digits
from spool_layout.storage import Disk

SYSTEM_CONFIG = "/etc/skyspool/config.yaml"
MAKE_ONE = (
    "skyspool up                            # a spool, a head and a node on this machine\n"
    "  or: skyspool init DIR --name NAME      # a spool in a directory, for many machines"
)

S = TypeVar("S")
T = TypeVar("T")


class Cluster(NamedTuple):
    """A spool and what it is called here. threshold: seconds after which another head leads. idle_poll: seconds
    after which an idle head looks again where nothing tells it of changes.

    configured: the configuration knows the name. Where it does not, commands must name the directory.
    """

    name: str
    spool: Spool
    threshold: float
    idle_poll: float
    configured: bool = False

    @property
    def word(self) -> str:
        """What can be typed for CLUSTER: hints are commands that can be run."""
        if self.configured:
            return self.name
        import shlex

        return shlex.quote(self.spool.root)


class Config(NamedTuple):
    """What is configured. clusters: name -> directory."""

    default: str
    clusters: dict[str, str]


# ---- the configuration


def user_config() -> str:
    """The path of the user's own configuration."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "skyspool", "config.yaml")


def configuration() -> Config:
    """The system's configuration with the user's over it. BadSettings where one cannot be read."""
    merged = Config("", {})
    for path in (SYSTEM_CONFIG, user_config()):
        raw = _read_config(path)
        clusters = {str(name): os.path.expanduser(str(place)) for name, place in raw.get("clusters", {}).items()}
        merged = Config(str(raw.get("default") or merged.default), {**merged.clusters, **clusters})
    return merged


def _read_config(path: str) -> dict[str, Any]:
    data = Disk().read(os.path.realpath(path))
    if data is None:
        return {}
    simple = plain.read(data)
    raw: dict[str, Any] = dict(simple) if simple is not None else _really_read(data, path)
    clusters = raw.get("clusters") or {}
    if not isinstance(clusters, dict) or not isinstance(raw.get("default") or "", str):
        raise BadSettings(f"{path}: it should say `default: NAME` and `clusters: {{NAME: DIR}}`")
    return {**raw, "clusters": clusters, "default": raw.get("default") or ""}


def _really_read(data: bytes, path: str) -> dict[str, Any]:
    import yaml

    try:
        raw = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise BadSettings(f"{path}: {error}") from error
    if raw is not None and not isinstance(raw, dict):
        raise BadSettings(f"{path}: it should say `default: NAME` and `clusters: {{NAME: DIR}}`")
    return raw or {}


def remember(name: str, place: str, default: bool) -> None:
    """Add a spool to the user's configuration. default: make it the one that is meant where none is named."""
    import yaml

    path, disk = os.path.realpath(user_config()), Disk()
    raw = {key: value for key, value in _read_config(path).items() if value}
    raw["clusters"] = {**raw.get("clusters", {}), name: place}
    if default:
        raw["default"] = name
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    disk.publish(path, yaml.safe_dump(raw, sort_keys=False, allow_unicode=True).encode())


# ---- from words to spools


def open_spool(place: str, name: str = "") -> Cluster:
    """The spool in a directory. name: by which the configuration knows it. NotASpool, NewerFormat, BadSettings."""
    spool = Spool(place)
    read_on(spool.root)
    try:
        data = Disk().read(spool.settings)
    except OSError as error:
        raise NotASpool(f"{spool.root}: {error.strerror}") from error
    if data is None:
        import shlex

        raise NotASpool(
            f"{spool.root} holds no spool.yaml: no spool was made there, or its share is not mounted",
            f"mount the share, or make a spool: skyspool init {shlex.quote(spool.root)}",
        )
    words = plain.read(data)
    if words is None or not isinstance(words.get("name"), str):
        from spool_layout import settings

        real = settings.parse(data, spool.settings)
        return Cluster(name or real.name, spool, real.lock_threshold, real.idle_poll, bool(name))
    if not str(words.get("format", FORMAT)).isdigit() or int(str(words.get("format", FORMAT))) > FORMAT:
        raise NewerFormat(
            f"{spool.settings}: the spool has format {words['format']}, this program knows formats up to {FORMAT}",
            "upgrade skyspool on this host",
        )
    threshold, idle_poll = _seconds(words, "lock_threshold", 4.0), _seconds(words, "idle_poll", 2.0)
    return Cluster(name or str(words["name"]), spool, threshold, idle_poll, bool(name))


def _seconds(words: Mapping[str, object], key: str, usual: float) -> float:
    if key not in words:
        return usual
    from spool_layout.settings import parse_duration

    return parse_duration(words[key], key)


def lookup(word: str) -> Cluster | None:
    """The spool that a word names, or None where it is no CLUSTER."""
    if is_digits(word) or not word:
        return None
    place = configuration().clusters.get(word)
    if place is not None:
        return open_spool(place, word)
    if os.path.isfile(os.path.join(word, "spool.yaml")):
        return open_spool(word)
    return None


def default() -> Cluster:
    """The spool that is meant where none is named. UsageError where there is none."""
    if place := os.environ.get("SKYSPOOL_DIR"):
        return lookup(place) or open_spool(place)
    config = configuration()
    if config.default in config.clusters:
        return open_spool(config.clusters[config.default], config.default)
    if config.default:
        raise BadSettings(
            f"the default cluster {config.default!r} is not among the configured ones", "skyspool use DIR"
        )
    if len(config.clusters) == 1:
        [(name, place)] = config.clusters.items()
        return open_spool(place, name)
    if config.clusters:
        raise UsageError(
            f"several clusters are configured and none is the default: name one of {', '.join(config.clusters)}",
            f"skyspool use {next(iter(config.clusters))}",
        )
    raise UsageError("no cluster is configured, and SKYSPOOL_DIR is not set", MAKE_ONE)


def typed(cluster: Cluster) -> str:
    """What a hint has to type behind a verb so that this cluster is meant: nothing where it is the default one."""
    try:
        meant = os.path.realpath(default().spool.root)
    except SpoolError:
        meant = ""
    return "" if meant == os.path.realpath(cluster.spool.root) else f" {cluster.word}"


def named(word: str) -> Cluster:
    """The spool that a word must name. UsageError where it names none."""
    found = lookup(word)
    if found is None:
        raise unknown(word)
    return found


def unknown(word: str) -> SpoolError:
    """No cluster is called so: names the nearest one and the commands that make one."""
    from difflib import get_close_matches

    near = get_close_matches(word, configuration().clusters, 1)
    known = f"; did you mean {near[0]!r}?" if near else ""
    return UnknownCluster(f"no cluster is called {word!r}, and it is no directory with a spool.yaml{known}", MAKE_ONE)


class UnknownCluster(SpoolError):
    """A CLUSTER that is none."""

    fault = "user"


def split(words: tuple[str, ...]) -> tuple[Cluster, tuple[str, ...]]:
    """[CLUSTER] REST…: the spool that is meant, and the words that follow."""
    first = lookup(words[0]) if words else None
    return (first, words[1:]) if first else (default(), words)


def ask_each(words: tuple[str, ...], ask: Callable[[Cluster], T]) -> list[T]:
    """[CLUSTER…]: what `ask` gives for each spool that is named; none named: for SKYSPOOL_DIR, or for all configured.

    Of the configured ones, those that cannot be asked are left out with a warning, unless that leaves none.
    """
    if words:
        return [ask(cluster) for cluster in _told_apart([named(word) for word in words])]
    config = configuration()
    if os.environ.get("SKYSPOOL_DIR") or not config.clusters:
        return [ask(default())]
    opened = _possible(list(config.clusters), lambda name: open_spool(config.clusters[name], name))
    return _possible(_told_apart(opened), ask)


def _possible(items: list[S], do: Callable[[S], T]) -> list[T]:
    """What `do` gives for each item. Failures are warnings, unless nothing else is there: then the first is raised."""
    from skyspool.say import note

    done: list[T] = []
    troubles: list[tuple[S, SpoolError]] = []
    for item in items:
        try:
            done.append(do(item))
        except SpoolError as error:
            troubles.append((item, error))
    if troubles and not done:
        raise troubles[0][1]
    for item, trouble in troubles:
        note(f"warning: {getattr(item, 'name', item)} is left out: {trouble.message}")
    return done


def _told_apart(found: list[Cluster]) -> list[Cluster]:
    """Each spool once; of two with one name, the second is called by its directory."""
    places: set[str] = set()
    names: set[str] = set()
    apart = []
    for cluster in found:
        place = os.path.realpath(cluster.spool.root)
        if place not in places:
            apart.append(cluster._replace(name=cluster.spool.root) if cluster.name in names else cluster)
        places.add(place)
        names.add(cluster.name)
    return apart


def good_name(word: str) -> str:
    """A name for a new spool, or UsageError."""
    if is_digits(word):
        raise UsageError(f"{word!r} is no name for a spool: digits are always a job's ID")
    if not is_cluster_name(word):
        raise UsageError(f"{word!r} is no name for a spool: begin with a letter, then letters, digits, '.', '_' or '-'")
    return word
