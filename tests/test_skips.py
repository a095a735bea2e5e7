"""What is skipped fails in CI, but for what a host may lack (conftest.py); want of a program is told as such."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import MAY_LACK

HERE = Path(__file__).parent
OUTCOMES = ("FAILED", "SKIPPED", "ERROR", "PASSED")
FIVE = """
import pytest

def test_one():
    pytest.skip("strace is not installed: NOT tested")

@pytest.mark.skipif(True, reason="fish is not installed: NOT tested")
def test_two():
    pass

def test_three():
    pytest.skip("NOT TESTED: needs root")

def test_four_which_does_not_run_in_ci(monkeypatch):
    monkeypatch.delenv("EVERY_TOOL")
    pytest.skip("zsh is not installed: NOT tested")

def test_five():
    pytest.skip("NOT TESTED: v2 has no memory controller here")
"""


def told(*words: str, **more: str) -> list[str]:
    """What a run in CI tells of its tests, sorted: FAILED, SKIPPED, or ERROR where one does not come to begin."""
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "EVERY_TOOL": "yes", **more}
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-p", "no:cacheprovider", *words]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **alone}, cwd=HERE.parent
    )
    return sorted(word for line in ran.stdout.splitlines() if (word := line.split(" ")[0]) in OUTCOMES)


def test_what_is_not_there_fails_a_test_where_everything_is_wanted_but_what_a_host_may_lack(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport\n")
    (tmp_path / "test_five.py").write_text(FIVE)
    words = (f"--rootdir={tmp_path}", "-c", os.devnull, str(tmp_path))
    assert told(*words, PYTHONPATH=str(HERE.parent)) == ["ERROR", "FAILED", "FAILED", "SKIPPED", "SKIPPED"]


def test_without_strace_what_needs_it_fails_in_ci(tmp_path: Path) -> None:
    """Kills at system calls, on a PATH on which there is none."""
    words = ("-p", "pytest_timeout", f"{HERE}/faults/test_kills.py", "-k", "goes_its_way")
    assert told(*words, PATH=str(tmp_path)) == ["ERROR"]


def test_what_a_host_may_lack_is_asked_for_by_some_test() -> None:
    told = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("*/test_*.py"))
    assert [reason for reason in MAY_LACK if f'{reason}")' not in told] == []


def skips_where_a_program_is_looked_for() -> Iterator[tuple[str, str]]:
    """Each `pytest.skip` below an `if` that asks where a program is: place and reason."""
    for path in HERE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.If) and "which" in {getattr(n, "attr", "") for n in ast.walk(node.test)}:
                for line in node.body:
                    if "pytest.skip(" in (text := ast.unparse(line)):
                        yield f"{path.relative_to(HERE)}:{line.lineno}", text


def test_each_skip_for_want_of_a_program_says_so_in_the_same_words() -> None:
    found = dict(skips_where_a_program_is_looked_for())
    assert len(found) > 8
    assert {place: text for place, text in found.items() if "is not installed" not in text} == {}
