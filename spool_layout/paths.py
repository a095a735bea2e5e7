"""Every path and file-name grammar of a spool; nobody else joins strings.

A spool is one directory. What stands where, and who writes it, is told in spool(5); here is how the
names are built and taken apart again. Names that users choose are labels: they are never trusted, never
opened by anything but the exact name that a listing gave, and are cut down to a label before an ID is
put in front of them.

File names:

    pending/NAME.yaml                      dropped, not yet accepted
    pending/NAME@TOKEN.yaml                the same, from our client: TOKEN sorts in order of submission
    pending/ID.NAME.yaml                   accepted, waits
    running/ID.NAME.yaml                   started
    done/YYYY-MM-DD/ID.NAME.STATUS.yaml    ended on that UTC day
    claims/EPOCH.TOKEN/new-N-NAME.yaml     taken to be accepted; N: never used twice in this directory
    claims/EPOCH.TOKEN/ID.NAME.yaml        taken to be started
    claims/EPOCH.TOKEN/request-N-NAME.yaml a request, taken to be carried out
    events/EPOCH.jsonl                     what the head of that epoch did
    ledger/EPOCH.SEQ.json                  an immutable generation of the ledger
    doctor/HOST.json                       what was measured of the file system on that host
    tmp/.doctor-WORD/                      where it is measured; in a directory that is no spool, in that itself

An attempt's key is ID.ATTEMPT ("17.1"); a task of an array will be ID_TASK.ATTEMPT ("17_3.1").
"""

from __future__ import annotations

import os
import re
from typing import Final

from spool_layout.patterns import Pattern

FORMAT: Final = 1  # of the spool as a whole: spool.yaml says which one it has
LABEL_BYTES: Final = 160  # a label leaves room in a 255-byte name for an ID, a status and an ending
TASK_ENDINGS: Final = (".yaml", ".yml")
STATUS_WORDS: Final = ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED")

# What editors, copiers and NFS leave beside the files that people mean: never looked at.
_PASSING = Pattern(r"^[.#]|~$|\.(tmp|temp|swp|swx|swo|part|partial|filepart|crdownload|bak|lock)$", re.IGNORECASE)
_ID_PREFIX = Pattern(r"^(\d+)\.(.*)$", re.DOTALL)
_TOKEN_SUFFIX = Pattern(r"@[0-9a-v]{14}$")
_STATUS_SUFFIX = Pattern(rf"\.(?:{'|'.join(STATUS_WORDS)})$")
_EPOCH_FILE = Pattern(r"^([1-9]\d*)\.jsonl$")
_GENERATION_FILE = Pattern(r"^([1-9]\d*)\.([1-9]\d*)\.json$")
_CLAIM_DIR = Pattern(r"^([1-9]\d*)\.([0-9a-z]+)$")
_DAY = Pattern(r"^\d{4}-\d{2}-\d{2}$")
_CLUSTER = Pattern(r"^[A-Za-z][A-Za-z0-9._-]{0,62}$")
_NODE = Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
_PROBE = Pattern(r"^\.doctor-([0-9a-v]{6})$")
_ATTEMPT = Pattern(r"^(\d+)(?:_(\d+))?\.(\d+)$")


def is_passing(name: str) -> bool:
    """Whether a name in a drop box is left alone: dot files, editors' and copiers' temporary files."""
    return bool(_PASSING.search(name))


def is_task_file(name: str) -> bool:
    """Whether a name ends as a task file must."""
    return name.endswith(TASK_ENDINGS)


def without_ending(name: str) -> str:
    """NAME of NAME.yaml or NAME.yml."""
    return name[: name.rindex(".")] if name.endswith(TASK_ENDINGS) else name


def drop_name(name: str, token: str) -> str:
    """LABEL@TOKEN.yaml: what our client calls a file that it drops. token: 14 of 0-9 and a-v, growing with time."""
    return f"{label(name)}@{token}.yaml"


def is_handle(word: str) -> bool:
    """Whether a word is what our client calls a submission before it has an ID: LABEL@TOKEN."""
    return "/" not in word and bool(_TOKEN_SUFFIX.search(word))


def is_day(name: str) -> bool:
    """Whether a name in done/ is a day, YYYY-MM-DD."""
    return bool(_DAY.match(name))


def label(name: str) -> str:
    """The bare label of a file in any directory of the spool: `4.train.FAILED.yaml` -> `train`.

    A leading `ID.`, a client's `@TOKEN` and a trailing `.STATUS` belong to the system, not to the user;
    what is left is cut to 160 bytes and made printable. Never empty.
    """
    bare = without_ending(name)
    if match := _ID_PREFIX.match(bare):
        bare = match[2]
    bare = _STATUS_SUFFIX.sub("", _TOKEN_SUFFIX.sub("", _STATUS_SUFFIX.sub("", bare)))
    bare = "".join(c if c.isprintable() and c != "/" else "_" for c in bare)
    bare = bare.encode("utf-8", "replace")[:LABEL_BYTES].decode("utf-8", "ignore")
    return bare.lstrip("#. ").rstrip(". ") or "job"


def encodable(name: str) -> str:
    """A file name as records can hold it: bytes that are no UTF-8 are written out, `\\xe9`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def job_file(ident: int, name: str) -> str:
    """ID.NAME.yaml: the name of an accepted job's file in pending/ and running/. name: any label."""
    return f"{ident}.{label(name)}.yaml"


def ended_file(file: str, status: str) -> str:
    """ID.NAME.STATUS.yaml: the name of an ended job's file in done/. file: ID.NAME.yaml."""
    return f"{without_ending(file)}.{status}.yaml"


def id_of(name: str) -> int | None:
    """The ID in front of a file name, or None."""
    match = _ID_PREFIX.match(name)
    return int(match[1]) if match and len(match[1]) < 19 else None


def is_digits(word: str) -> bool:
    """Whether a word is a job ID: ASCII digits only."""
    return word.isascii() and word.isdigit()


def is_cluster_name(word: str) -> bool:
    """A name for a spool: begins with a letter, then letters, digits, `.`, `_`, `-`; at most 63."""
    return bool(_CLUSTER.match(word))


def is_node_name(word: str) -> bool:
    """A name for a node, as host names are: letters, digits, `.`, `_`, `-`; at most 63."""
    return bool(_NODE.match(word))


def attempt_key(ident: int, attempt: int, task: int | None = None) -> str:
    """ID.ATTEMPT, or ID_TASK.ATTEMPT for a task of an array."""
    return f"{ident}.{attempt}" if task is None else f"{ident}_{task}.{attempt}"


def parse_attempt_key(key: str) -> tuple[int, int]:
    """(ID, ATTEMPT) of an attempt's key. ValueError for anything else."""
    match = _ATTEMPT.match(key)
    if not match:
        raise ValueError(f"not an attempt's key: {key!r}")
    return int(match[1]), int(match[3])


def epoch_of(name: str) -> int | None:
    """EPOCH of EPOCH.jsonl, or None for another file."""
    match = _EPOCH_FILE.match(name)
    return int(match[1]) if match else None


def generation_of(name: str) -> tuple[int, int] | None:
    """(EPOCH, SEQ) of a ledger generation's file name, or None for another file."""
    match = _GENERATION_FILE.match(name)
    return (int(match[1]), int(match[2])) if match else None


def claim_epoch_of(name: str) -> int | None:
    """EPOCH of a claim directory's name EPOCH.TOKEN, or None."""
    match = _CLAIM_DIR.match(name)
    return int(match[1]) if match else None


def probe_dir(parent: str, word: str) -> str:
    """PARENT/.doctor-WORD: where a file system is measured."""
    return os.path.join(parent, f".doctor-{word}")


def probe_of(name: str) -> str | None:
    """WORD of .doctor-WORD, or None."""
    match = _PROBE.match(name)
    return match[1] if match else None


class Spool:
    """The places of one spool. root: its directory, made absolute, links kept as they are."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        join = self._join
        self.settings = join("spool.yaml")
        self.ledger = join("ledger.json")
        self.tmp, self.pending, self.running, self.done = join("tmp"), join("pending"), join("running"), join("done")
        self.rejected, self.requests, self.logs = join("rejected"), join("requests"), join("logs")
        self.new_logs = join("logs", ".new")  # where owners make their logs, in spools of several users
        self.nodes, self.heads, self.events = join("nodes"), join("heads"), join("events")
        self.archive = join("events", "archive")
        self.generations, self.claims, self.locks = join("ledger"), join("claims"), join("locks")
        self.head_lock, self.holder = join("locks", "head"), join("locks", "holder.json")
        self.lock_records = join("locks", "head.rw", "holders")  # filelock makes it
        self.doctor = join("doctor")

    def _join(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    @property
    def directories(self) -> tuple[str, ...]:
        """Every directory that `init` makes, parents first."""
        return (
            self.root,
            self.tmp,
            self.pending,
            self.running,
            self.done,
            self.rejected,
            self.requests,
            self.logs,
            self.nodes,
            self.heads,
            self.events,
            self.archive,
            self.generations,
            self.claims,
            self.locks,
            self.doctor,
        )

    def dropped(self, name: str) -> str:
        """pending/NAME, exactly as listed."""
        return os.path.join(self.pending, name)

    def started(self, file: str) -> str:
        """running/ID.NAME.yaml."""
        return os.path.join(self.running, file)

    def day(self, day: str) -> str:
        """done/YYYY-MM-DD."""
        if not _DAY.match(day):
            raise ValueError(f"not a day: {day!r}")
        return os.path.join(self.done, day)

    def ended(self, day: str, file: str, status: str) -> str:
        """done/YYYY-MM-DD/ID.NAME.STATUS.yaml."""
        return os.path.join(self.day(day), ended_file(file, status))

    def outcomes(self, day: str, epoch: int) -> str:
        """done/YYYY-MM-DD/EPOCH.jsonl: one line a job, how it ended; written by the head of that epoch."""
        return os.path.join(self.day(day), f"{epoch}.jsonl")

    def request(self, name: str) -> str:
        """requests/NAME, exactly as listed."""
        return os.path.join(self.requests, name)

    def events_of(self, epoch: int) -> str:
        """events/EPOCH.jsonl."""
        return os.path.join(self.events, f"{epoch}.jsonl")

    def generation(self, epoch: int, seq: int) -> str:
        """ledger/EPOCH.SEQ.json."""
        return os.path.join(self.generations, f"{epoch}.{seq}.json")

    def claim_dir(self, epoch: int, token: str) -> str:
        """claims/EPOCH.TOKEN."""
        return os.path.join(self.claims, f"{epoch}.{token}")

    def claimed(self, name: str) -> str:
        """claims/EPOCH.TOKEN/new-N-NAME. name: EPOCH.TOKEN/new-N-NAME, as an event tells it."""
        return os.path.join(self.claims, name)

    def head(self, name: str) -> str:
        """heads/NAME.json: a head that leads or stands by, and that it lives."""
        return os.path.join(self.heads, f"{name}.json")

    def diagnosis(self, host: str) -> str:
        """doctor/HOST.json: what was measured on a host. host: any host's name."""
        return os.path.join(self.doctor, f"{re.sub(r'[^A-Za-z0-9._-]|^[.]', '_', host) or '_'}.json")

    def lock_record(self, name: str) -> str:
        """locks/head.rw/holders/NAME: that of a holder of the heads' lock, or of who waits for it."""
        return os.path.join(self.lock_records, name)

    def node(self, node: str) -> str:
        """nodes/NODE."""
        return os.path.join(self.nodes, node)

    def owner(self, node: str) -> str:
        """nodes/NODE/owner.json: the machine that this node name is bound to."""
        return os.path.join(self.nodes, node, "owner.json")

    def assigned(self, node: str) -> str:
        """nodes/NODE/assigned.json."""
        return os.path.join(self.nodes, node, "assigned.json")

    def status(self, node: str) -> str:
        """nodes/NODE/status.json."""
        return os.path.join(self.nodes, node, "status.json")

    def log_dir(self, ident: int, attempt: int = 1) -> str:
        """logs/ID for the first attempt, logs/ID/attempt-N for a later one."""
        first = f"{self.logs}/{ident}"  # of thousands of jobs in a listing: a seventh of what os.path.join takes
        return first if attempt <= 1 else f"{first}/attempt-{attempt}"


def run_log(rank: int, num_nodes: int, node: str) -> str:
    """File name of a rank's output in its log directory: run.log, or RANK-NODE.log where there are several."""
    return "run.log" if num_nodes == 1 else f"{rank}-{node}.log"


def setup_log(rank: int, num_nodes: int, node: str) -> str:
    """File name of a rank's setup output: setup.log, or setup-RANK-NODE.log where there are several."""
    return "setup.log" if num_nodes == 1 else f"setup-{rank}-{node}.log"
