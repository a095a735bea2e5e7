"""The loops of head and runner with an error at each call: they tell it, wait, and go on. They neither die nor spin.

Both run as `spoold head` and `spoold node` run them, in this process, up to where they sleep: there the story goes on.
What they lead and run is real (a lock, a starter, jobs); a pause after a failure passes at once.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool_layout import settings
from spool_layout.modes import mode_of
from spool_layout.paths import Spool
from spool_layout.records import GONE
from spool_layout.storage import Disk
from spoold.fsck.facts import gather
from spoold.fsck.judging import judge
from spoold.head import loop
from spoold.head.loop import Head
from spoold.node.runner import Runner
from tests.faults.port import FAULTS, Fault, Port, through, trouble
from tests.head.stage import Node
from tests.node.site import Site, running

PATIENCE = 4  # sleeps after which a lasting fault is lifted
LONG = 200  # sleeps of one story; three times what the longest takes
LOOP_FAILED, OF_ONE_JOB = re.compile("tries again|^stands by: "), re.compile(r"job \d+: |attempt ")  # in the log
FEW = 37  # of so many calls one, in the tests that always run
TASK = "resources: {accelerators: H100:1}\nrun: echo\n...\n"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The loops set handlers of their own."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGIO)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Sleeps:
    """Each sleep of a loop: how long it was to be, and when a lasting fault is lifted."""

    def __init__(self, port: Port) -> None:
        self.port, self.pauses, self.troubled, self.seen = port, list[float](), 0, 0

    def note(self, seconds: float) -> bool:
        """One more. Whether something went wrong since the last one."""
        self.pauses.append(seconds)
        assert len(self.pauses) < LONG, f"it comes to no end: {self.pauses[-20:]}"
        struck = len(self.port.struck) > self.seen
        self.seen = len(self.port.struck)
        self.troubled += struck
        if self.troubled >= PATIENCE:
            self.port.lift()
        return struck


# ---- the head


class Everywhere(set[str]):
    """News of every directory, at any time."""

    def isdisjoint(self, other: object) -> bool:
        return False


class Still:
    """A waker without watches; its sleep is the story's next step."""

    native, news = True, Everywhere()

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep

    def wait(self, seconds: float) -> bool:
        self.sleep(seconds)
        return True

    def watch(self, directory: str, *_: object) -> None: ...

    def ring(self) -> None: ...

    def close(self) -> None: ...


class Led:
    """A spool with a node and a head; a job is dropped, runs and ends, then the head is told to stop."""

    def __init__(self, folder: Path, port: Port) -> None:
        self.folder, self.port, self.spool = folder, port, Spool(folder / "spool")
        for path in self.spool.directories:
            os.makedirs(path, mode_of(os.path.relpath(path, self.spool.root), "single"))
        said = [line for line in settings.first_text("test", False).splitlines(True) if line[:5] != "lock_"]
        beats = "lock_heartbeat: 1s\nlock_threshold: 4s\n"  # so that only a pause after a failure is as long
        Path(self.spool.settings).write_text("".join(said) + beats + "settle: 0s\n")
        self.node = Node(self.spool, "n1", 1)
        self.sleeps, self.dropped = Sleeps(port), False

    def start(self) -> Head:
        """As whoever minds services does: again where it could not start."""
        for _ in range(PATIENCE):
            try:
                return Head(self.spool.root, through(self.port), str(self.folder / "state"))
            except OSError:
                assert self.port.struck
        self.port.lift()
        return Head(self.spool.root, through(self.port), str(self.folder / "state"))

    def run(self) -> None:
        self.head = self.start()
        self.head.waker.close()
        # The loop waits here alone: so pauses are counted, not slept, and the fault is lifted after some.
        self.head.waker = Still(self.sleep)  # type: ignore[assignment]
        assert self.head.run() == 0

    def sleep(self, seconds: float) -> None:
        self.sleeps.note(seconds)
        self.head.lock._looked -= seconds  # which keeps time between its looks
        if not self.dropped and self.head.presence.role == "leading":
            self.drop()
        self.node.step()
        if self.ended():
            self.head.stop()

    def drop(self) -> None:
        """A job, whose process ends as soon as it has begun."""
        made = Path(self.spool.tmp, "made")
        made.write_text(TASK)
        made.rename(self.spool.dropped("job.yaml"))
        self.node.over.add("job")
        self.dropped = True

    def ended(self) -> list[str]:
        return [path.name for path in Path(self.spool.done).glob("*/*.yaml")]

    def is_sound(self) -> None:
        assert self.ended() == ["1.job.SUCCEEDED.yaml"]
        assert [key for key, _ in self.node.ran] == ["1.1"]
        found = judge(gather(self.spool, Disk(), self.head.settings.id))
        assert [finding for finding in found if finding.fault] == []


# ---- the node


class Over(BaseException):
    """The story has come to its end."""


class Kept:
    """A node whose runner is killed at the end of each story; its starter lives on, and each story has jobs of its own.

    One of them runs to its end, the other one until it is stopped; then both are forgotten.
    """

    def __init__(self, site: Site, port: Port) -> None:
        self.site, self.port, self.number, self.first = site, port, 0, 1
        site.start()
        site.step()
        site.kill()

    def run(self) -> None:
        self.number += 2
        self.sleeps, self.omitted = Sleeps(self.port), False
        self.short = self.site.task(self.number - 1, self._proving("true"))
        self.long = self.site.task(self.number, self._proving("exec sleep 300"))
        self.site.assign()
        runner = self.start()
        # As for the head: the one place where the loop waits.
        really, runner.waker.wait = runner.waker.wait, self.sleep  # type: ignore[method-assign]
        self.wait = really
        try:
            with self.port, pytest.raises(Over):
                runner.run()
        finally:
            self.site.kill()

    def start(self) -> Runner:
        """As whoever minds services does: again where it could not start."""
        for _ in range(PATIENCE):
            before = descriptors()
            try:
                with self.port:
                    return self.site.start()
            except OSError:
                assert self.port.struck
                for descriptor in descriptors() - before:  # as the end of its process does
                    os.close(descriptor)
        self.port.lift()
        return self.site.start()

    def sleep(self, seconds: float) -> bool:
        """A sleep of the runner's: what a head would do, then the real one, unless it is a pause after a failure."""
        with self.port.aside():
            struck = self.sleeps.note(seconds)
            self.go_on()
        return struck or self.wait(seconds)

    def go_on(self) -> None:
        phases = self.site.status().attempts
        if self.omitted:
            if not {self.short, self.long} & {*phases, *self.site.place.remembered()}:
                raise Over
        elif phases.get(self.short) and phases.get(self.long):
            short, long = phases[self.short], phases[self.long]
            if str(self.number) in self.proof() and self.site.wanted[self.long].want == "run":
                self.site.change(self.long, want="stop")
                self.site.assign()
            elif short.phase in GONE and long.phase in GONE:
                assert (short.phase, short.code, long.phase) == ("ended", 0, "ended")
                self.site.wanted.clear()
                self.site.assign()
                self.omitted = True

    def is_sound(self) -> None:
        """Each was begun once."""
        assert sorted(self.proof(), key=int) == [str(number) for number in range(1, self.number + 1)]

    def proof(self) -> list[str]:
        """The jobs that ran, as they say themselves."""
        path = self.site.folder / "proof"
        return path.read_text().split() if path.exists() else []

    def _proving(self, then: str) -> str:
        return f"run: echo $SKYPILOT_INTERNAL_JOB_ID >> {self.site.folder}/proof; {then}\n"


def descriptors() -> set[int]:
    """Those that are open in this process."""
    listed = os.listdir("/proc/self/fd")  # and the one by which they are listed
    return {int(number) for number in listed if os.path.lexists(f"/proc/self/fd/{number}")}


# ---- both


class Story:
    """Tells one story after the other, and looks at what was logged in each."""

    def __init__(self, folder: Path, port: Port, caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self.port, self.caplog, self.number = folder, port, caplog, 0

    def head(self) -> None:
        """A head leads, with an error somewhere."""
        self.caplog.clear()
        self.number += 1
        led = Led(self.folder / str(self.number), self.port)
        led.run()
        self.port.lift()
        led.is_sound()
        self.failures_are_told(led.sleeps)

    def cron(self) -> None:
        """A head is run again and again, with an error somewhere; it ends with 0, or by the error."""
        self.number += 1
        led = Led(self.folder / str(self.number), self.port)
        led.drop()
        while not led.ended():
            led.sleeps.note(0.0)
            head = led.head = led.start()
            try:
                assert head.once() == 0
            except OSError:
                assert self.port.struck
            finally:
                head.waker.close()
            led.node.step()
        self.port.lift()
        led.is_sound()

    def node(self, kept: Kept) -> None:
        """A runner runs two jobs, with an error somewhere."""
        self.caplog.clear()
        kept.run()
        self.port.lift()
        kept.is_sound()
        self.failures_are_told(kept.sleeps)

    def failures_are_told(self, sleeps: Sleeps) -> None:
        """What stopped a loop was logged, waited for, and not a fault of the program's."""
        said = [record.getMessage() for record in self.caplog.records]
        assert not any("a fault in this program" in text for text in said), said
        failures = [text for text in said if LOOP_FAILED.search(text) and not OF_ONE_JOB.match(text)]
        pauses = [pause for pause in sleeps.pauses if pause >= 1.0]
        assert len(failures) <= len(pauses) <= PATIENCE and bool(pauses) <= bool(failures), (failures, sleeps.pauses)


@pytest.fixture
def story(folder: Path, port: Port, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setattr(loop, "IDLE_BEFORE_LEDGER", 0.0)
    monkeypatch.setattr(loop, "FILES_EVERY", 0.0)  # hardly any time passes here from tick to tick
    return Story(folder, port, caplog)


lasting = pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
faults = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)


@pytest.mark.faults
@lasting
@faults
def test_a_head_waits_out_what_goes_wrong_at_any_call_of_its_loop(
    story: Story, port: Port, fault: Fault, lasting: bool
) -> None:
    assert trouble(port, fault, lasting, story.head) > 0


@lasting
def test_a_head_waits_out_what_goes_wrong_at_some_calls_of_its_loop(story: Story, port: Port, lasting: bool) -> None:
    assert trouble(port, FAULTS[0], lasting, story.head, every=FEW) > 3


@pytest.mark.faults
@pytest.mark.parametrize("fault", [FAULTS[0], *(f for f in FAULTS if f.done)], ids=lambda fault: fault.name)
def test_a_head_of_cron_goes_on_after_what_goes_wrong_at_any_call(story: Story, port: Port, fault: Fault) -> None:
    assert trouble(port, fault, False, story.cron) > 0


@lasting
def test_a_head_of_cron_goes_on_after_what_goes_wrong_at_some_calls(story: Story, port: Port, lasting: bool) -> None:
    assert trouble(port, FAULTS[0], lasting, story.cron, every=FEW) > 1


@pytest.fixture
def kept(folder: Path, port: Port) -> Iterator[Kept]:
    with running(folder) as site:
        yield Kept(site, port)


@pytest.mark.faults
@lasting
@faults
def test_a_runner_waits_out_what_goes_wrong_at_any_call(
    story: Story, kept: Kept, port: Port, fault: Fault, lasting: bool
) -> None:
    assert trouble(port, fault, lasting, lambda: story.node(kept)) > 0


@lasting
def test_a_runner_waits_out_what_goes_wrong_at_some_calls(story: Story, kept: Kept, port: Port, lasting: bool) -> None:
    assert trouble(port, FAULTS[0], lasting, lambda: story.node(kept), every=FEW) > 1


@faults
def test_a_runner_that_is_told_to_end_does_so_whatever_goes_wrong(folder: Path, port: Port, fault: Fault) -> None:
    with running(folder) as site:

        def leave() -> None:
            runner = site.start()
            site.step()
            runner.stop()
            with port:
                assert runner.run() == 0
            site.kill()

        trouble(port, fault, True, leave)
