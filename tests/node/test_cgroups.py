"""Cgroups of attempts: where they can be made, what they hold together, what they limit.

On the cgroups of this host, whichever it has. tests/nfs/test_cgroups.py runs this file on a kernel that has v2 alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout.records import GONE, Phase
from spoold.node import cgroupfs, cgroups, hierarchies, progress
from spoold.node.cgroups import Group, Place
from spoold.node.containment import Process
from spoold.node.hierarchies import Mount, directory_of, memberships, mounts
from tests.node.site import Site, kill, running
from tests.node.test_containment import WITHOUT, names, until

HERE = cgroups.here()
NOBODY = 65534
PATIENCE = 60.0
needs_processes = pytest.mark.skipif(not HERE.processes, reason="NOT TESTED: no cgroup of v2 can be made here")
needs_memory = pytest.mark.skipif(not HERE.memory, reason=f"NOT TESTED: memory cannot be limited here: {HERE.why}")
FIND = "from spoold.node import hierarchies; print(*hierarchies.find(), sep='\\n')"
BECOME = (
    "import os, spoold.node.hierarchies; "
    f"os.setgroups([]); os.setresgid(*3 * [{NOBODY}]); os.setresuid(*3 * [{NOBODY}])"
)
# Words that put the command after them into the cgroup that is named first.
INSIDE = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"']


# ---- where they are

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/cpu,memory rw,relatime shared:9 - cgroup cgroup rw,cpu,memory
40 31 0:37 /docker/4f /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 /a\\040b /mnt/uni\\134fied rw,relatime shared:10 master:4 - cgroup2 cgroup2 rw,nsdelegate
"""


def test_hierarchies_are_found_where_mountinfo_says() -> None:
    assert mounts(HYBRID) == [
        Mount("cgroup2", "/a b", "/mnt/uni\\fied", ("rw", "nsdelegate")),
        Mount("cgroup", "/docker/4f", "/sys/fs/cgroup/systemd", ("rw", "name=systemd")),
        Mount("cgroup", "/", "/sys/fs/cgroup/cpu,memory", ("rw", "cpu", "memory")),
    ]


def test_memberships_are_told_by_controller() -> None:
    told = memberships("4:cpu,memory:/x:y/z\n1:name=systemd:/user.slice\n0::/user.slice/a.scope\n")
    assert told == {
        "cpu": "/x:y/z",
        "memory": "/x:y/z",
        "name=systemd": "/user.slice",
        "": "/user.slice/a.scope",
    }


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("/", "/", "/cg"),
        ("/", "/a/b", "/cg/a/b"),
        ("/docker/4f", "/docker/4f", "/cg"),  # a container that shares its host's cgroup namespace
        ("/docker/4f", "/docker/4f/a", "/cg/a"),
        ("/docker/4f", "/docker/4f0", None),
        ("/docker/4f", "/", None),
        ("/", "/../sibling", None),  # outside of this process's cgroup namespace
        ("/..", "/", None),  # the mount is from outside of it
    ],
)
def test_a_cgroup_is_looked_for_below_what_its_mount_shows(root: str, path: str, seen: str | None) -> None:
    assert directory_of(Mount("cgroup2", root, "/cg", ()), path) == seen


def found(*words: str, first: str = "") -> Place:
    """Where a process that is started by these words can make cgroups. first: what it does before."""
    script = [*words, sys.executable, "-c", f"{first}\n{FIND}"]
    told = subprocess.run(script, capture_output=True, text=True, check=True)
    return Place(*told.stdout.split("\n")[:3])


@pytest.mark.skipif(
    bool(subprocess.run([*WITHOUT, "true"], capture_output=True).returncode), reason="NOT TESTED: needs root"
)
def test_what_mountinfo_tells_and_cannot_be_seen_is_not_believed() -> None:
    assert found(*WITHOUT) == Place("", "", hierarchies.NONE)


@pytest.fixture
def base() -> Iterator[Path]:
    """A cgroup that nothing knows of, with one below it."""
    if not HERE.processes:
        pytest.skip("NOT TESTED: no cgroup of v2 can be made here")
    made = Path(HERE.processes, f"skyspool-test-{os.getpid()}")
    (made / "runner").mkdir(parents=True)
    yield made
    cgroupfs.remove(str(made))
    assert not made.exists()


def delegated(base: Path) -> Path:
    """Mark it as systemd marks what it leaves to a unit."""
    try:
        os.setxattr(base, "user.delegate", b"1")
    except OSError as error:
        pytest.skip(f"NOT TESTED: a delegated cgroup cannot be marked here: {error.strerror}")
    return base


def test_they_are_made_below_the_cgroup_that_the_runner_is_in(base: Path) -> None:
    assert found(*INSIDE, str(base / "runner")).processes == str(base / "runner")


def test_they_are_made_beside_the_runner_in_what_was_delegated(base: Path) -> None:
    assert found(*INSIDE, str(delegated(base) / "runner")).processes == str(base)


def test_what_was_delegated_to_another_unit_is_left_alone(base: Path) -> None:
    (base / "other.service").mkdir()
    assert found(*INSIDE, str(delegated(base) / "other.service")).processes == str(base / "other.service")


def test_a_delegated_cgroup_with_processes_of_its_own_is_left_alone(base: Path) -> None:
    sleeper = subprocess.Popen([*INSIDE, str(base), "sleep", "300"])
    try:
        until(lambda: sleeper.pid in cgroupfs.members(str(base)))
        assert found(*INSIDE, str(delegated(base) / "runner")).processes == str(base / "runner")
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: needs root to become another user")
def test_an_ordinary_user_makes_none_where_nothing_was_delegated() -> None:
    ours = found(first=BECOME)
    assert (ours.processes, ours.memory) == ("", "")


@pytest.mark.skipif(os.getuid() != 0, reason="NOT TESTED: needs root to become another user")
def test_an_ordinary_user_makes_them_in_what_was_delegated(base: Path) -> None:
    for directory in (delegated(base), base / "runner"):
        for path in (directory, directory / "cgroup.procs", directory / "cgroup.subtree_control"):
            os.chown(path, NOBODY, NOBODY)
    assert found(*INSIDE, str(base / "runner"), first=BECOME).processes == str(base)


def test_in_v2_memory_needs_a_cgroup_without_processes_of_its_own(base: Path) -> None:
    if HERE.memory != HERE.processes:
        pytest.skip("NOT TESTED: v2 has no memory controller here")
    own = found(*INSIDE, str(base))
    assert own == Place(str(base), "", hierarchies.SHARED)
    beside = found(*INSIDE, str(delegated(base) / "runner"))
    assert beside == Place(str(base), str(base), "")


def test_a_probe_that_was_cut_off_is_removed_by_the_next(base: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    (base / f"{hierarchies.PROBE}{ended.pid}").mkdir()
    assert hierarchies.admits(str(base))
    assert [path.name for path in base.iterdir() if path.is_dir()] == ["runner"]


# ---- what they hold together


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    if not HERE.processes:
        pytest.skip("NOT TESTED: no cgroup of v2 can be made here")
    made = HERE.group(f"{tmp_path}/s1/node-n1/attempts/1.1", 64).make()
    yield made
    made.kill()
    until(made.is_empty)
    made.remove()


def spawn(group: Group, *words: str) -> subprocess.Popen[bytes]:
    """Start something in it."""
    return subprocess.Popen(words, preexec_fn=group.enter, start_new_session=True)


def test_all_that_is_forked_in_it_stays_in_it_until_it_ends(group: Group) -> None:
    assert group.is_empty() and group.members() == set()
    process = spawn(group, "setsid", "-f", "setsid", "-f", "env", "-i", "sleep", "300")
    process.wait()
    until(lambda: names([Process(pid, 0) for pid in group.members()]) == ["sleep"] and not group.is_empty())
    (left,) = group.members()
    assert left != process.pid
    kill(left)
    until(group.is_empty)
    assert group.members() == set()


@pytest.mark.parametrize("file", ["cgroup.kill", "none"], ids=["at once", "frozen"])
def test_all_that_is_in_it_is_killed_also_in_cgroups_made_below(
    group: Group, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`none`: as before Linux 5.14. The forks of perl live for some hundred microseconds each."""
    monkeypatch.setattr(cgroups, "KILL", file)
    Path(group.processes, "below").mkdir()
    forever = '$SIG{TERM} = "IGNORE"; for (;;) { exit if fork; setsid() }'
    spawn(group, "perl", "-MPOSIX", "-e", forever).wait()
    sleeper = spawn(group._replace(processes=f"{group.processes}/below", memory=""), "sleep", "300")
    group.kill()
    assert sleeper.wait(10) == -9
    until(group.is_empty)


def test_the_kernel_is_asked_to_kill_all_at_once_where_it_can(tmp_path: Path) -> None:
    """A directory stands in for a cgroup of v2, so that this is tested where none can be made."""
    for name, text in (("cgroup.kill", ""), ("cgroup.freeze", ""), ("cgroup.events", "populated 0\n")):
        (tmp_path / name).write_text(text)
    Group(str(tmp_path)).kill()
    assert [(tmp_path / name).read_text() for name in ("cgroup.kill", "cgroup.freeze")] == ["1", ""]
    (tmp_path / "cgroup.kill").unlink()
    Group(str(tmp_path)).kill()
    assert (tmp_path / "cgroup.freeze").read_text() == "0"  # thawed
    assert not (tmp_path / "cgroup.kill").exists()


def test_it_is_removed_when_nobody_is_in_it(group: Group) -> None:
    Path(group.processes, "below", "further").mkdir(parents=True)
    sleeper = spawn(group._replace(processes=f"{group.processes}/below", memory=""), "sleep", "300")
    group.remove()
    assert Path(group.processes, "below").is_dir()
    sleeper.kill()
    sleeper.wait()
    until(group.is_empty)
    group.remove()
    assert [path for path in group.directories if os.path.exists(path)] == []


def test_what_cannot_be_made_costs_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    made = Group("/proc/nowhere/a", "/proc/nowhere/b", 1).make()
    assert made.directories == ()
    assert made.is_empty() and made.killed_for_memory() == 0
    made.enter()
    made.kill()
    made.remove()
    assert capfd.readouterr().err.count("the job goes without") == 2


def test_what_is_gone_cannot_be_entered_and_costs_nothing_else(group: Group, capfd: pytest.CaptureFixture[str]) -> None:
    group.remove()
    assert spawn(group, "true").wait() == 0
    assert "the job stays outside" in capfd.readouterr().err


FORKS = """
import os, sys
from spoold.node import cgroups
from spoold.node.cgroups import Group
cgroups.SYS_CLONE3 = int(sys.argv[4])
pid, outside = Group(*sys.argv[1:3], int(sys.argv[3])).fork()
if pid == 0:
    before = open("/proc/self/cgroup").read()
    outside.enter()
    print(before, open("/proc/self/cgroup").read(), sep="---", end="", flush=True)
    os._exit(os.spawnlp(os.P_WAIT, "sh", "sh", "-c", f"test $PPID = {os.getpid()} && exit 7"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@needs_processes
@pytest.mark.parametrize("number", [cgroups.SYS_CLONE3, 0xFFFF])
def test_a_child_is_forked_into_them_or_enters_where_the_kernel_cannot_do_that(group: Group, number: int) -> None:
    words = [sys.executable, "-c", FORKS, *map(str, group), str(number)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert (ran.returncode, ran.stderr) == (7, "")  # it can fork, and its child knows it
    before, after = map(memberships, ran.stdout.split("---"))
    name = os.path.basename(group.processes)
    assert (os.path.basename(before[""]) == name) is (number == cgroups.SYS_CLONE3)
    assert os.path.basename(after[""]) == name
    assert not group.memory or group.memory == group.processes or after["memory"].endswith(f"/{name}")


@needs_processes
def test_nothing_is_forked_into_what_is_no_cgroup(tmp_path: Path) -> None:
    code = f"""
import os, sys
from spoold.node.cgroups import fork_into
for directory in ({str(tmp_path)!r}, "/nowhere"):
    try:
        fork_into(directory)
    except OSError as error:
        print(type(error).__name__, error.filename)
try:
    os.waitpid(-1, 0)
except ChildProcessError:
    print("no child", len(os.listdir("/proc/self/fd")))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [
        f"OSError {tmp_path}",
        "FileNotFoundError /nowhere",
        "no child 4",
    ]  # and no descriptor is left


# ---- a node's


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A node whose runner was started, with these settings."""
    with contextlib.ExitStack() as stack:

        def made(**more: str) -> Site:
            site = stack.enter_context(running(tmp_path, grace="0.2s", **more))
            site.start()
            site.step()
            return site

        yield made


def over(up: Site, key: str) -> Phase:
    """Wait until an attempt is reported gone, also on a machine that is ten times slower; how it ended."""
    up.until(lambda: up.phase(key) in GONE, PATIENCE)
    return up.status().attempts[key]


def task(run: str, setup: str = "") -> str:
    return "".join(f"{stage}: |\n  {text}\n" for stage, text in (("setup", setup), ("run", run)) if text)


def takes(size: int) -> str:
    """A command that takes so much memory, MiB."""
    return f"perl -e '$x = \"x\" x ({size} << 20)'"


@needs_processes
def test_a_job_is_in_a_cgroup_that_names_spool_node_and_attempt(site: Callable[..., Site]) -> None:
    up = site()
    key = up.task(7, task("cat /proc/self/cgroup; exec sleep 300"))
    up.assign()
    log = Path(up.spool.log_dir(7), "run.log")
    up.until(lambda: log.exists() and log.read_text(), PATIENCE)
    name = f"skyspool-{up.id}-n1-7.1"
    group = progress.group(up.attempt(key))
    assert os.path.basename(group.processes) == name
    assert memberships(log.read_text())[""].endswith(f"/{name}")
    assert up.supervisor(key) not in group.members()
    assert list(cgroups.here().groups(up.place.path)) == [key]
    up.change(key, want="stop")
    up.assign()
    over(up, key)
    up.until(lambda: not os.path.exists(group.processes))


@needs_processes
def test_a_supervisor_killed_before_it_spawned_leaves_no_cgroup(site: Callable[..., Site]) -> None:
    up = site()
    key = up.task(1, task("sleep 300"))
    up.assign()
    up.until(lambda: up.phase(key) == "running", PATIENCE)
    group = progress.group(up.attempt(key))
    kill(up.supervisor(key))
    assert over(up, key).phase == "lost"
    assert [path for path in group.directories if os.path.exists(path)] == []


@needs_processes
def test_a_starter_removes_the_cgroups_of_what_is_over_and_of_nothing_else(site: Callable[..., Site]) -> None:
    up = site()
    lives = up.task(1, task("sleep 300"))
    up.assign()
    up.until(lambda: up.phase(lives) == "running", PATIENCE)
    kill(up.starter())
    forgotten = HERE.group(up.attempt("2.1").path, 0).make()
    other = Group(f"{HERE.processes}/skyspool-{up.id}-n1-2-3.1").make()  # of a node with the name n1-2
    up.task(3, task("true"))
    up.assign()
    up.until(lambda: up.phase("3.1") == "ended", PATIENCE)
    assert not os.path.exists(forgotten.processes)
    assert os.path.exists(other.processes)
    assert lives in cgroups.here().groups(up.place.path)
    other.remove()


@needs_memory
def test_what_goes_beyond_the_memory_that_it_asked_for_is_killed_and_that_is_told(site: Callable[..., Site]) -> None:
    up = site()
    key = up.task(1, task(takes(100)), memory_mb=32)
    up.assign()
    phase = over(up, key)
    assert (phase.phase, phase.code, phase.reason) == ("ended", 137, "was killed at its memory limit of 32 MB")
    assert up.status().enforced.memory == ("cgroup v2" if HERE.memory == HERE.processes else "cgroup v1")


@needs_memory
def test_a_job_may_use_what_it_asked_for(site: Callable[..., Site]) -> None:
    up = site()
    key = up.task(1, task(takes(30)), memory_mb=1024)
    up.assign()
    assert (over(up, key).code, up.status().attempts[key].reason) == (0, "")


@needs_memory
@pytest.mark.parametrize(
    ("setup", "run", "code"),
    [(f"{takes(100)} || true", "exit 5", 5), ("", f"{takes(100)} || true", 0)],
    ids=["in setup, which went on", "in run, which went on"],
)
def test_a_job_that_goes_on_without_what_was_killed_ends_for_its_own_reasons(
    site: Callable[..., Site], setup: str, run: str, code: int
) -> None:
    up = site()
    key = up.task(1, task(run, setup), memory_mb=32)
    up.assign()
    phase = over(up, key)
    assert (phase.stage, phase.code, phase.reason) == ("run", code, "")


@needs_memory
@pytest.mark.parametrize(("memory", "asked"), [("enforced", 0), ("counted", 32)], ids=["nothing asked", "counted"])
def test_memory_is_not_limited_where_none_was_asked_for_or_it_is_only_counted(
    site: Callable[..., Site], memory: str, asked: int
) -> None:
    up = site(memory=memory)
    key = up.task(1, task(takes(100)), memory_mb=asked)
    up.assign()
    assert over(up, key).code == 0
    told = up.status().enforced
    assert (told.memory == "", "counted" in told.why) == (memory == "counted", memory == "counted")


def test_a_node_that_can_make_no_cgroup_says_so(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "here", Place)
    told = site().status().enforced
    assert (told.processes, told.memory, told.why) == ("/proc", "", hierarchies.NONE)


@pytest.mark.parametrize(("size", "words"), [(4 << 30, "4 GB"), (3 << 29, "1.5 GB"), (512 << 20, "512 MB")])
def test_limits_are_told_as_they_are_asked_for(size: int, words: str) -> None:
    assert cgroups.amount(size) == words
