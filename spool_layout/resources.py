"""The `resources` of a task: what each of its nodes needs, as alternatives in order of preference.

    accelerators: H100:8                      one kind; H100:0.5 is a share, H100 is one
    accelerators: [H100:8, A100:8]            alternatives, the first that can be had
    accelerators: {H100:8, A100:8}            the same (SkyPilot takes the cheapest; here the file's order counts)
    accelerators: {H100: 8}                   one kind
    accelerators: nvidia:80GB+:2              all that have at least so much memory, smaller ones first
    any_of: [{accelerators: …}, …]            alternatives of whole resources; what stands beside it holds for each
    ordered: […]                              the same here

`+` after cpus and memory is accepted and means nothing more: a job gets what it asks for.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from typing import Any

from spool_layout import accelerators
from spool_layout.fields import ALTERNATIVES, CANDIDATE, CLOUD_RESOURCES, FORMER, ONE_KIND, PLACE, RECOVERY, RESOURCES
from spool_layout.problems import Path, Problems, told
from spool_layout.records import WHOLE, Demand
from spool_layout.shapes import is_number

MOST_ALTERNATIVES = 200  # of one task; a pass of the scheduler looks at each
MOST_OF_ANYTHING = 1_000_000  # accelerators, CPUs, GiB
LARGEST_NODE = 64  # accelerators; a bare number above is rather part of a name
EXAMPLE = "write a name and a number, such as H100:8"

_BARE = re.compile(r"\d+(\.\d+)?\Z")
_UNITS = {f"{power}{end}": 2.0 ** (10 * n - 20) for n, power in enumerate("kmgtp") for end in "bi"}  # in GiB

Field = tuple[Any, Path]  # a value, and where it stands


class ResourcesReader:
    """Reads the mapping under `resources:`. What is wrong goes to problems, what means nothing here to ignored."""

    def __init__(self, problems: Problems, ignored: list[Path]) -> None:
        self.problems = problems
        self.ignored = ignored

    def demands(self, resources: dict[str, Any], path: Path) -> tuple[Demand, ...]:
        """The alternatives, best first; the default where there are none."""
        self._check(resources, path, RESOURCES)
        held = {word: value for word, value in resources.items() if value is not None}
        several = [word for word in ALTERNATIVES if word in held]
        if len(several) == 2:
            self.problems.add((*path, "ordered"), "and any_of exclude each other: write one of them")
        base = _fields({word: value for word, value in held.items() if word not in ALTERNATIVES}, path)
        if several and held[several[0]] != []:
            return self._rows(held[several[0]], base, (*path, several[0]))
        return self._alternatives(base)

    def _check(self, raw: dict[str, Any], path: Path, known: tuple[str, ...]) -> None:
        """The names, and the kinds of values that are not read here."""
        self.problems.check_names(raw, path, (*known, *CLOUD_RESOURCES), FORMER)
        if "gpus" in raw and "accelerators" in raw:
            self.problems.add((*path, "gpus"), "is another word for accelerators: write one of them")
        for word, value in raw.items():
            if value is None:
                continue
            if shape := (RECOVERY if word == "job_recovery" else CLOUD_RESOURCES.get(word)):
                self.problems.add_all((*path, word), shape.complaints(value))
            if word in CLOUD_RESOURCES and not word.startswith("_"):
                self.ignored.append((*path, word))

    # ---- alternatives

    def _rows(self, rows: Any, base: dict[str, Field], path: Path) -> tuple[Demand, ...]:
        """The candidates of any_of or ordered, each over what stands beside them."""
        if not isinstance(rows, list) or len(rows) > MOST_ALTERNATIVES:
            size = f"one of {len(rows)}" if isinstance(rows, list) else told(rows)
            self.problems.add(path, f"must be a list of at most {MOST_ALTERNATIVES} resources, not {size}")
            return (Demand(),)
        beside, _ = base.get("accelerators", (None, ()))
        if len(self._kinds(base)) > 1 and (path[-1] == "ordered" or isinstance(beside, list)):
            self.problems.add(path, "does not go with several accelerators beside it", "list them in one place only")
        found: dict[Demand, None] = {}
        for number, row in enumerate(rows):
            found |= dict.fromkeys(self._alternatives({**base, **self._row(row, (*path, number))}))
            if len(found) > MOST_ALTERNATIVES:
                self.problems.add(path, f"makes more than {MOST_ALTERNATIVES} alternatives")
                break
        return tuple(found)

    def _row(self, row: Any, path: Path) -> dict[str, Field]:
        """One candidate. An empty field is refused, as under SkyPilot: does it mean nothing, or what stands beside?"""
        if not isinstance(row, dict):
            self.problems.add(path, f"must be a mapping of resources, not {told(row)}")
            return {}
        self._check(row, path, CANDIDATE)
        held = {word: value for word, value in row.items() if value is not None}
        for word in row.keys() - held.keys() - {"ports", "image_id"}:
            self.problems.add((*path, word), "is empty", "give it a value or leave it out")
        for word in ("accelerators", "gpus"):
            if word in held:
                self.problems.add_all((*path, word), ONE_KIND.complaints(held[word]))
        return _fields(held, path)

    def _alternatives(self, fields: dict[str, Field]) -> tuple[Demand, ...]:
        self._place(fields)
        cpus = self._amount(fields.get("cpus"), {}, "a number above 0, such as 4, 4+ or 0.5")
        memory = self._amount(fields.get("memory"), _UNITS, "a number of GB above 0, such as 16, 16+ or 512MB")
        cpus_milli = 500 if cpus is None else max(1, round(cpus * WHOLE))
        memory_mb = 0 if memory is None else max(1, round(memory * 1024))
        kinds = self._kinds(fields) or [("", 0)]
        return tuple(dict.fromkeys(Demand(name, milli, cpus_milli, memory_mb) for name, milli in kinds))

    def _place(self, fields: dict[str, Field]) -> None:
        """Where in the clouds: infra says at once what cloud, region and zone say in three words."""
        beside = [word for word in PLACE if word in fields]
        if "infra" in fields and beside:
            hint = "write infra alone, such as aws/us-east-1"
            self.problems.add(fields["infra"][1], f"and {beside[0]} exclude each other", hint)

    def _amount(self, field: Field | None, units: dict[str, float], what: str) -> float | None:
        """A number above 0, which text may follow with a unit and `+`."""
        if field is None:
            return None
        value, path = field
        number = _number(value.removesuffix("+") if isinstance(value, str) else value, units)
        if 0 < number <= MOST_OF_ANYTHING:
            return number
        self.problems.add(path, f"must be {what}, not {told(value)}")
        return None

    # ---- accelerators

    def _kinds(self, fields: dict[str, Field]) -> list[tuple[str, int]]:
        """Names and thousandths, in order."""
        value, path = fields.get("accelerators", (None, ()))
        if isinstance(value, str):
            return self._written(value, path)
        if isinstance(value, (list, dict)) and value:
            entries: Iterable[tuple[str | int, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
            first = itertools.islice(entries, MOST_ALTERNATIVES)
            found = [pair for word, item in first for pair in self._entry(word, item, path)]
            if max(len(found), len(value)) > MOST_ALTERNATIVES:
                self.problems.add(path, f"names more than {MOST_ALTERNATIVES} alternatives")
            return list(dict.fromkeys(found))
        if value is not None:
            hint = _numbered(value) if is_number(value) else EXAMPLE if value else "leave it out where none is needed"
            self.problems.add(path, f"must be a name and a count, such as H100:8, not {told(value)}", hint)
        return []

    def _entry(self, word: str | int, value: Any, path: Path) -> list[tuple[str, int]]:
        """An item of a list; `H100: 8` of a mapping; or its `H100:8` and nothing, as YAML reads {H100:8, L4}."""
        path = (*path, word)
        if isinstance(word, str) and value is None:
            return self._written(word, path)
        if isinstance(word, str) and is_number(value):
            return self._written(f"{word}:{value}", path)
        if isinstance(word, int) and isinstance(value, str):
            return self._written(value, path)
        wanted = "a name and a count, such as H100:8" if isinstance(word, int) else "a number"
        self.problems.add(path, f"must be {wanted}, not {told(value)}")
        return []

    def _written(self, text: str, path: Path) -> list[tuple[str, int]]:
        """`H100:8`, `H100` (one), `80GB+`, `nvidia:80GB+:2`."""
        name, colon, tail = (part.strip() for part in text.rpartition(":"))
        if not colon or accelerators.is_memory_request(tail):
            name, tail = text.strip(), "1"
        count = _number(tail, {})
        if math.isnan(count):
            self.problems.add(path, f"{told(tail)} is no count", EXAMPLE)
        elif problem := _objection(name, count):
            self.problems.add(path, *problem)
        else:
            return [(kind, round(count * WHOLE)) for kind in accelerators.resolve(name)]
        return []


def _fields(held: dict[str, Any], path: Path) -> dict[str, Field]:
    """Each value with its place; `gpus` is another word for accelerators."""
    return {"accelerators" if word == "gpus" else word: (value, (*path, word)) for word, value in held.items()}


def _number(value: Any, units: dict[str, float]) -> float:
    """A number, or the text of one with a unit at its end; nan where it is none."""
    if not isinstance(value, str):
        return float(max(-1e300, min(value, 1e300))) if is_number(value) else math.nan
    unit = value[-2:].lower() if value[-2:].lower() in units else ""
    try:
        return float(value[: len(value) - len(unit)]) * units.get(unit, 1.0)
    except ValueError:
        return math.nan


def _numbered(number: float) -> str:
    """What to write for accelerators that are given as a bare number: a count that lacks its name, or 4090."""
    text = f"{number:g}"
    return "put it in quotes" if number > LARGEST_NODE or accelerators.canonical(text) != text else _with_name(text)


def _with_name(count: str) -> str:
    return f"write the name too, such as H100:{count}"


def _objection(name: str, count: float) -> tuple[str, str] | None:
    """What is wrong with a name and a count, and what to do; None for nothing."""
    by_memory = accelerators.is_memory_request(name)
    if _BARE.match(name) and accelerators.canonical(name) == name:  # 4090 is RTX4090, 4 is no accelerator
        hint = _with_name(name) if count == 1 and 0 < float(name) <= LARGEST_NODE else EXAMPLE
        return f"{told(name)} is a number, not the name of an accelerator", hint
    if not by_memory and not accelerators.is_name(name):
        return f"{told(name)} is no name of an accelerator", EXAMPLE
    if count > 1 and not count.is_integer():
        return f"{count:g} is no count: above 1 it must be whole", "a share of one is below 1, such as H100:0.5"
    if by_memory and not count.is_integer():
        return f"a share ({count:g}) needs the accelerator's name", "write it instead of the memory, such as L4:0.5"
    if not 1 / WHOLE <= count <= MOST_OF_ANYTHING:
        return f"the count must be above 0 (a share at least 0.001), not {count:g}", ""
    matching = accelerators.resolve(name)
    if len(matching) > 1 and not by_memory:
        more = f" and {len(matching) - 5} more" if len(matching) > 5 else ""
        return f"{told(name)} may be any of {', '.join(matching[:5])}{more}", "write the whole name"
    return None if matching else (f"no accelerator with {told(name)} is known", "ask for it by its name")


def _recovers(value: Any) -> bool:
    strategy = value.get("strategy") if isinstance(value, dict) else value
    return value is not None and not (isinstance(strategy, str) and strategy.lower() == "none")


def restartable(resources: dict[str, Any]) -> bool:
    """Whether the task asks to be run again when its node is lost (SkyPilot's job_recovery)."""
    rows = [row for word in ALTERNATIVES if isinstance(resources.get(word), list) for row in resources[word]]
    return any(_recovers(row.get("job_recovery")) for row in [resources, *rows] if isinstance(row, dict))
