"""Kinds of values that a field may have, and how to say that a value is of none of them.

A shape looks at a value and gives its complaints: where inside the value, what is wrong, what to do. None is an answer
like any other: where "nothing" means that the field is left out, the reader of the field says so before it asks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from spool_layout.problems import MOST, Path, nearest, told

Complaint = tuple[Path, str, str]

LONGEST = 4_096  # characters of a text of a certain form: a list of ports of 12 MB took 1.5 GB to be taken apart


class Shape(NamedTuple):
    """A kind of value. words: what it is, as in "must be text"."""

    words: str
    complaints: Callable[[Any], list[Complaint]]

    def fits(self, value: Any) -> bool:
        """Whether the value is of this kind."""
        return not self.complaints(value)


def _kind(words: str, test: Callable[[Any], bool], hint: str = "") -> Shape:
    def complaints(value: Any) -> list[Complaint]:
        if test(value):
            return []
        return [((), f"must be {words}, not {told(value)}", hint if isinstance(value, (bool, int, float)) else "")]

    return Shape(words, complaints)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number (JSON Schema's integer: 2.0 is one, true is none)."""
    return is_number(value) and (isinstance(value, int) or value.is_integer())


def is_number(value: Any) -> bool:
    """Whether a value is a number. true is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TEXT = _kind("text", lambda value: isinstance(value, str), "put it in quotes")
TRUTH = _kind("true or false", lambda value: isinstance(value, bool))
WHOLE = _kind("a whole number", is_whole)
NUMBER = _kind("a number", is_number)
POSITIVE = _kind("a number above 0", lambda value: is_number(value) and value > 0)
MAPPING = _kind("a mapping", lambda value: isinstance(value, dict))
NOTHING = _kind("nothing", lambda value: value is None)


def between(low: int, high: int) -> Shape:
    """A whole number in a range, both ends included."""
    return _kind(f"a whole number from {low} to {high}", lambda value: is_whole(value) and low <= value <= high)


def at_least(low: int) -> Shape:
    """A whole number, low or more."""
    return _kind(f"a whole number, {low} or more", lambda value: is_whole(value) and value >= low)


def written(words: str, pattern: str) -> Shape:
    """Text of a certain form."""
    form = re.compile(rf"(?:{pattern})\Z", re.IGNORECASE)
    return _kind(words, lambda value: isinstance(value, str) and len(value) <= LONGEST and bool(form.match(value)))


def either(*shapes: Shape) -> Shape:
    """Any of several kinds. A mapping or a list is judged by the shape for mappings or lists, if there is one."""
    words = " or ".join([", ".join(shape.words for shape in shapes[:-1]), shapes[-1].words])

    def complaints(value: Any) -> list[Complaint]:
        judged = {shape.words: shape.complaints(value) for shape in shapes}
        if not all(judged.values()):
            return []
        return judged.get(told(value)) or [((), f"must be {words}, not {told(value)}", "")]

    return Shape(words, complaints)


def list_of(shape: Shape) -> Shape:
    """A list of which every item has a shape."""
    return Shape(
        "a list",
        lambda value: (
            [
                ((n, *path), message, hint)
                for n, item in enumerate(value)
                for path, message, hint in shape.complaints(item)
            ]
            if isinstance(value, list)
            else [((), f"must be a list, not {told(value)}", "")]
        ),
    )


def mapping_of(shape: Shape, most: int | None = None) -> Shape:
    """A mapping with any keys, of which every value has a shape. most: how many entries it may have."""

    def complaints(value: Any) -> list[Complaint]:
        if not isinstance(value, dict):
            return MAPPING.complaints(value)
        if most is not None and len(value) > most:
            return [((), f"may have {most} entry, not {len(value)}", "")]
        return _inside(value, dict.fromkeys(value, shape))

    return Shape("a mapping", complaints)


def fields(
    shapes: Mapping[str, Shape], required: Collection[str] = (), nulls: bool = False, others: bool = False
) -> Shape:
    """A mapping with these fields. nulls: one that holds nothing counts as left out. others: it may have more."""

    def complaints(value: Any) -> list[Complaint]:
        if not isinstance(value, dict):
            return MAPPING.complaints(value)
        held = {word: item for word, item in value.items() if not (nulls and item is None)}
        unknown = [] if others else _unknown(held, shapes)
        return [*unknown, *_missing(held, required), *_inside(held, shapes)]

    return Shape("a mapping", complaints)


def ruled(shape: Shape, rule: Callable[[Any], list[Complaint]]) -> Shape:
    """A shape whose parts must go together too: the rule is asked where each of them is right by itself."""
    return Shape(shape.words, lambda value: shape.complaints(value) or rule(value))


def _unknown(value: dict[str, Any], shapes: Mapping[str, Shape]) -> list[Complaint]:
    unknown = (word for word in value if word not in shapes)
    strange = [(word, nearest(word, shapes)) for word in itertools.islice(unknown, MOST)]
    return [((word,), "there is no such field", f"did you mean {near!r}?" if near else "") for word, near in strange]


def _missing(value: dict[str, Any], required: Collection[str]) -> list[Complaint]:
    return [((), f"must have a field {word!r}", "") for word in required if word not in value]


def _inside(value: dict[str, Any], shapes: Mapping[str, Shape]) -> list[Complaint]:
    return [
        ((word, *path), message, hint)
        for word, item in value.items()
        if word in shapes
        for path, message, hint in shapes[word].complaints(item)
    ]
