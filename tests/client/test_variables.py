from __future__ import annotations

from pathlib import Path

import pytest

from skyspool.variables import gather, parse
from spool_layout.errors import SpoolError, UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A = b ", "b"),
        ("export A=b", "b"),
        ("A=", ""),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A='it is $HOME \\n'", "it is $HOME \\n"),
        ('A="two\\nlines \\"and\\" \\\\ a\\ttab"', 'two\nlines "and" \\ a\ttab'),
        ('A="first\nsecond"  # over two lines', "first\nsecond"),
        ("A=b=c", "b=c"),
        ("# nothing\n\n  A=b\r\n", "b"),
        ("A=first\nA=second", "second"),
        ("A=a b  c", "a b  c"),
        ("A=# nothing", ""),
        ("A=${HERE}/x", "there/x"),
        ('A="${HERE:-else}"', "there"),
        ("A=${NOT_SET_HERE:-else}${NOT_SET_HERE}", "else"),
        ("A=$HERE", "$HERE"),
        ("A='${HERE}'", "${HERE}"),
    ],
)
def test_lines_of_a_file(text: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "there")
    assert parse(text, "f") == {"A": value}


def test_a_line_may_stand_on_those_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "outside")
    assert parse("B=${A}\nA=inside\nC=${A}", "f") == {"B": "outside", "A": "inside", "C": "inside"}


def test_a_key_alone_takes_the_callers_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "from here")
    assert parse("A\nB", "f") == {"A": "from here", "B": ""}


@pytest.mark.parametrize(
    ("text", "line"), [("A=b\nthis is nothing\n", 2), ("1A=b", 1), ('A="open\nB=c', 1), ("A='x' y", 1), ('A= "open', 1)]
)
def test_what_is_no_variable_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(SpoolError, match=rf"^where\.env:{line}: not KEY=VALUE$"):
        parse(text, "where.env")


def test_files_that_cannot_be_read(home: Path) -> None:
    (home / "binary").write_bytes(b"\xff\xfe")
    for name in ("nope", "binary", "."):
        with pytest.raises(SpoolError, match=f"^{name}: "):
            gather((), name, (), None)


def test_secret_options_over_secret_file(home: Path) -> None:
    (home / "s").write_text("A=file\nB=file\n")
    found = gather(("C=env",), None, ("A=cli",), "s")
    assert (found.envs, found.secrets) == ({"C": "env"}, {"A": "cli", "B": "file"})


def test_a_bare_key_that_is_not_set_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"^--secret NOT_SET_HERE: it is not set here$"):
        gather((), None, ("NOT_SET_HERE",), None)
