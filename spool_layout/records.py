"""What the system writes for itself to read: frozen shapes and their codec. The events are in events.py.

Machine records are JSON, checked against these types when they are read (msgspec), so that a damaged or
newer record is told apart from a missing one (promise P10). Times are seconds since 1970, UTC, as floats;
durations are seconds; memory is MiB; CPUs and shares of a GPU are thousandths.

New fields get a default and old ones keep their meaning; a reader ignores fields that it does not know. A
change that old programs would misread raises FORMAT in paths.py instead.
"""

# No `annotations` from __future__: msgspec would have to compile each of them, at every start of a client.

from typing import TypeVar

import msgspec

from spool_layout.errors import Damaged
from spool_layout.states import LIVE, Status

WHOLE = 1000  # thousandths of a GPU, or of a CPU


class Demand(msgspec.Struct, frozen=True, omit_defaults=True):
    """One way to serve a job, for each of its nodes: `milli` thousandths of `accelerator`, CPUs, MiB."""

    accelerator: str = ""
    milli: int = 0
    cpus_milli: int = 500  # SkyPilot: a job that names no cpus takes half of one
    memory_mb: int = 0


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the scheduler and the listings need of a task file; no scripts, no envs, no secrets."""

    num_nodes: int = 1
    demands: tuple[Demand, ...] = (Demand(),)  # alternatives, best first
    setup: bool = False  # has setup commands
    run: bool = True  # has run commands
    restartable: bool = False  # may run again elsewhere when its node is lost


class Allocation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one rank of an attempt holds on its node. gpus: UUID -> thousandths."""

    node: str
    gpus: dict[str, int] = {}
    cpus_milli: int = 0
    memory_mb: int = 0


class Job(msgspec.Struct, omit_defaults=True):
    """A job, as the events made it. Ranks are positions in `allocations`, `exit_codes` and `pids`."""

    id: int
    name: str  # what `queue` shows
    file: str  # ID.NAME.yaml, its name in pending/ and running/
    drop: str  # the name under which it was dropped: the handle of a submission
    uid: int
    user: str
    inode: int
    digest: str  # SHA-256 of the accepted text, hex
    task: Task
    submitted: float  # change time of the dropped file, by the server's clock
    accepted: float
    status: Status = Status.PENDING
    attempt: int = 0  # 1 for the first start
    allocations: list[Allocation] = []
    granted: float | None = None  # when the present attempt got its slots
    start_at: float | None = None  # when run began, on the node of rank 0
    end_at: float | None = None
    go: bool = False  # setup is over on every node: run may begin
    stop: Status | None = None  # what the attempt ends as when its processes are gone; None: go on
    in_running: bool = False  # its file stands in running/, or is on its way there
    reason: str = ""  # why it ended so, waits or is being stopped
    exit_codes: list[int] = []  # one a rank
    pids: list[int] = []  # one a rank
    day: str = ""  # YYYY-MM-DD of its end, UTC
    problem: str = ""  # its file was edited into something that is no task
    unsatisfiable_since: float | None = None
    restarts: int = 0  # times it was run again

    @property
    def live(self) -> bool:
        """Whether it waits or runs."""
        return self.status in LIVE

    @property
    def key(self) -> str:
        """ID.ATTEMPT of the present attempt."""
        return f"{self.id}.{self.attempt}"


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU as its node found or declared it. index: position in PCI order; name: canonical accelerator."""

    uuid: str
    index: int
    name: str
    memory_mb: int = 0
    pci: str = ""
    product: str = ""  # what NVML calls it


class GpuSlot(msgspec.Struct, omit_defaults=True):
    """A GPU in the ledger and who holds it. holders: attempt key -> thousandths, never above 1000 in sum."""

    gpu: Gpu
    holders: dict[str, int] = {}
    present: bool = True  # False: held, but its node no longer reports it

    @property
    def free(self) -> int:
        """Thousandths that nobody holds; 0 where the GPU is not there."""
        return WHOLE - sum(self.holders.values()) if self.present else 0


class Share(msgspec.Struct, frozen=True, omit_defaults=True):
    """CPUs and memory of a node that one attempt holds."""

    cpus_milli: int = 0
    memory_mb: int = 0


class Node(msgspec.Struct, omit_defaults=True):
    """A node in the ledger."""

    name: str
    host: str = ""
    address: str = ""
    gpus: list[GpuSlot] = []
    cpus_milli: int = 0
    memory_mb: int = 0
    shares: dict[str, Share] = {}  # attempt key -> what it holds here beside GPUs
    incarnation: int = 0
    state: str = "up"  # "up", "lost contact" or "down"
    since: float = 0.0  # of that state
    left: bool = False  # stopped on purpose (spoold node ended by a signal)
    awaited: int = (
        0  # left out when the spool was recovered: gets no work until it has read an assignment of this epoch
    )

    @property
    def open(self) -> bool:
        """Whether it may get work."""
        return self.state == "up" and not self.left and not self.awaited


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """Slots of an attempt that was given up, on nodes that have not yet reported it gone."""

    id: int
    attempt: int
    nodes: tuple[str, ...]


class Rejection(msgspec.Struct, frozen=True, omit_defaults=True):
    """A dropped file that is no task, moved to rejected/FILE."""

    drop: str
    file: str
    user: str
    reason: str
    at: float


class Leader(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who leads, or led, in an epoch."""

    host: str = ""
    pid: int = 0
    since: float = 0.0
    version: str = ""


# ---- the ledger ---------------------------------------------------------------------------------------------


class Ledger(msgspec.Struct, omit_defaults=True):
    """Everything that lives, up to byte `offset` of events/`epoch`.jsonl."""

    format: int
    cluster: str
    spool: str  # the spool's id
    epoch: int = 0
    seq: int = 0
    offset: int = 0
    written: float = 0.0
    leader: Leader = Leader()
    next_id: int = 1
    nodes: dict[str, Node] = {}
    jobs: list[Job] = []  # live, by ID
    ended: list[Job] = []  # the last ones, by end
    held: list[Held] = []
    rejected: list[Rejection] = []  # of the last day
    finished: int = 0  # jobs ended in all
    skipped: list[tuple[int, int]] = []  # IDs [from, to) that a restore skipped: jobs of these only nodes may know


# ---- what head and node say to each other -------------------------------------------------------------------


class Assignment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node shall do about one attempt. want: "run" or "stop"."""

    id: int
    attempt: int
    want: str
    file: str  # name in running/
    digest: str
    name: str
    user: str
    uid: int
    rank: int
    nodes: list[str]  # of all ranks, in rank order
    addresses: list[str]
    gpus: list[str]  # UUIDs of this rank
    milli: int  # of GPUs for each node, as asked: 500 is half a GPU
    cpus_milli: int
    memory_mb: int
    granted: float = 0.0  # when the attempt got its slots, by the file server's clock
    go: bool = False  # run may begin when setup is over here
    restartable: bool = False
    task_id: str = ""  # SKYPILOT_TASK_ID


class Assigned(msgspec.Struct, frozen=True, omit_defaults=True):
    """nodes/NODE/assigned.json. version: (epoch, seq), growing; addressed to one incarnation of the runner."""

    format: int
    cluster: str
    version: tuple[int, int]
    incarnation: int
    attempts: dict[str, Assignment] = {}


class Phase(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an attempt stands on this node.

    phase, and what is known with it:
        starting   handed over to be started, or its setup is to begin
        setup      setup commands run (pid)
        ready      setup ended with 0; waits for `go`
        running    run commands run (pid, started_at)
        exited     run or setup ended with `code`; processes it left may still live
        ended      as exited, and every process is gone
        lost       every process is gone; the outcome is unknown
        never      nothing was started, and nothing will be
    """

    phase: str
    stage: str = "run"  # "setup" where `code` is of setup
    code: int | None = None
    pid: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    fenced: bool = False  # ended by its own node, which had lost contact, so that it may run again elsewhere


GONE = frozenset({"ended", "lost", "never"})


class Enforced(msgspec.Struct, frozen=True, omit_defaults=True):
    """By what a node holds jobs to what they are. processes: by what it finds and ends all that they started; memory:
    by what none gets more than it asked for, "" if by nothing, and why."""

    processes: str = ""  # "cgroup v2" or "/proc"
    memory: str = ""  # "cgroup v2" or "cgroup v1"
    why: str = ""


class Remnant(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt that a restored spool cannot tell the outcome of. nodes: where something of it may run still."""

    id: int
    attempt: int
    nodes: tuple[str, ...] = ()
    name: str = ""
    user: str = ""
    uid: int = 0


class NodeStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """nodes/NODE/status.json."""

    format: int
    node: str
    host: str
    incarnation: int
    beat: int  # grows with each write
    interval: float  # the longest time between two writes, in seconds
    timeout: float = 0.0  # T by which this runner goes: nobody gives it up sooner
    driven: str = "daemon"  # "daemon" or "once" (cron)
    machine: str = ""
    boot: str = ""
    pid: int = 0
    version: str = ""
    memory: str = ""  # id of the runner's local state: another one means that it forgot everything
    since: float = 0.0  # start of this runner
    address: str = ""
    gpus: list[Gpu] = []
    cpus_milli: int = 0
    memory_mb: int = 0
    seen: tuple[int, int] = (0, 0)  # highest version of assigned.json acted on
    read: tuple[int, int] = (0, 0)  # version read last, refused or not
    read_incarnation: int = 0
    attempts: dict[str, Phase] = {}
    left: bool = False  # ended on purpose
    notes: list[str] = []  # warnings for `status`
    went_back: bool = False  # the runner remembers a later spool than this one, and has stopped
    # Then: every attempt that it began later than what stands here. Else: what it runs and assigned.json does not name.
    meanwhile: list[Remnant] = []
    enforced: Enforced = Enforced()


class HeadStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """heads/NAME.json. Its change time is renewed at least each `interval` seconds while the head lives.

    A head that cron drives has one file a host, and leaves it: it "lives" from one run to the next.
    """

    format: int
    host: str
    pid: int
    role: str  # "leading", "standby" or "once"
    epoch: int
    since: float
    interval: float
    version: str = ""


class HolderNote(msgspec.Struct, frozen=True):
    """locks/holder.json: what the kernel of the holder's host knows it by (holder.py)."""

    format: int
    record: str  # its name in locks/head.rw/holders/
    boot: str
    machine: str
    device: int  # of locks/, as the holder sees it


class NodeOwner(msgspec.Struct, frozen=True, omit_defaults=True):
    """nodes/NODE/owner.json: put there once."""

    machine: str
    host: str


# ---- codec --------------------------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()
T = TypeVar("T")


def encode(record: msgspec.Struct) -> bytes:
    """A record as one line of JSON, with a newline."""
    return _encoder.encode(record) + b"\n"


def decode(data: bytes, kind: type[T], where: str) -> T:
    """A record read from `where`. Damaged: not JSON, not of this shape."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"{where}: {error}") from error
    except RecursionError as error:  # [[[[… in a field that no version knows
        raise Damaged(f"{where}: is nested too deep") from error
