"""What every test gets: an empty home, no settings of this machine's owner, and no process that outlives it.

A test that leaves a process behind fails, and the process is killed, by its number. Processes are found by the random
id of this run in their environment (each xdist worker has its own), or by standing in this run's temporary directory
or writing their output there: jobs get a clean environment. What a fixture of wider scope
started stays alone until that scope ends; the last look is at the end of the session.

A test that needs what is not there (a program, root, cgroups) is skipped, with its reason. With EVERY_TOOL in the
environment, as .ci/run sets it, it fails, but for the reasons in MAY_LACK: what CI does not test nobody tests.
"""

import compileall
import contextlib
import os
import pwd
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

MARK = "SKYSPOOL_TEST_RUN"
FOREIGN = ("SKYSPOOL_", "SKYPILOT_", "XDG_", "CUDA_", "NVIDIA_", "SLURM_")
# Many a ~/.bashrc runs `pyenv init`, under this lock. A job that a test kills meanwhile leaves it, and every later
# login shell of this machine would wait for a minute.
LOGIN_LOCK = Path(pwd.getpwuid(os.getuid()).pw_dir, ".pyenv/shims/.pyenv-shim")
LOGIN_LOCK_S = 10.0
EVERY_TOOL = "EVERY_TOOL"
MAY_LACK = ("v2 has no memory controller here",)  # reasons, or parts of them: what no package gives to a host
SUPERVISOR = "skyspool-job"  # what supervisors call themselves
GRACE_S = 2.0  # what has just been killed may still be on its way out


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what is skipped fail, where everything is to be there that tests need."""
    report = yield
    if report.skipped and os.environ.get(EVERY_TOOL) and not any(what in report.longreprtext for what in MAY_LACK):
        report.outcome = "failed"
        report.longrepr = f"{report.longreprtext}\nskips are failures where {EVERY_TOOL} is set (tests/conftest.py)"
    return report


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # As an installed package is. Where PYTHONDONTWRITEBYTECODE is set, each daemon of each test would compile anew.
        for folder in ("spool_layout", "spoold", "skyspool"):
            compileall.compile_dir(str(Path(__file__).parents[1] / folder), quiet=2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `make test &` ignores it, for all below too
    os.environ[MARK] = secrets.token_hex(8)


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory under which all files of this run lie (--basetemp, TMPDIR)."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="session", autouse=True)
def _nothing_survives_the_session(run_directory: Path) -> Iterator[None]:
    yield
    expect_no_processes(run_directory, allowed=set())


@pytest.fixture(autouse=True)
def _nothing_survives_the_test(run_directory: Path) -> Iterator[None]:
    before = set(processes(run_directory))
    free_login_lock()
    yield
    expect_no_processes(run_directory, allowed=before)


@pytest.fixture(autouse=True)
def home(run_directory: Path, monkeypatch: pytest.MonkeyPatch, _nothing_survives_the_test: None) -> Iterator[Path]:
    """An empty HOME, and none of the machine's variables that change what a client or a job does."""
    directory = Path(tempfile.mkdtemp(prefix="home-", dir=run_directory))
    monkeypatch.setenv("HOME", str(directory))
    for name in [name for name in os.environ if name.startswith(FOREIGN) and name != MARK]:
        monkeypatch.delenv(name)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def expect_no_processes(run_directory: Path, allowed: set[int]) -> None:
    """Fail, and kill them, if processes of this run other than the allowed ones live on after the grace time."""
    deadline = time.monotonic() + GRACE_S
    while left := {
        pid: line for pid, line in processes(run_directory).items() if pid not in allowed and not rests(pid, allowed)
    }:
        if time.monotonic() > deadline:
            for pid in left:
                kill(pid)
            told = "\n".join(f"  {pid}: {line}" for pid, line in left.items())
            pytest.fail(f"processes were left running, and are killed now:\n{told}", pytrace=False)
        time.sleep(0.02)


def rests(pid: int, allowed: set[int]) -> bool:
    """Whether a process is a supervisor without a job, which rests for a while below a starter that may live on."""
    try:
        name, _, fields = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return True  # gone
    return name == SUPERVISOR and int(fields.split()[1]) in allowed and not children


def free_login_lock() -> None:
    """Take away a lock whose holder was killed: one that lives holds it for a second."""
    with contextlib.suppress(OSError):
        if time.time() - LOGIN_LOCK.stat().st_mtime > LOGIN_LOCK_S:
            LOGIN_LOCK.unlink()


def processes(run_directory: Path) -> dict[int, str]:
    """The living processes that this run started, with their command lines; empty where there is no /proc."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, a zombie, or another user's
            if int(entry.name) != os.getpid() and is_ours(entry, f"{run_directory}{os.sep}"):
                found[int(entry.name)] = os.fsdecode((entry / "cmdline").read_bytes().replace(b"\0", b" ")).strip()
    return found


def is_ours(process: Path, below: str) -> bool:
    """Whether this run started a process: by its mark, or by where it is, unless somebody sits at it."""
    if f"{MARK}={os.environ[MARK]}".encode() in (process / "environ").read_bytes().split(b"\0"):
        return True
    if os.readlink(process / "cwd").startswith(below):
        return not os.readlink(process / "fd/0").startswith("/dev/pts/")
    return os.readlink(process / "fd/1").startswith(below)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
