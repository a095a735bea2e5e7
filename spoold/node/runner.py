"""`spoold node`: make what runs here what assigned.json says, and report it in status.json.

A pass: read assigned.json; prepare and order what shall run; end what is listed with `stop` (nothing else is ever
ended); see where each attempt stands; forget what is over and no longer mentioned; report if anything changed or the
heartbeat is due. Everything is level-triggered: a pass may be cut anywhere and done again, by this runner or the next.

What may be acted on (design, section 4; each rule is needed, see tests/model):

- A version lower than the highest seen is refused. The highest seen is taken from the own status.json after a restart;
  if that cannot be read, nothing is started.
- A runner that did not renew status.json within its limit takes the next incarnation, and starts only what is addressed
  to that one. Stops are heeded whatever they are addressed to.
- If the local directory was lost (its id is not the one in status.json), whatever is assigned counts as lost before the
  new incarnation is announced.
- An attempt is forgotten when a version higher than the one that named it omits it, and a status.json that says so has
  been written.

The spool being away (EIO, ESTALE, a full disk, an unmounted share) is told once and waited out; jobs go on meanwhile.
"""

from __future__ import annotations

import logging
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import msgspec

from spool_layout import history
from spool_layout.errors import Damaged, NewerFormat, NotASpool
from spool_layout.paths import FORMAT, Spool, run_log, setup_log
from spool_layout.records import GONE, Assigned, Assignment, NodeStatus, Phase, decode, encode
from spool_layout.settings import DeclaredNode, is_network, load
from spool_layout.storage import Disk, NotRegular
from spool_layout.taskfile import InvalidTask, TaskSpec, parse_task
from spoold.local import boot_id, state_dir
from spoold.node import containment, inventory, progress
from spoold.node.environment import Host, Owner, run_environment, setup_environment
from spoold.node.identity import bind, machine_id, node_name, refuse_second
from spoold.node.job import RCFILE
from spoold.node.workplace import Attempt, Workplace, boot_time
from spoold.wake import Waker

log = logging.getLogger("spoold.node")

ONCE_FOR = 2.0  # seconds that --once waits for what it started: short jobs end within one run of cron
ONCE_INTERVAL = 60.0  # cron's
UNCONFIRMED = frozenset({"starting", "setup", "ready", "running", "exited"})


class Runner:
    """A node's runner."""

    def __init__(
        self, root: str, flags: DeclaredNode, *, once: bool = False, name: str | None = None, state: str | None = None
    ) -> None:
        self.spool, self.disk, self.once = Spool(root), Disk(), once
        self.settings = load(self.spool, self.disk)
        self.node = node_name(name)
        self.place = Workplace(os.path.join(state_dir(self.settings.id, state), f"node-{self.node}"))
        self.place.make()
        self.lock = self.place.lock_runner()
        self.kept = self.place.keep_from_cleaners()
        bind(self.spool, self.disk, self.node)
        self.inventory = inventory.take(self.node, flags, self.settings.nodes.get(self.node, DeclaredNode()))
        self.interval = ONCE_INTERVAL if once else self.settings.heartbeat
        self.limit = max(self.settings.node_timeout, 3 * self.interval) - self.settings.fence_margin
        self.ending = progress.Ending(self.settings.grace)
        self.waker = Waker(not is_network(self.spool.root))
        self.bell = os.open(self.place.bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.orders = os.open(self.place.orders, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.waker.listen(self.bell)
        self.rcfile = self._write_rcfile()
        self.stopping = False
        self.since = time.time()
        self.written: NodeStatus | None = None
        self.written_at = 0.0
        self.assigned = Assigned(FORMAT, self.settings.name, (0, 0), 0)
        self.final: dict[str, Phase] = {}
        self.sweeps: dict[str, threading.Thread] = {}
        self._remember()

    # ---- what it remembers

    def _remember(self) -> None:
        """Take up what the own status.json says. Damaged: nothing is started until somebody looked at it."""
        path = self.spool.status(self.node)
        data = self.disk.read(path)
        old = decode(data, NodeStatus, path) if data is not None else None
        self.seen: tuple[int, int] = old.seen if old else (0, 0)
        self.read_version: tuple[int, int] = (0, 0)
        self.read_incarnation = 0
        self.beat = old.beat if old else 0
        self.incarnation = old.incarnation if old else 0
        age = self.place.age()
        lost_memory = old is not None and old.memory != self.place.memory
        if old is not None and lost_memory:
            refuse_second(old)
            self._count_as_lost(old)
        lapsed = age is None or age > self.limit
        if old is None or lost_memory or lapsed:
            self.incarnation += 1
        self.lapses = self.place.lapses() + (lapsed and not self.place.was_left())

    def _count_as_lost(self, old: NodeStatus) -> None:
        log.warning("the local state was lost: attempts that were assigned before count as lost")
        listed = self._read_assigned()
        keys = {key for key, phase in old.attempts.items() if phase.phase not in GONE}
        for key in keys | set(listed.attempts if listed else ()):
            progress.settle(self.place, key, Phase("lost", reason="the node's local state was lost"), self.seen)

    def _write_rcfile(self) -> str:
        path = os.path.join(self.place.path, "bashrc")
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(RCFILE)
        os.replace(f"{path}.new", path)
        return path

    # ---- the loop

    def run(self) -> int:
        """Until SIGTERM or SIGINT; jobs and starter go on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        log.info(
            "node %s of %s: %d GPUs, %g CPUs",
            self.node,
            self.spool.root,
            len(self.inventory.gpus),
            self.inventory.cpus_milli / 1000,
        )
        trouble, pause = "", 0.0
        while not self.stopping:
            try:
                self.step()
                if trouble:
                    log.info("the spool is back")
                trouble, pause = "", self.pause()
            except OSError as error:
                self.check_mounted()
                if str(error) != trouble:
                    log.error("%s; tries again", error)
                trouble, pause = str(error), min(max(1.0, 2 * pause), 15.0)
            if not self.stopping:
                self.waker.wait(pause)
        self.leave()
        return 0

    def check_mounted(self) -> None:
        """NotASpool where the share is gone and something else stands in its place (P11)."""
        try:
            settings = load(self.spool, self.disk)
        except OSError:
            return  # the server is away: that is waited out
        if settings.id != self.settings.id:
            raise NotASpool(f"{self.spool.root} is another spool now", "start this node anew")

    def run_once(self) -> int:
        """One round for cron: until nothing moves any more, two seconds at most."""
        self.report(force=True)
        end = time.monotonic() + ONCE_FOR
        self.step()
        while time.monotonic() < end and any(p.phase in UNCONFIRMED for p in self.phases().values()):
            self.waker.wait(0.1)
            self.step()
        self.report(force=True)
        return 0

    def stop(self) -> None:
        """End after the present pass."""
        self.stopping = True
        self.waker.ring()

    def leave(self) -> None:
        """Say that it ends on purpose: its jobs go on, and are waited for."""
        try:
            self.report(force=True, left=True)
        except OSError as error:
            log.warning("could not say that the node leaves: %s", error)

    def pause(self) -> float:
        """Seconds to sleep at most."""
        due = self.written_at + self.interval - time.monotonic()
        times = [max(0.0, due)]
        phases = self.phases().values()
        if any(phase.phase == "exited" for phase in phases) or self._stopping():
            times.append(0.1)
        if any(phase.phase == "starting" for phase in phases):
            times.append(0.5)
        if not self.waker.native:
            times.append(self.settings.poll if phases else self.settings.idle_poll)
        return min(times)

    def _stopping(self) -> bool:
        return any(a.want == "stop" and self.final.get(key) is None for key, a in self.assigned.attempts.items())

    # ---- one pass

    def step(self) -> None:
        """One pass."""
        self.waker.watch(self.spool.node(self.node))
        if (age := self.place.age()) is not None and age > self.limit and self.written is not None:
            log.warning("had lost contact for %.0f s: goes on as a new incarnation", age)
            self.incarnation += 1
            self.lapses += 1
            self.written = None
        if self.written is None:
            self.report(force=True)
        self.look()
        for key, assignment in self.assigned.attempts.items():
            self.heed(key, assignment)
        self.report()
        if self.forget():
            self.report()

    def look(self) -> None:
        """Read assigned.json; refuse what is older than what was seen."""
        found = self._read_assigned()
        if found is None:
            return
        version = found.version
        if version >= self.seen:
            self.seen = version
            self.assigned = found
        else:
            log.warning("refuses assigned.json %s: has seen %s", version, self.seen)
        self.read_version, self.read_incarnation = found.version, found.incarnation

    def _read_assigned(self) -> Assigned | None:
        path = self.spool.assigned(self.node)
        data = self.disk.read(path)
        if data is None:
            return None
        found = decode(data, Assigned, path)
        if found.format > FORMAT:
            raise NewerFormat(f"{path} has format {found.format}, this program knows {FORMAT}", "upgrade skyspool here")
        return found

    def heed(self, key: str, assignment: Assignment) -> None:
        """Do what is due for one attempt that is assigned."""
        if key in self.final:
            return
        attempt = self.place.attempt(key)
        if assignment.want == "stop":
            self.end(attempt)
        elif self.assigned.incarnation != self.incarnation:
            return  # it may be older than what the head gave up meanwhile
        elif attempt.has("order.json"):
            self.urge(attempt, assignment)
        else:
            self.begin(key, assignment)

    def urge(self, attempt: Attempt, assignment: Assignment) -> None:
        """Repeat an order that was not carried out yet; say `go`."""
        if assignment.go and not attempt.has("go"):
            attempt.write("go", {})
            if (watcher := progress.supervisor(attempt)) is not None:
                containment.signal_process(watcher, signal.SIGUSR1)
        if not attempt.has("marker"):
            self.order(attempt.key)

    def order(self, key: str) -> None:
        """Tell the starter to look at an attempt; start one if none lives."""
        if not self.place.has_starter():
            spawn_starter(self.place)
        try:
            os.write(self.orders, f"{key}\n".encode())
        except BlockingIOError:
            pass  # the FIFO is full of orders: this one is repeated

    # ---- starting

    def begin(self, key: str, assignment: Assignment) -> None:
        """Read the accepted text, make the attempt's directory, order it."""
        task = self.text_of(assignment)
        if isinstance(task, str):
            progress.settle(self.place, key, Phase("never", stage="file", reason=task), self.seen)
            return
        scripts = {f"{stage}.sh": text for stage, text in (("setup", task.setup), ("run", task.run)) if text}
        progress.prepare(self.place, key, self.make_order(key, assignment, task), scripts)
        if assignment.go or len(assignment.nodes) == 1:
            self.place.attempt(key).write("go", {})
        self.order(key)

    def text_of(self, assignment: Assignment) -> TaskSpec | str:
        """The task whose digest was accepted, or why it is not there."""
        path = self.spool.started(assignment.file)
        try:
            seen = self.disk.inspect(path, self.settings.max_file)
        except FileNotFoundError:
            if assignment.file in {entry.name for entry in self.disk.list(self.spool.running)}:
                raise  # NFS tells of a missing name for a while after it is there: the next pass tries again
            return "its file in running/ was deleted before it started"
        except (NotRegular, PermissionError) as error:
            return f"its file in running/ cannot be read: {error.strerror}"
        if history.digest(seen.data) != assignment.digest:
            return "its file in running/ was changed after it was accepted"
        try:
            return parse_task(seen.data)
        except InvalidTask as error:
            return error.message

    def make_order(self, key: str, a: Assignment, task: TaskSpec) -> dict[str, Any]:
        """What the starter needs to spawn an attempt."""
        owner = owner_of(os.getuid())
        logs = self.spool.log_dir(a.id, a.attempt)
        host = Host(
            self.node,
            self.settings.name,
            self.spool.root,
            self.settings.id,
            {gpu.uuid: gpu.index for gpu in self.inventory.gpus},
            self.settings.gpu_ids == "uuid" or not self.inventory.indexed,
            os.path.join(os.path.dirname(__file__), "wrappers"),
            self.place.attempt(key).path,
        )
        rank = (a.rank, len(a.nodes), self.node)
        order: dict[str, Any] = {
            "version": self.seen,
            "lapses": self.lapses,
            "spool_id": self.settings.id,
            "node": self.node,
            "shell": self.settings.shell,
            "rcfile": self.rcfile,
            "restartable": a.restartable,
            "workdir": os.path.join(logs, f"workdir-{a.rank}") if task.git else expand(task.workdir or "~", owner.home),
            "run_log": os.path.join(logs, run_log(*rank)),
            "run_env": run_environment(a, task, owner, host),
            "file_mounts": {expand(t, owner.home): expand(s, owner.home) for t, s in task.file_mounts.items()},
        }
        if task.setup:
            order |= {
                "setup_log": os.path.join(logs, setup_log(*rank)),
                "setup_env": setup_environment(a, task, owner, host),
            }
        if task.git:
            order["git"] = {"url": task.git.url, "ref": task.git.ref}
        return order

    # ---- ending

    def end(self, attempt: Attempt) -> None:
        """Heed a `stop`: never started, it never will be; started, everything of it is ended."""
        if not attempt.has("marker"):
            if not attempt.names():
                progress.prepare(self.place, attempt.key, {"version": self.seen}, {})
            if attempt.mark("runner"):
                progress.settle(self.place, attempt.key, Phase("never", reason="stopped before it began"), self.seen)
                return
        if (attempt.read("marker") or {}).get("by") == "runner":
            progress.settle(self.place, attempt.key, Phase("never", reason="stopped before it began"), self.seen)
            return
        self.clean(attempt, progress.stand(attempt))

    def clean(self, attempt: Attempt, phase: Phase) -> None:
        """End what is left of an attempt; when nothing is, write its outcome."""
        if phase.phase in GONE:
            return
        alone = self.ending.step(attempt)
        if self.sweep_containers(attempt, alone) and alone:
            phase = progress.stand(attempt)
            if swept := (attempt.read("swept") or {}).get("reason"):
                phase = msgspec.structs.replace(phase, reason="; ".join(filter(None, (phase.reason, swept))))
            progress.close(attempt, phase)

    def sweep_containers(self, attempt: Attempt, last: bool) -> bool:
        """Stop containers that the job's wrappers started, in a thread: engines may be slow, the heartbeat may not.

        last: no process of the job is left, so no container will be started any more. True: there is nothing to stop.
        """
        if not attempt.has("containers") or attempt.has("swept"):
            return True
        thread = self.sweeps.get(attempt.key)
        if thread is not None and thread.is_alive():
            return False
        if last or thread is None:
            thread = threading.Thread(target=self._sweep, args=(attempt, last), daemon=True)
            self.sweeps[attempt.key] = thread
            thread.start()
        return False

    def _sweep(self, attempt: Attempt, last: bool) -> None:
        from spoold.node import containers

        reason = ""
        try:
            if not containers.stop_all(attempt.key, self.settings.id, self.settings.grace, attempt.path):
                reason = "containers of it may still run: their engine did not answer"
        except Exception:  # a fault of ours must not hold the slot for ever
            log.exception("containers of %s may still run", attempt.key)
            reason = "containers of it may still run"
        if last:
            attempt.write("swept", {"reason": reason})
        self.waker.ring()

    # ---- where attempts stand

    def phases(self) -> dict[str, Phase]:
        """Phase of every attempt that is remembered."""
        found = {}
        for key in self.place.remembered():
            found[key] = self.final.get(key) or self.stand(key)
        return found

    def stand(self, key: str) -> Phase:
        """Where one attempt stands now, after cleaning up where that is due."""
        attempt = self.place.attempt(key)
        phase = progress.stand(attempt)
        dead = (
            phase.phase in ("starting", "setup", "ready", "running")
            and attempt.has("marker")
            and progress.supervisor(attempt) is None
        )
        if dead:
            phase = progress.stand(attempt)  # it may have written the end just before
            dead = phase.phase in ("starting", "setup", "ready", "running")
        if dead or (phase.phase == "exited" and self._ends_alone(key)):
            self.clean(attempt, phase)
            phase = progress.stand(attempt)
        if phase.phase in GONE:
            self.final[key] = phase
        return phase

    def _ends_alone(self, key: str) -> bool:
        """Whether leftovers are ended as soon as the job's own process has: a gang's live until the head says stop."""
        assignment = self.assigned.attempts.get(key)
        attempt = self.place.attempt(key)
        quiet = progress.is_gone(attempt) and not attempt.has("containers")  # these may serve the other ranks
        return assignment is None or len(assignment.nodes) == 1 or quiet

    def forget(self) -> bool:
        """Forget what is over, no longer mentioned by a higher version, and reported so. Whether anything was."""
        if self.written is None or self.written.seen < self.seen or self.read_version != self.seen:
            return False
        gone = [
            key
            for key in list(self.final)
            if key not in self.assigned.attempts
            and tuple((self.place.attempt(key).read("order.json") or {}).get("version", (0, 0))) < self.seen
        ]
        for key in gone:
            progress.forget(self.place.attempt(key))
            self.sweeps.pop(key, None)
            del self.final[key]
        return bool(gone)

    # ---- reporting

    def report(self, force: bool = False, left: bool = False) -> None:
        """Write status.json if it says something new, or the heartbeat is due."""
        status = self.status(left)
        due = force or time.monotonic() - self.written_at >= self.interval
        if (
            not due
            and self.written is not None
            and msgspec.structs.replace(status, beat=self.written.beat) == self.written
        ):
            return
        self.beat += 1
        status = msgspec.structs.replace(status, beat=self.beat)
        began = boot_time()
        self.disk.publish(self.spool.status(self.node), encode(status))
        self.place.renew(None if left else self.limit, began, self.lapses)
        self.written, self.written_at = status, time.monotonic()

    def status(self, left: bool) -> NodeStatus:
        """What status.json says."""
        return NodeStatus(
            format=FORMAT,
            node=self.node,
            host=socket.gethostname(),
            incarnation=self.incarnation,
            beat=self.beat,
            interval=self.interval,
            driven="once" if self.once else "daemon",
            machine=machine_id(),
            boot=boot_id(),
            pid=os.getpid(),
            version=program_version(),
            memory=self.place.memory,
            since=self.since,
            address=self.inventory.address,
            gpus=self.inventory.gpus,
            cpus_milli=self.inventory.cpus_milli,
            memory_mb=self.inventory.memory_mb,
            notes=self.inventory.notes,
            seen=self.seen,
            read=self.read_version,
            read_incarnation=self.read_incarnation,
            attempts=self.phases(),
            left=left,
        )


def owner_of(uid: int) -> Owner:
    """A user as the password database knows them."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Owner(uid, str(uid), "/", "/bin/bash")
    return Owner(uid, entry.pw_name, entry.pw_dir, entry.pw_shell)


def expand(path: str, home: str) -> str:
    """`~` and `~/…` are the owner's home."""
    return home + path[1:] if path == "~" or path.startswith("~/") else path


def spawn_starter(place: Workplace) -> None:
    """Start the node's starter, no child of ours: it outlives this process."""
    code = (
        f"import os,sys\nif os.fork(): os._exit(0)\nos.setsid()\n"
        f"os.execv(sys.executable,[sys.executable,'-m','spoold.node.starter',{place.path!r}])"
    )
    with open(os.path.join(place.path, "starter.log"), "ab") as errors:
        subprocess.run(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, cwd="/", check=True
        )
    for _ in range(100):
        if place.has_starter():
            return
        time.sleep(0.01)


def program_version() -> str:
    """The installed version of this program."""
    from spoold.head.loop import version

    return version()


def run_node(
    root: str,
    *,
    once: bool = False,
    name: str | None = None,
    gpus: str | None = None,
    cpus: float | None = None,
    memory_gb: float | None = None,
    address: str | None = None,
    state: str | None = None,
) -> int:
    """`spoold node ROOT`. The exit code."""
    runner = Runner(root, DeclaredNode(gpus, cpus, memory_gb, address), once=once, name=name, state=state)
    try:
        return runner.run_once() if once else runner.run()
    except Damaged as error:
        raise Damaged(f"starts nothing: {error.message}", error.hint) from error
    finally:
        runner.waker.close()
