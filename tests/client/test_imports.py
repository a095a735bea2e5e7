from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.builders import Scene

# What the libraries that every verb needs bring along; what is below comes on top of it.
BASE = "import msgspec, errno, secrets, difflib, gc, zlib, locale"
OWN = {
    "skyspool", "skyspool.__main__", "skyspool.ages", "skyspool.clusters", "skyspool.heads", "skyspool.jobs",
    "skyspool.listing", "skyspool.plain", "skyspool.present", "skyspool.say", "skyspool.shortcut",
    "skyspool.tables", "spool_layout", "spool_layout.errors", "spool_layout.events",
    "spool_layout.fit", "spool_layout.history", "spool_layout.mounts", "spool_layout.paths", "spool_layout.patterns",
    "spool_layout.records", "spool_layout.replay", "spool_layout.settings", "spool_layout.states",
    "spool_layout.storage",
}  # fmt: skip
OF_QUEUE = OWN | {"skyspool.queueing"}
OF_EXEC = OWN | {
    "skyspool.entrypoint", "skyspool.submission", "skyspool.submitting", "skyspool.task", "skyspool.variables", "yaml",
    "base64", "binascii", "shlex", "struct",
}  # fmt: skip
DEAR = {
    "rich", "watchdog", "filelock", "psutil", "pynvml", "importlib.metadata", "asyncio", "logging", "subprocess",
    "tempfile", "email", "http", "concurrent", "multiprocessing", "sqlite3", "json", "spoold", "click",
}  # fmt: skip


def modules(tmp_path: Path, *words: str, base: str = BASE) -> set[str]:
    """What a command line imports beyond the base: whole names of ours, top-level names of others."""
    code = (
        f"import sys; {base}; before = set(sys.modules); from skyspool.__main__ import main; "
        f"assert main({list(words)!r}) == 0; "
        "open(sys.argv[1], 'w').write('\\n'.join(set(sys.modules) - before))"
    )
    report = tmp_path / "modules"
    subprocess.run([sys.executable, "-c", code, str(report)], check=True, capture_output=True, timeout=60)
    names = report.read_text().split()
    ours = {name for name in names if name.startswith(("skyspool", "spool_layout"))}
    dear = {name for name in names if name in DEAR}
    return ours | dear | {name.partition(".")[0] for name in names if name not in ours}


def public(names: set[str]) -> set[str]:
    """Without the C halves of modules."""
    return {name for name in names if not name.startswith("_") or name == "_compression"}


@pytest.mark.parametrize("words", [("queue",), ("queue", "-s", "-u"), ("queue", "-o", "json")])
def test_queue_imports_this_and_nothing_else(story: Scene, tmp_path: Path, words: tuple[str, ...]) -> None:
    story.head()
    assert public(modules(tmp_path, *words)) - {"encodings", "collections"} == OF_QUEUE


def test_exec_imports_this_and_nothing_else(story: Scene, home: Path, tmp_path: Path) -> None:
    (home / "task.yaml").write_text("run: hostname\n")
    for words in (("exec", "-d", "--", "ls"), ("exec", "-d", "task.yaml")):
        found = public(modules(tmp_path, *words))
        found = {name for name in found if not name.startswith("spool_layout.")}  # what a task file is, is theirs
        assert found - OF_EXEC - {"encodings", "collections", "cython_runtime"} == set()
        assert not found & DEAR


def test_the_help_and_the_list_of_verbs_import_no_verb(tmp_path: Path) -> None:
    found = {name for name in modules(tmp_path, "--help") if name.startswith("skyspool")}
    assert found == {"skyspool", "skyspool.__main__", "skyspool.shortcut", "skyspool.commandline"}
