"""From facts to findings. Pure: what is told of a look follows from that look alone.

A finding says where, what, and what helps. `mend` is what --repair does about it, one of the words of mending.py; ""
where nobody but a person can tell what is right: what a damaged record said is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from spool_layout.modes import mode_of, trouble
from spool_layout.paths import FORMAT, claim_epoch_of, ended_file, id_of, is_task_file, without_ending
from spool_layout.records import GONE, Assigned, Job, Ledger, NodeOwner, NodeStatus
from spool_layout.replay import State
from spoold.core.invariants import broken
from spoold.fsck.facts import Day, Facts, Label, Records
from spoold.restored import node_knows_more

MAKE, CLOSE, LEDGER, ASIDE, DONE, TELL, WHY = "make", "close", "ledger", "set aside", "to done", "tell", "why"
NEXT_HEAD = "the next head does that by itself"
RECOVER = "spoold recover DIR goes past it"
REFUSED = (
    "a job that has begun goes on; a node that is yet to read it refuses it, and the job fails: put back what was "
    "accepted, or cancel the job"
)


class Finding(NamedTuple):
    """place: relative to the spool. fault: False where a cut head left something for the next one. mend: see above."""

    place: str
    text: str
    remedy: str
    fault: bool = True
    mend: str = ""


def judge(facts: Facts) -> list[Finding]:
    """Everything that is not as it must be; [] for a sound spool."""
    return [*_directories(facts), *_history(facts), *_with_state(facts), *_nodes(facts)]


def _unfinished(place: str, text: str) -> Finding:
    return Finding(place, text, NEXT_HEAD, fault=False)


# ---- directories


def _directories(facts: Facts) -> Iterator[Finding]:
    for name, mode in facts.modes.items():
        wanted = mode_of(name, facts.users)
        if mode is None:
            yield Finding(name, "the directory is missing", f"make it, with mode {wanted:04o}", mend=MAKE)
        elif mode == -1:
            yield Finding(name, "is no directory", "look at what stands there, and move it away")
        elif who := trouble(name, mode, facts.users):
            yield Finding(name, f"has mode {mode:04o}: {who}", f"give it mode {wanted:04o}", mend=CLOSE)
    for name, owner in facts.strangers.items():
        yield Finding(name, f"belongs to user {owner}", "as root, give it to the account that the spool belongs to")


# ---- events and ledger


def _history(facts: Facts) -> Iterator[Finding]:
    if facts.damage and not facts.tail.hole:
        remedy = "nothing mends that: keep a copy of events/ and ledger/, and take the spool back from a backup"
        yield Finding("events", facts.damage, remedy)
    yield from _tail(facts)
    if facts.stock is not None:
        for sentence in broken(facts.stock.state):
            yield Finding("events", sentence, "nothing mends that: the events say what must not be")
        yield from _ledger(facts)
        for generation in facts.generations:
            if generation != facts.vouched[0]:
                name = f"ledger/{generation[0]}.{generation[1]}.json"
                yield _unfinished(name, "is superfluous: another generation counts")


def _tail(facts: Facts) -> Iterator[Finding]:
    tail, place = facts.tail, f"events/{facts.tail.epoch}.jsonl"
    if tail.hole:
        yield Finding(
            place,
            f"is damaged at byte {tail.valid}, before records that were durable",
            "keep a copy, and take the spool back from a backup; or cut the file there, as to take the spool back to "
            f"that moment: truncate -s {tail.valid} {place}, then spoold recover DIR --force",
        )
    elif tail.bytes:
        yield _unfinished(place, f"ends in {tail.bytes} bytes of a write that was cut: they never happened")


def _ledger(facts: Facts) -> Iterator[Finding]:
    (name, digest), ledger = facts.vouched, facts.ledger
    if ledger is None:
        if name != (0, 0):
            yield _unfinished("ledger.json", f"is missing; generation {name[0]}.{name[1]} counts")
    elif not isinstance(ledger, Ledger):
        yield _unfinished("ledger.json", f"is damaged ({ledger}); generation {name[0]}.{name[1]} counts")
    elif ledger.spool != facts.spool_id:
        yield Finding("ledger.json", f"is of another spool, {ledger.spool!r}", "write it anew", mend=LEDGER)
    elif (ledger.epoch, ledger.seq) > name:
        text = f"is generation {ledger.epoch}.{ledger.seq}, for which no event vouches"
        yield Finding("ledger.json", text, "write it anew", mend=LEDGER)
    elif (ledger.epoch, ledger.seq) < name:
        yield _unfinished("ledger.json", f"is older than generation {name[0]}.{name[1]}, which counts")
    elif digest and digest != facts.ledger_digest:
        yield Finding("ledger.json", "is not what the event that vouches for it says", "write it anew", mend=LEDGER)


# ---- what follows from the state


def _with_state(facts: Facts) -> Iterator[Finding]:
    yield from _claims(facts)
    if facts.stock is not None:
        yield from _waiting(facts, facts.stock.state)
        yield from _running(facts, facts.stock.state)
        yield from _rejected(facts)
        for day, found in facts.days.items():
            yield from _day(facts, facts.stock.state, day, found)
        yield from _untold(facts, facts.stock.state)
        yield from _ids(facts, facts.stock.state)


def _claims(facts: Facts) -> Iterator[Finding]:
    for name, inside in facts.claims.items():
        if claim_epoch_of(name) is not None and inside is not None:
            if inside:
                yield _unfinished(f"claims/{name}", f"holds {len(inside)} files on their way to their places")
        elif inside is None:
            yield _stray(f"claims/{name}", "is in no head's claim directory")
        else:
            yield Finding(f"claims/{name}", "is no head's claim directory", "look at what it holds, and move it away")


def _stray(place: str, text: str) -> Finding:
    return Finding(place, text, "move it to rejected/, with the reason beside it", mend=ASIDE)


def _waiting(facts: Facts, state: State) -> Iterator[Finding]:
    """Jobs that wait, and whose file is nowhere: its owner removed it."""
    claimed = {name for inside in facts.claims.values() for name in inside or ()}
    for name in sorted(state.waiting.keys() - facts.pending - facts.running.keys() - claimed):
        if not any(claim.startswith("new-") for claim in claimed):  # just accepted, it has its old name still
            yield _unfinished(f"pending/{name}", f"is not there, and job {state.waiting[name]} waits: it is cancelled")


def _running(facts: Facts, state: State) -> Iterator[Finding]:
    for name in sorted(facts.running):
        ident = id_of(name)
        known = state.find(ident) if ident is not None else None
        job = known or _how(facts, ident)
        if name in state.waiting:
            yield _stray(f"running/{name}", f"job {ident} waits")
        elif job is None or job.file != name:
            yield _stray(f"running/{name}", "is the file of no job that was started")
        elif known is None:
            yield Finding(f"running/{name}", f"job {ident} has ended", "move it to done/", mend=DONE)
        elif not job.live:
            yield _unfinished(f"running/{name}", f"job {ident} has ended")
        elif what := _another(facts, job, facts.running[name]):
            yield Finding(f"running/{name}", what, REFUSED)


def _another(facts: Facts, job: Job, found: Label) -> str:
    """Why what stands in running/ is not the file that was accepted, as nodes ask it; "" where it is, and where that
    cannot be told. A head asks no more: there it is a label."""
    if facts.users == "multi" and job.digest and found.uid != job.uid:
        return f"belongs to user {found.uid}, and job {job.id} is user {job.uid}'s"
    if job.digest and found.digest not in (job.digest, None):
        return f"is not what was accepted as job {job.id}" if found.digest else "is no regular file"
    return ""


def _rejected(facts: Facts) -> Iterator[Finding]:
    for name in sorted(facts.rejected):
        if is_task_file(name) and f"{without_ending(name)}.error" not in facts.rejected:
            yield Finding(f"rejected/{name}", "has no reason beside it", "write it, as the events say it", False, WHY)


def _how(facts: Facts, ident: int | None) -> Job | None:
    return next((day.told[ident] for day in facts.days.values() if ident in day.told), None)


def _day(facts: Facts, state: State, day: str, found: Day) -> Iterator[Finding]:
    for name in sorted(found.files):
        ident = id_of(name)
        if ident is not None and ident < state.next_id and ident in state.jobs:
            yield Finding(f"done/{day}/{name}", f"job {ident} has not ended", "a label that is wrong: remove it")
        elif ident is not None and (job := state.ended.get(ident) or found.told.get(ident)):
            yield from _mislabelled(day, name, job)
    for name in found.torn:
        text, remedy = (
            "has a line that is no record",
            "nothing is needed: a host lost power, and its job was told again",
        )
        yield Finding(f"done/{day}/{name}", text, remedy, fault=False)


def _mislabelled(day: str, name: str, job: Job) -> Iterator[Finding]:
    proper = ended_file(job.file, job.status)
    if (day, name) != (job.day, proper):
        remedy = f"a label that is wrong: move it to done/{job.day}/{proper}"
        yield Finding(f"done/{day}/{name}", f"job {job.id} ended as {job.status} on {job.day}", remedy)


def _untold(facts: Facts, state: State) -> Iterator[Finding]:
    """Jobs that ended, and whose day does not say how. A day that is not there was removed as too old."""
    late = set(facts.stock.ended) if facts.stock else set()
    for job in state.ended.values():
        day = facts.days.get(job.day)
        if day is not None and job.id not in day.told:
            place, text = f"done/{job.day}", f"does not say how job {job.id} ended"
            yield (
                _unfinished(place, text)
                if job.id in late
                else Finding(place, text, "write it down, as the events say it", mend=TELL)
            )


def _ids(facts: Facts, state: State) -> Iterator[Finding]:
    """What tells of jobs that the events do not know: the spool is older than they are."""
    done = max((ident for day in facts.days.values() for name in day.files if (ident := id_of(name))), default=0)
    told = max((ident for day in facts.days.values() for ident in day.told), default=0)
    for place, ident in (("logs", facts.logs), ("done", max(done, told))):
        if ident >= state.next_id:
            text = f"tells of job {ident}, and by the events the next one is {state.next_id}: the spool went back"
            yield Finding(place, text, RECOVER)


# ---- nodes


def _nodes(facts: Facts) -> Iterator[Finding]:
    top = facts.top
    state = facts.stock.state if facts.stock else None
    for node, records in facts.nodes.items():
        yield from _damaged(f"nodes/{node}", records)
        yield from _named(node, records)
        if state is not None:
            yield from _agreed(state, node, records, top)
        assigned = records.assigned if isinstance(records.assigned, Assigned) else None
        if isinstance(records.status, NodeStatus) and (
            more := node_knows_more(records.status, assigned, top, state.next_id if state else None)
        ):
            yield Finding(f"nodes/{node}/status.json", more, RECOVER)


def _named(node: str, records: Records) -> Iterator[Finding]:
    """Records of another node, or of a program that is newer than this one."""
    status, remedy = records.status, "look who writes there: no head hears this node"
    if isinstance(status, NodeStatus) and status.node != node:
        yield Finding(f"nodes/{node}/status.json", f"is of node {status.node}", remedy)
    for name in ("status", "assigned"):
        record = getattr(records, name)
        if not isinstance(record, str | None) and record.format > FORMAT:
            text = f"has format {record.format}, this program knows {FORMAT}"
            yield Finding(f"nodes/{node}/{name}.json", text, "upgrade skyspool here")


def _agreed(state: State, node: str, records: Records, top: int) -> Iterator[Finding]:
    """Whether head and node say of the attempts there what the events say."""
    place, known = f"nodes/{node}", state.nodes.get(node)
    granted = set(known.shares) if known else set()
    if isinstance(records.assigned, Assigned):
        if records.assigned.version[0] > top:
            text = f"is of epoch {records.assigned.version[0]}, and the newest here is {top}"
            yield Finding(f"{place}/assigned.json", text, RECOVER)
        elif granted != (told := records.assigned.attempts.keys() - _over(records, granted)):
            yield _unfinished(f"{place}/assigned.json", _differ(told, granted))
    elif granted and records.assigned is None:
        yield _unfinished(f"{place}/assigned.json", _differ(set(), granted))
    if isinstance(records.status, NodeStatus):
        live = {key for key, phase in records.status.attempts.items() if phase.phase not in GONE}
        if live - granted:
            text = f"attempt {', '.join(sorted(live - granted))} runs there, and no event knows it"
            yield _unfinished(f"{place}/status.json", text)


def _over(records: Records, granted: Set[str]) -> set[str]:
    """Attempts of which the node says itself that they are over: they may be listed for a while."""
    phases = records.status.attempts if isinstance(records.status, NodeStatus) else {}
    return {key for key, phase in phases.items() if phase.phase in GONE and key not in granted}


def _differ(told: Set[str], granted: Set[str]) -> str:
    more = "; ".join(
        f"attempt {', '.join(sorted(keys))} {words}"
        for keys, words in ((granted - told, "is missing"), (told - granted, "is over, or never was granted"))
        if keys
    )
    return f"is not what the events say: {more}"


def _damaged(place: str, records: Records) -> Iterator[Finding]:
    if isinstance(records.assigned, str):
        yield _unfinished(f"{place}/assigned.json", f"is damaged: {records.assigned}")
    if isinstance(records.status, str):
        remedy = "stop the node, remove the file and start it again: what was assigned to it then counts as lost"
        yield Finding(f"{place}/status.json", f"is damaged: {records.status}", remedy)
    if not isinstance(records.owner, NodeOwner) and records.owner is not None:
        remedy = "remove it, if no other machine has a node of this name"
        yield Finding(f"{place}/owner.json", f"is damaged: {records.owner}", remedy)
