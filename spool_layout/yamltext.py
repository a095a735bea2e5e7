"""YAML in bounds: bytes in; plain values, and the place of each, out.

One pass over the parser's events, which cost the same however a file is built. It refuses what would hurt later: deep
nesting (the C composer recurses, and dies at 100,000 levels), tags, several tasks, and more values or text than any
task has, where an alias counts as all that it stands for (with aliases and merge keys a file of 400 bytes can stand for
gigabytes). Many %TAG lines are refused before: libyaml compares each with all of them (60,000 took five seconds).

What is refused is told by its place, never by its text: where the parser stops may be a secret, and everybody reads
what is told.

Numbers, booleans and nothing are what PyYAML takes for them (YAML 1.1: `on` is true, 017 is 15, 12:30:45 is 45045), by
its own patterns, since that is what SkyPilot's users have written their files for. Dates stay text. So do keys: a
variable may be called NO.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml
from yaml.constructor import SafeConstructor

from spool_layout.problems import InvalidTask, Place, Places, Problem, short

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 30
MAX_NODES = 50_000
MAX_DIGITS = 300  # beyond that nobody means a number; Python refuses 4,301
MAX_DIRECTIVES = 100  # %TAG lines

_DIRECTIVE = re.compile(rb"^%TAG", re.MULTILINE)
_LAST_LINE = re.compile(rb"(?:^|\n)\.\.\.[ \t\r\n]*\Z")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAGS = (None, "!", "tag:yaml.org,2002:str")


class Document(NamedTuple):
    """One document of a YAML text."""

    value: Any
    places: Places


def is_complete(text: bytes) -> bool:
    """Whether the last line is YAML's end mark `...` at column 0."""
    return bool(_LAST_LINE.search(text[-200:]))


def read_mapping(text: bytes) -> dict[str, Any]:
    """The one mapping of a YAML text, read in bounds. InvalidTask for anything else."""
    found = documents(text)
    if len(found) != 1 or not isinstance(found[0].value, dict):
        raise InvalidTask([Problem("must be one mapping of keys to values")])
    return found[0].value


def documents(text: bytes) -> list[Document]:
    """The documents of a YAML text that hold anything: two at most. InvalidTask."""
    if len(text) > MAX_BYTES:
        raise InvalidTask([Problem(f"has {len(text)} bytes; at most {MAX_BYTES} are read")])
    if text.count(b"%TAG") > MAX_DIRECTIVES and len(_DIRECTIVE.findall(text)) > MAX_DIRECTIVES:
        raise InvalidTask([Problem(f"holds more than {MAX_DIRECTIVES} %TAG lines")])
    try:
        return _Builder(yaml.parse(_decoded(text), Loader=_LOADER)).documents()
    except _Refused as error:
        raise InvalidTask([error.problem]) from None
    except yaml.MarkedYAMLError as error:
        raise InvalidTask([_malformed(error)]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidTask([Problem(f"is not YAML: {' '.join(str(error).split())}")]) from None


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (byte {text[error.start]:#04x} at offset {error.start})"
        raise InvalidTask([Problem(message, line=line, column=1)]) from None


_ADVICE = {
    "mapping values are not allowed": 'text that holds ": " must stand in quotes',
    "could not find expected ':'": "a key is followed by a colon, and a script's lines are indented below its key",
    "did not find expected key": "are the lines of this mapping indented alike, and is every quote closed?",
    "cannot start any token": "indent with spaces, not tabs; text that begins with @, ` or % must stand in quotes",
    "did not find expected alphabetic or numeric character": "text that begins with * or & must stand in quotes",
    "found unexpected end of stream": "a quote is not closed",
}


def _malformed(error: yaml.MarkedYAMLError) -> Problem:
    """What the parser says, with where it thinks the trouble began."""
    said = str(error.problem or error.context)
    mark: Any = error.problem_mark or error.context_mark
    began: Any = error.context_mark
    if error.problem and error.context and began is not None and mark is not None and began.line != mark.line:
        said += f" {error.context} that begins in line {began.line + 1}"
    hint = next((advice for words, advice in _ADVICE.items() if words in str(error.problem)), "")
    return _Refused(f"is not YAML: {said}", mark, hint).problem


class _Refused(Exception):
    def __init__(self, message: str, mark: Any = None, hint: str = "") -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        self.problem = Problem(message, line=line, column=column, hint=hint)


class _Built(NamedTuple):
    """A value, the places inside it, and how many values and characters it stands for."""

    value: Any
    inner: Places
    nodes: int
    characters: int


class _Builder:
    """Builds values from events. Recursion is bounded by MAX_DEPTH."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events = events
        self.nodes = 0
        self.characters = 0
        self.anchors: dict[str, _Built] = {}

    def documents(self) -> list[Document]:
        found: list[Document] = []
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.anchors = {}
                built = self._value(next(self.events), 0)
                if built.value is not None:
                    found.append(Document(built.value, built.inner))
                if len(found) > 2:
                    raise _Refused("holds several tasks", event.start_mark, ONE_TASK)
        return found

    def _value(self, event: Any, depth: int) -> _Built:
        self._count(event, 1, len(getattr(event, "value", "")))
        if depth > MAX_DEPTH:
            raise _Refused(f"is nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        nodes, characters = self.nodes - 1, self.characters - len(getattr(event, "value", ""))
        value, inner = self._fresh(event, depth)
        built = _Built(value, inner, self.nodes - nodes, self.characters - characters)
        if event.anchor:
            self.anchors[event.anchor] = built
        return built

    def _count(self, event: Any, nodes: int, characters: int) -> None:
        self.nodes += nodes
        self.characters += characters
        if self.nodes > MAX_NODES:
            raise _Refused(f"holds more than {MAX_NODES} values, aliases written out", event.start_mark)
        if self.characters > MAX_BYTES:
            raise _Refused(f"holds more than {MAX_BYTES} characters, aliases written out", event.start_mark)

    def _alias(self, event: Any) -> _Built:
        if event.anchor not in self.anchors:
            raise _Refused("the word after * names nothing before it", event.start_mark, AS_TEXT)
        built = self.anchors[event.anchor]
        self._count(event, built.nodes, built.characters)
        return built

    def _fresh(self, event: Any, depth: int) -> tuple[Any, Places]:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event), {}
        if event.tag not in (None, "!"):
            raise _Refused("a tag is not accepted", event.start_mark, AS_TEXT)
        return self._list(depth) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(depth)

    def _next(self) -> Any:
        event = next(self.events)
        return None if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)) else event

    def _list(self, depth: int) -> tuple[list[Any], Places]:
        items: list[Any] = []
        places: Places = {}
        for event in iter(self._next, None):
            built = self._value(event, depth + 1)
            places[len(items)] = _place(event, built.inner)
            items.append(built.value)
        return items, places

    def _mapping(self, depth: int) -> tuple[dict[str, Any], Places]:
        values: dict[str, Any] = {}
        places: Places = {}
        merged: list[tuple[dict[str, Any], Places]] = []
        for event in iter(self._next, None):
            word = self._key(event, depth)
            built = self._value(next(self.events), depth + 1)
            if word == "<<" and not (event.style or event.tag):
                merged += _merged(built, event)
            elif word in values:
                raise _Refused(
                    f"key '{short(word)}' stands here a second time (first in line {places[word].line})",
                    event.start_mark,
                )
            else:
                values[word], places[word] = built.value, _place(event, built.inner)
        for above, inner in merged:  # own keys win, then those of mappings merged earlier
            values, places = {**above, **values}, {**inner, **places}
        return values, places

    def _key(self, event: Any, depth: int) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise _Refused("a key must be a plain word", event.start_mark)
        self._value(event, depth + 1)  # counted, and its anchor known
        return str(event.value)


AS_TEXT = "text that begins with *, & or ! must stand in quotes"
ONE_TASK = "pipelines and job groups are no cluster jobs: one file is one task"


def _place(event: Any, inner: Places) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1, inner)


def _merged(built: _Built, event: Any) -> list[tuple[dict[str, Any], Places]]:
    """What `<<: *one` or `<<: [*one, *two]` brings in."""
    if isinstance(built.value, list):
        pairs = [(value, built.inner[n].inner) for n, value in enumerate(built.value)]
    else:
        pairs = [(built.value, built.inner)]
    if not all(isinstance(value, dict) for value, _ in pairs):
        raise _Refused("<< merges mappings only", event.start_mark)
    return pairs


# ---- scalars

_PYYAML = SafeConstructor()
_PATTERNS: dict[Any, list[tuple[str, re.Pattern[str]]]] = yaml.SafeLoader.yaml_implicit_resolvers
_READERS: dict[str, Callable[[Any], Any]] = {
    "tag:yaml.org,2002:null": lambda node: None,
    "tag:yaml.org,2002:bool": _PYYAML.construct_yaml_bool,
    "tag:yaml.org,2002:int": _PYYAML.construct_yaml_int,
    "tag:yaml.org,2002:float": _PYYAML.construct_yaml_float,
}


def _scalar(event: Any) -> Any:
    """A bare word as PyYAML would read it, save that dates stay text; a quoted one is text."""
    text: str = event.value
    if event.tag not in _TEXT_TAGS:
        raise _Refused("a tag is not accepted", event.start_mark, AS_TEXT)
    if event.style or event.tag or not event.implicit[0]:
        return text
    if len(text) > MAX_DIGITS:
        if text.isdigit():
            raise _Refused(f"a number of {len(text)} digits", event.start_mark, "put it in quotes if it is text")
        return text
    tag = next((tag for tag, pattern in _PATTERNS.get(text[:1], ()) if pattern.match(text)), "")
    if tag not in _READERS:
        return text
    try:
        return _READERS[tag](yaml.ScalarNode(tag, text))
    except (ValueError, OverflowError):  # `0x_`, and a float in base 60 that is too large
        raise _Refused("begins as a number and is none", event.start_mark, "put it in quotes if it is text") from None
