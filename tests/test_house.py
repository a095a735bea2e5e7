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


# ---- one port to the spool's disk

TOUCHING = {
    "open", "mkdir", "makedirs", "rmdir", "removedirs", "rename", "renames", "replace", "link", "symlink", "unlink",
    "remove", "mkfifo", "mknod", "stat", "lstat", "statvfs", "access", "listdir", "scandir", "walk", "fwalk",
    "readlink", "utime", "chmod", "lchmod", "chown", "lchown", "truncate", "fsync", "fdatasync", "sync", "exists",
    "lexists", "isfile", "isdir", "islink", "ismount", "getsize", "getmtime", "getatime", "getctime", "samefile",
}  # fmt: skip
WHOLE_MODULES = frozenset({"shutil", "tempfile", "glob", "pathlib", "fileinput", "io"})
HARMLESS = frozenset({"shutil.which", "io.BytesIO", "io.StringIO"})
THE_PORT = ("spool_layout/storage.py", "spool_layout/localdisk.py", "spool_layout/stamps.py")
PAST_THE_PORT = {
    "the node's own directory, on its own disk": (
        "spoold/node/workplace.py", "spoold/node/progress.py", "spoold/node/journal.py", "spoold/node/starter.py",
        "spoold/node/spawning.py", "spoold/node/order.py", "spoold/node/runner.py:Runner.__init__",
        "spoold/node/keeper.py", "spoold/node/containers.py",
    ),
    "what this host remembers, on its own disk": (
        "spoold/local.py", "spoold/restored.py:note_led", "spoold/restored.py:_led", "skyspool/offered.py",
        "spoold/head/loop.py:Head.remember", "spoold/head/loop.py:Head.recall",
    ),
    "the kernel: /proc, /sys, cgroups": (
        "spoold/node/cgroups.py", "spoold/node/hierarchies.py", "spoold/node/cgroupfs.py", "spoold/node/containment.py",
        "skyspool/processes.py", "skyspool/daemons.py",
        "spool_layout/becoming.py", "spool_layout/mounts.py:mount_of", "skyspool/doctor/meeting.py:here",
        "spool_layout/holder.py:_said",
    ),
    "done by the job's own process, as its owner, for whom the runner must not wait": (
        "spoold/node/job.py", "spoold/node/owner.py", "spoold/node/gitlogin.py",
    ),
    "a thread of its own syncs what jobs write, so that nothing else waits for it": ("spoold/node/flushing.py",),
    "the lock's files, which filelock makes and reads by itself": (
        "spool_layout/leadership.py:HeadLock", "spool_layout/holder.py:Holder",
    ),
    "measures the file system as it is, beside the spool": (
        "skyspool/doctor/probes.py", "skyspool/doctor/experiments.py", "skyspool/doctor/replacing.py",
        "skyspool/doctor/meeting.py", "skyspool/doctor/examination.py",
    ),
    "makes a spool, or gives its directories their modes: there is nothing to lose yet": (
        "skyspool/verbs/init.py", "skyspool/verbs/up.py", "spoold/fsck/mending.py",
    ),
    "whose the spool's own directory is, links followed": (
        "spoold/account.py:account", "spoold/account.py:refuse_root", "spoold/fsck/facts.py:_strangers",
    ),
    "whether who asks may look into a drop box: a no only leaves out what the ledger tells too": (
        "skyspool/queueing.py:_View.__init__",
    ),
    "counts what all files take, with what each listing already knows": ("skyspool/room.py",),
    "copies logs to where the user wants them, which it reads through the port": (
        "skyspool/verbs/logs.py:copy", "skyspool/verbs/logs.py:_copy",
    ),
    "the user's own files and words, the host's settings": (
        "skyspool/clusters.py", "skyspool/entrypoint.py", "skyspool/task.py", "skyspool/variables.py",
        "skyspool/verbs/lint.py", "skyspool/verbs/demo.py", "skyspool/__main__.py", "spool_layout/users.py",
        "spoold/account.py:must_be_readable",
    ),
}  # fmt: skip


class Touches(ast.NodeVisitor):
    """The functions of a module in which something on a disk is touched past the port, and how."""

    def __init__(self, module: str) -> None:
        self.found: list[tuple[str, str]] = []
        self._within = [f"{module}:"]

    def visit_ClassDef(self, node: ast.ClassDef | ast.FunctionDef) -> None:
        self._within.append(f"{self._within[-1]}{node.name}.")
        self.generic_visit(node)
        self._within.pop()

    visit_FunctionDef = visit_ClassDef  # type: ignore[assignment]

    def visit_Attribute(self, node: ast.Attribute) -> None:
        words = ast.unparse(node)
        owner = words.rpartition(".")[0]
        if (owner in ("os", "os.path") and node.attr in TOUCHING) or (owner in WHOLE_MODULES and words not in HARMLESS):
            self._add(words)
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id == "open":
            self._add("open")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = {alias.name for alias in node.names}
        if node.module in WHOLE_MODULES or (node.module in ("os", "os.path") and names & (TOUCHING | {"path"})):
            self._add(f"from {node.module} import {', '.join(names)}")

    def _add(self, how: str) -> None:
        self.found.append((self._within[-1].rstrip(".:"), how))


def touches() -> list[tuple[str, str]]:
    """(module:function, how) of all rooms, the port itself left out."""
    found = []
    for path in modules():
        if (module := str(path.relative_to(ROOT))) not in THE_PORT:
            seen = Touches(module)
            seen.visit(ast.parse(path.read_bytes()))
            found += seen.found
    return found


def covers(place: str, where: str) -> bool:
    """Whether a place (module, module:class, module:function) holds a touch."""
    return where == place or where.startswith((f"{place}:", f"{place}."))


def test_every_touch_of_the_spool_goes_through_the_port() -> None:
    """What is not there says in PAST_THE_PORT why."""
    places = [place for some in PAST_THE_PORT.values() for place in some]
    past = [f"{where} {how}" for where, how in touches() if not any(covers(place, where) for place in places)]
    assert past == []


def test_what_is_said_to_go_past_the_port_does() -> None:
    where = {place for place, _ in touches()}
    idle = [p for some in PAST_THE_PORT.values() for p in some if not any(covers(p, place) for place in where)]
    assert idle == []
