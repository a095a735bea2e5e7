"""The man pages as source: how the tests find a list in one, and the part that is made from the code.

A list that is compared with the code stands between a comment such as `.\\" fields: Job` and the next comment
`.\\" end` or `.El`.

`python -m tests.manual` writes the made part, the states' diagram and table, into spool(5).
"""

from __future__ import annotations

import re
from pathlib import Path

from spool_layout.states import TRANSITIONS, Status

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    """The source of a page."""
    return (ROOT / "man" / name).read_text(encoding="utf-8")


# ---- the part that is made from the code


def states_section() -> str:
    """The states' diagram and table, as mdoc."""
    return f".Bd -literal\n{diagram()}\n.Ed\n.Pp\nWhat brings it about:\n{table()}\n"


def diagram() -> str:
    """One line for each state that is not final: `o` is where a job stands, `>` and `<` where an event may take it."""
    columns = [heading(status) for status in Status]
    tops = "  ".join(top.center(width(top, rest)) for top, rest in columns)
    rests = "  ".join(rest.center(width(top, rest)) for top, rest in columns)
    middles = [2 * i + sum(width(*c) for c in columns[:i]) + width(*columns[i]) // 2 for i in range(len(columns))]
    places = dict(zip(Status, middles, strict=True))
    return "\n".join(escaped(line.rstrip()) for line in (tops, rests, *(rail(s, places) for s in TRANSITIONS)))


def heading(status: Status) -> tuple[str, str]:
    """A state's word in two lines: FAILED_SETUP is FAILED and _SETUP."""
    top, underscore, rest = status.partition("_")
    return top, underscore + rest


def width(top: str, rest: str) -> int:
    return max(len(top), len(rest))


def rail(status: Status, places: dict[Status, int]) -> str:
    """The line of one state."""
    marks = {places[to]: ">" if places[to] > places[status] else "<" for to in TRANSITIONS[status]}
    marks[places[status]] = "o"
    first, last = min(marks), max(marks)
    return "".join(marks.get(at, "-" if at > first else " ") for at in range(last + 1))


def table() -> str:
    """Every transition and what brings it about."""
    lines = [".Bl -tag -width Ds -compact"]
    for status, ways in TRANSITIONS.items():
        lines += [f".It Li {status}", '.Bl -tag -width "FAILED_DRIVER" -compact']
        for to, cause in ways.items():
            lines += [f".It Li {to}", f"{cause}."]
        lines.append(".El")
    return "\n".join([*lines, ".El"])


def escaped(line: str) -> str:
    return line.replace("-", r"\-")


MADE = re.compile(r'(?<=\n)(\.\\" made from spool_layout\.states[^\n]*\n).*?(?=\.\\" end\n)', re.DOTALL)


def write_states() -> None:
    """Put the made part into spool(5)."""
    file = ROOT / "man" / "spool.5"
    text = MADE.sub(lambda match: match[1] + states_section(), page("spool.5"))
    file.write_text(text, encoding="utf-8")


# ---- reading a page


def marked(text: str, mark: str) -> str:
    """What stands between the comment MARK and the next comment `end`, or the end of the list."""
    found = re.findall(rf'^\.\\" {re.escape(mark)}\n(.*?)^(?:\.\\" end|\.El)$', text, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{mark!r} stands {len(found)} times in the page"
    return str(found[0])


def items(text: str, macro: str) -> list[str]:
    """The words behind `.It MACRO`, one or several in a line."""
    lines = re.findall(rf"^\.It {macro} (.*)$", text, re.MULTILINE)
    return [word for line in lines for word in line.split(" Pq ")[0].split() if word != ","]


def words_of(text: str, macro: str) -> set[str]:
    """All words that follow a macro in a line: `.Va id , name` and `.Pq see Va id`."""
    found: set[str] = set()
    for line in re.findall(r"^\.(.*)$", text, re.MULTILINE):
        for part in re.split(rf"(?:^|(?<= )){macro} ", line)[1:]:
            found |= set(re.findall(r"[A-Za-z_][\w-]*", re.split(r" (?:Ns|No|Pq)\b", part)[0]))
    return found


def literal_lines(text: str) -> list[str]:
    """The source lines of all literal displays, and of one-line ones."""
    blocks = re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + re.findall(r"^\.Dl (.*)$", text, re.MULTILINE)


def plain(line: str) -> str:
    """A literal line as it is shown."""
    for escape, character in ((r"\&", ""), (r"\-", "-"), (r"\(aq", "'"), (r"\(ga", "`"), (r"\(ti", "~"), (r"\e", "\\")):
        line = line.replace(escape, character)
    return line


def section(text: str, title: str) -> str:
    """One section or subsection, to the next of its kind."""
    match = re.search(rf"^\.(S[hs]) {re.escape(title)}\n(.*?)(?=^\.Sh |^\.\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"there is no section {title!r}"
    return match[2]


def shown(name: str) -> str:
    """A page with its literal lines as they are shown."""
    return "\n".join(plain(line) for line in page(name).split("\n"))


if __name__ == "__main__":
    write_states()
