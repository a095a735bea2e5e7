"""The house rules that a machine can hold: arrows between the rooms, docstrings, names, what lies at the top."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("spool_layout", "spoold", "skyspool")
ROOMS_OF_NOBODY = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc"}
AT_THE_TOP = {
    ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "contrib", "docs", "man",
    "pyproject.toml", "skyspool", "spool_layout", "spoold", "tests",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def git_files(*options: str) -> list[Path]:
    """Paths as git lists them, relative to the root; skips where this is no clone."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z", *options]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone")
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name]


def test_the_arrows_between_the_rooms_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("module", [str(path.relative_to(ROOT)) for path in modules()])
def test_every_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / module).read_bytes()))


def test_no_room_is_a_lumber_room() -> None:
    files = git_files("--cached", "--others", "--exclude-standard")
    assert [str(path) for path in files if ROOMS_OF_NOBODY & {part.split(".")[0] for part in path.parts}] == []


def test_the_top_level_holds_what_it_should_and_nothing_else() -> None:
    assert {path.parts[0] for path in git_files()} <= AT_THE_TOP


def test_make_help_lists_every_target_in_one_column() -> None:
    run = subprocess.run(["make", "-s", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert {"test", "lint", "install", "uninstall"} <= {line.split()[1] for line in lines}
    assert len({line.index(line.split(maxsplit=2)[2]) for line in lines}) == 1
