"""The stories whose acts are killed: see killing.py.

python -m tests.faults.kill_stories STORY [kills|errors]
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from skyspool import submission
from skyspool.__main__ import main as client
from spool_layout import stamps
from spool_layout.leadership import HeadLock
from spool_layout.settings import Keep
from spool_layout.states import Status
from spoold.head import loop
from spoold.local import version
from spoold.node import identity, progress
from spoold.node.job import KILLED
from spoold.node.supervisor import STOPPED
from tests.faults import tracing
from tests.faults.chance import chance
from tests.faults.kill_node import RealNode, kill
from tests.faults.killing import SETTINGS, Scene, Tale, Teller
from tests.head.stage import Killed
from tests.head.test_cuts import STORIES

SHOWN = 5  # failures that are told in full
LATE = 10.0  # seconds


def expect(s: Scene, **ends: Status) -> None:
    """How jobs have to have ended."""
    found = {name: s.job(name).status for name in ends}
    assert found == ends, {name: s.job(name) for name in ends}


# ---- head: what test_cuts.py does not tell --------------------------------------------------------------------------


class Free:
    """A lock that is free: what waits for it is told by `lock`."""

    interval = 0.0

    def is_free(self) -> bool:
        return True

    def acquire(self, timeout: float = 0.0) -> bool:
        return True

    def release(self) -> None:
        pass

    def holders(self) -> dict[str, bytes]:
        return {}


def once(s: Scene) -> None:
    """`spoold head --once` from its first look to what it keeps for the next one on its host."""
    HeadLock(s.spool, SETTINGS)  # imports what the forks need
    version()  # likewise, and it reads how this program was installed
    s.node("n1", gpus=1)
    s.drop("a")
    s.drop("b")
    try:
        s.process(tracing.forked(lambda: be_head(s)))
    except Killed:
        s.killed += 1
        tracing.alone(tracing.forked(lambda: be_head(s)))
    stand = [os.listdir(s.spool.running), os.listdir(s.spool.pending)]
    late = [["1.b.yaml"], ["2.a.yaml"]]  # where a file could not be read at once
    assert stand == [["1.a.yaml"], ["2.b.yaml"]] or (s.failing and stand == late), stand
    s.run()
    s.finish("a")
    s.finish("b")
    expect(s, a=Status.SUCCEEDED, b=Status.SUCCEEDED)


def be_head(s: Scene) -> None:
    """In a fork."""
    chance.begin(f"act {s.acts} {s.killed}")
    os.getpid = lambda: 4711  # stands in names
    loop.ONCE_MARGIN = -1.0  # waits for nothing
    head = loop.Head(s.spool.root, state=str(s.folder / "state"), once=True)
    # The lock is liveness only, and its heartbeat thread makes calls at times that no two runs share.
    head.lock = Free()  # type: ignore[assignment]
    assert head.once() == 0


def prune(s: Scene) -> None:
    """A round of the pruner, to its end."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    s.finish("a")
    for path in (Path(s.spool.log_dir(1), "run.log"), Path(s.spool.events, ".part-1"), Path(s.spool.tmp, "b.yaml")):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))
    try:
        s.act(lambda: prune_all(s))
    except Killed:
        s.killed += 1
        s.term = None
        s.run()
    prune_all(s)
    assert os.listdir(s.spool.logs) == os.listdir(s.spool.tmp) == []
    assert not [name for name in os.listdir(s.spool.events) if name.startswith(".")]


def prune_all(s: Scene) -> None:
    assert s.term is not None
    s.term.pruner.keep = Keep(logs=1.0)
    while s.term.pruner.step(time.time() + 40 * 86400):
        pass


def lock(s: Scene) -> None:
    """The lock of the heads, taken and given back. Killed, another head has it soon.

    Its calls are filelock's own, and it is for liveness: that two heads never write at once is for the epochs to see
    to, whose calls are cut in the other stories."""
    settings = msgspec.structs.replace(SETTINGS, lock_heartbeat=0.1, lock_threshold=0.25)
    HeadLock(s.spool, settings)  # imports what the forks need

    def hold() -> None:
        os.getpid = lambda: 4711  # stands in names
        lock = HeadLock(s.spool, settings)
        assert lock.acquire(LATE)
        lock.release()

    try:
        s.process(tracing.forked(lambda: (chance.begin("act"), hold())))
    except Killed:
        s.killed += 1
    assert tracing.alone(tracing.forked(hold)) == 0
    s.look()


# ---- the client -----------------------------------------------------------------------------------------------------


def submit(s: Scene) -> None:
    """`skyspool exec -d`, twice. Killed, it submitted once or not at all; with exit code 0, once."""
    s.node("n1", gpus=1)
    s.run()
    for name in ("a", "b"):
        mark = f"mark-of-{name}"
        code = run_client(s, "exec", "-d", "--no-wait", "-n", name, "--", f"echo {mark}")
        found = sum(f"{mark}\n" in path.read_text() for path in Path(s.spool.pending).iterdir())
        assert found == 1 if code == 0 else found <= 1, f"exit code {code}, and {found} files in pending/"
        s.texts[mark] = name if found else ""
    s.run()
    s.finish("a", "b")
    expect(s, **dict.fromkeys(filter(None, s.texts.values()), Status.SUCCEEDED))
    assert len(s.jobs()) == 2 - list(s.texts.values()).count("")


def cancel_as_client(s: Scene) -> None:
    """`skyspool cancel`. Killed, it asked or did not; then its user asks again."""
    s.node("n1", gpus=1)
    s.drop("a")
    s.run()
    for _ in range(2):
        run_client(s, "cancel", "-y", "--async", str(s.job("a").id))
        s.run()
    expect(s, a=Status.CANCELLED)


def run_client(s: Scene, verb: str, *words: str) -> int:
    """A command line of skyspool's, as an act; its exit code, -9 where it was killed."""

    def command() -> None:
        chance.begin(f"act {s.acts}")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        plain = submission.token
        submission.token = lambda now=None: plain(1.7e9 + s.acts)
        if code := client([verb, "-c", s.spool.root, *words] if verb == "exec" else [verb, s.spool.root, *words]):
            os._exit(code)

    try:
        return s.process(tracing.forked(command))
    except Killed:
        s.killed += 1
        return s.code


# ---- the runner -----------------------------------------------------------------------------------------------------


def first_start(s: Scene) -> None:
    """A runner starts where there never was one: no local directory, no directory in nodes/."""
    n = RealNode(s)
    n.act(n.start)
    n.drop("a", gpu=True)
    n.run()
    expect(s, a=Status.SUCCEEDED)
    n.check()


def take_orders(s: Scene) -> None:
    """A pass in which two attempts are prepared and ordered."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.drop("a", gpu=True)
        n.drop("b", setup=True)
        s.look()
        n.act_pass()
    n.run()
    expect(s, a=Status.SUCCEEDED, b=Status.SUCCEEDED)
    n.check()


def start_a_starter(s: Scene) -> None:
    """A pass in which an attempt is ordered, and a starter is started for it."""
    n = RealNode(s)
    n.start()
    n.drop("a")
    s.look()
    n.act_pass()
    n.run()
    expect(s, a=Status.SUCCEEDED)
    n.check()


def report(s: Scene) -> None:
    """A heartbeat while a job runs."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    n.act(lambda: n.runner and n.runner.report(force=True))
    n.over.add("hold")
    n.run()
    expect(s, hold=Status.SUCCEEDED)
    n.check()


def see_an_end(s: Scene) -> None:
    """A pass in which a job is found to have ended, and one in which it is forgotten."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    attempt = n.attempt("hold")
    n.let_end("hold")
    n.until(lambda: progress.is_gone(attempt))
    n.act_pass()
    s.look()
    n.act_pass()
    n.run()
    expect(s, hold=Status.SUCCEEDED)
    n.check()


def stop(s: Scene) -> None:
    """Passes in which a cancelled job is asked to end, and found to be gone."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    s.request("cancel: hold")
    s.look()
    n.act_pass()
    n.until(lambda: progress.is_gone(n.attempt("hold")) or s.job("hold").status is Status.CANCELLED)
    n.act_pass()
    n.run()
    expect(s, hold=Status.CANCELLED)
    n.check()


def stop_before_it_began(s: Scene) -> None:
    """A pass in which an attempt is stopped that was ordered and that no starter has looked at."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.order("a")
        s.request("cancel: a")
        s.look()
        n.act_pass()
        s.look()
    n.run()
    assert s.job("a").status is Status.CANCELLED and n.ran == []


def lapse(s: Scene) -> None:
    """A pass after the runner did not renew within its limit."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    n.age(3600)
    n.act_pass()
    n.drop("b")
    n.over.add("hold")
    n.run()
    expect(s, hold=Status.SUCCEEDED, b=Status.SUCCEEDED)
    n.check()


def restart(s: Scene) -> None:
    """A runner starts after a killed one, and its job lives. This and the next three: the states of an attempt at such
    a start, each in a story of its own. A runner takes attempts up one by one: all four in one story would be hit at
    the same places, each time in a story four times as long."""
    n = RealNode(s)
    n.start()
    n.drop("hold")
    n.run()
    n.kill()
    n.act(n.start)
    n.run()
    n.over.add("hold")
    n.run()
    expect(s, hold=Status.SUCCEEDED)
    n.check()


def restart_orphaned(s: Scene) -> None:
    """The job lives, and its supervisor was killed; another one was ordered, and nobody has begun it."""
    n = RealNode(s)
    n.start()
    n.drop("hold")
    n.run()
    with n.deaf_starter():
        n.order("d")
        n.kill()
        orphaned = progress.supervisor(n.attempt("hold"))
        assert orphaned is not None
        kill(orphaned.pid)
        n.act(n.start)
    n.run()
    expect(s, hold=Status.FAILED_DRIVER, d=Status.SUCCEEDED)
    n.check()


def restart_ended(s: Scene) -> None:
    """The job has ended meanwhile."""
    n = RealNode(s)
    n.start()
    n.drop("hold")
    n.run()
    n.kill()
    n.over.add("hold")
    n.let_end("hold")
    n.until(lambda: progress.is_gone(n.attempt("hold")))
    n.act(n.start)
    n.run()
    expect(s, hold=Status.SUCCEEDED)
    n.check()


def restart_ordered(s: Scene) -> None:
    """The job was ordered, and nobody has begun it."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.order("d")
        n.kill()
        n.act(n.start)
    n.run()
    expect(s, d=Status.SUCCEEDED)
    n.check()


def reboot(s: Scene) -> None:
    """A runner starts after its host was rebooted while one job ran, and another had ended."""
    n = RealNode(s)
    n.start()
    for name in ("hold1", "hold2"):
        n.drop(name, gpu=True)
    n.run()
    n.let_end("hold2")
    n.until(lambda: progress.is_gone(n.attempt("hold2")))
    n.reboot()
    n.act(n.start)
    n.run()
    expect(s, hold1=Status.FAILED_DRIVER, hold2=Status.SUCCEEDED)
    n.check()


def lose_the_local_directory(s: Scene) -> None:
    """A runner starts in an empty local directory while a job of the one before runs."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    n.kill()
    identity.LONGEST_WATCH = 0.0  # nobody else beats, so nobody is waited for
    shutil.rmtree(n.place.path)
    n.act(n.start)
    n.run()
    expect(s, hold=Status.FAILED_DRIVER)
    n.check()


def leave(s: Scene) -> None:
    """A runner ends on purpose while a job runs and another was ordered; then the next one starts."""
    n = RealNode(s)
    n.start()
    n.drop("hold", gpu=True)
    n.run()
    with n.deaf_starter():
        n.order("a")
        n.act(lambda: n.runner and n.runner.leave())
        n.kill()
        n.act(n.start)
    n.over.add("hold")
    n.run()
    expect(s, hold=Status.SUCCEEDED)
    n.check()


# ---- starter, supervisor, job ---------------------------------------------------------------------------------------


def starter(s: Scene) -> None:
    """A starter starts and looks at an order."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.order("a", gpu=True)
    n.act_starter()
    n.run()
    expect(s, a=Status.SUCCEEDED)
    n.check()


def supervisor(s: Scene) -> None:
    """A supervisor from its marker to its end: setup, run, what run leaves behind."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.act_supervisor(n.order("a", gpu=True, setup=True, leave=True))
    n.run()
    assert s.job("a").status in ((Status.FAILED_DRIVER, Status.SUCCEEDED) if s.killed else (Status.SUCCEEDED,))
    n.check()


def supervisor_goes_on(s: Scene) -> None:
    """A supervisor takes another attempt when its own is over, and nothing of it is left."""
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.act_supervisor(n.order("a", gpu=True), n.order("b", gpu=True))
        pids = [(n.attempt(name).read("marker") or {}).get("pid") for name in "ab"]
        assert s.killed or pids == [pids[0]] * 2, f"each had a supervisor of its own: {pids}"
    n.run()
    ends = [s.job(name).status for name in "ab"]
    assert ends.count(Status.FAILED_DRIVER) <= s.killed and {*ends} <= {Status.FAILED_DRIVER, Status.SUCCEEDED}, ends
    n.check()


def supervisor_stopped(s: Scene) -> None:
    """A supervisor whose job is cancelled while it runs, and has to be killed. It takes no other attempt."""
    _stopped(s, "run", short=0.0)


def supervisor_stopped_between(s: Scene) -> None:
    """A supervisor whose job is cancelled when its setup is over, and run has to wait."""
    _stopped(s, "setup")


def _stopped(s: Scene, stage: str, **more: float) -> None:
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        key, other = n.order("hold", gpu=True, setup=stage == "setup"), n.order("b")
        if stage == "setup":
            n.hold_back(key)
        s.request("cancel: hold")
        s.look()
        with n.cancelled_meanwhile(key, stage):
            n.act_supervisor(key, other, **more)
        assert n.attempt("b").read("marker") is None, "the supervisor of what was cancelled took another attempt"
    n.run()
    expect(s, hold=Status.CANCELLED, b=Status.SUCCEEDED)
    assert stage == "run" or [key for key, _ in n.ran] == [other]
    assert s.killed or s.job("hold").exit_codes == [{"run": KILLED, "setup": STOPPED}[stage]]
    n.check()


def job_setup(s: Scene) -> None:
    """The child that becomes setup's bash, to its end."""
    _job(s, 1)


def job_run(s: Scene) -> None:
    """The child that becomes run's bash, to its end."""
    _job(s, 2)


def _job(s: Scene, stage: int) -> None:
    n = RealNode(s)
    n.start()
    with n.deaf_starter():
        n.act_job(n.order("a", gpu=True, setup=True), stage)
    n.run()
    # Where it cannot even turn into run's bash, it says so as what goes wrong before the commands: a failed setup.
    ends = (Status.FAILED_SETUP,) if stage == 1 else (Status.FAILED, Status.FAILED_SETUP)
    status = s.job("a").status
    assert status is Status.SUCCEEDED or (s.killed and status in ends)
    assert status is not Status.FAILED_SETUP or n.ran == []
    n.check()


RUNNERS = [
    first_start,
    take_orders,
    start_a_starter,
    report,
    see_an_end,
    stop,
    stop_before_it_began,
    lapse,
    restart,
    restart_orphaned,
    restart_ended,
    restart_ordered,
    reboot,
    lose_the_local_directory,
    leave,
]
JOBS = [starter, supervisor, supervisor_goes_on, supervisor_stopped, supervisor_stopped_between, job_setup, job_run]
# The heads of `edit_at_the_start` and `lose_a_node` make no kind of operation (kind_of) that these two do not make, so
# that a takeover from them finds no other kind of debris.
DEBRIS = [story for story in STORIES if story.__name__ in ("accept", "keep_ledgers")]
HEADS = [story for story in STORIES if story.__name__ != "surface"]  # of a restored spool, which fsck rightly tells
TALES = {
    **{f"head-{story.__name__}": Tale(story) for story in HEADS},
    **{f"takeover-{story.__name__}": Tale(story, debris=True) for story in DEBRIS},
    **{f"head-{story.__name__}": Tale(story, heads=False) for story in (once, prune)},
    "head-lock": Tale(lock, heads=False, real=True),
    **{f"client-{story.__name__}": Tale(story, heads=False) for story in (submit, cancel_as_client)},
    **{f"node-{story.__name__}": Tale(story, heads=False, real=True) for story in RUNNERS},
    **{f"job-{story.__name__}": Tale(story, heads=False, patient=True, real=True) for story in JOBS},
}


def main(name: str, *only: str) -> int:
    """Tell one story in all ways, or in one kind of ways; the exit code."""
    stamps.SETTLED = 1 << 62  # a story that is told again makes the same calls, however long it takes
    folder = Path(tempfile.mkdtemp(prefix="killing-", dir=tracing.MEMORY))
    teller = Teller(TALES[name], folder / "scene")
    try:
        for how, tell in (("kills", teller.kill_all), ("errors", teller.fail_some)):
            if how in (only or (how,)):
                tell()
    finally:
        shutil.rmtree(folder)
    for failure in teller.failures[:SHOWN]:
        print(failure, file=sys.stderr)
    print(f"{name}: {teller.kills} kills, {teller.errors} errors, {len(teller.failures)} failures")
    return 1 if teller.failures or not (teller.kills or teller.errors) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
