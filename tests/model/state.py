"""What the world of protocol.py is made of, and the replay of events."""

from collections import namedtuple
from functools import lru_cache

World = namedtuple("World", "files dirs owned events assigned status heads nodes user budget cancel bad")
Head = namedtuple("Head", "mode epoch log todo wrote extra")
Node = namedtuple("Node", "alive seen desired reads incarnation markers noted procs spawning handed cut silent")
NEVER = ((0, 0), 0)  # version and incarnation of nothing
Status = namedtuple("Status", "seen reads incarnation phases")  # phases: {(id, attempt, phase)}
Assigned = namedtuple("Assigned", "version incarnation jobs")  # jobs: {(id, attempt, "run" | "stop")}
Job = namedtuple("Job", "state name file attempt slots result again")  # PENDING RUN STOP AGAIN DONE; name: ID.NAME
UNKNOWN = Job("UNKNOWN", "", None, 0, (), None, False)
OFF = Head("off", 0, (), (), (), None)
LIVE = ("forked", "run")


def plain(name):
    """NAME of NAME, ID.NAME and NAME+EPOCH"""
    return name.split("+")[0].split(".")[-1]


@lru_cache(None)
def fold(log):
    """Replay events. -> jobs by id, holder of each slot, attempts given up but not known gone, error"""
    jobs, held, given_up, error = {}, {}, {}, ""
    for kind, ident, *rest in log:
        job = jobs.get(ident)
        if kind == "accept":
            if job:
                error = f"ID {ident} given twice"
            jobs[ident] = Job("PENDING", *rest, 0, (), None, False)
        elif kind == "edit":
            jobs[ident] = job._replace(file=rest[0])
        elif kind == "start":
            attempt, slots = rest
            for slot in slots:
                if slot in held:
                    error = f"GPU of node {slot} granted to {(ident, attempt)} while {held[slot]} holds it"
                held[slot] = (ident, attempt)
            jobs[ident] = job._replace(state="RUN", attempt=attempt, slots=slots)
        elif kind == "return":
            held = {s: h for s, h in held.items() if h[0] != ident}
            jobs[ident] = job._replace(state="PENDING", name=rest[0], slots=())
        elif kind == "cancel":
            jobs[ident] = job._replace(state="STOP")
        elif kind == "lost":  # the slots stay held until the node is heard
            attempt, then, silent = rest
            given_up[(ident, attempt)] = silent
            held = {s: h for s, h in held.items() if h != (ident, attempt) or s in silent}
            jobs[ident] = (
                job._replace(state="AGAIN", slots=(), again=True)
                if then == "AGAIN"
                else job._replace(state="DONE", slots=(), result=then)
            )
        elif kind == "gone":
            given_up.pop((ident, rest[0]), None)
            held = {s: h for s, h in held.items() if h != (ident, rest[0])}
        elif kind == "end":
            if job.state == "DONE":
                error = f"job {ident} ended twice"
            held = {s: h for s, h in held.items() if h != (ident, job.attempt)}
            jobs[ident] = job._replace(state="DONE", result=rest[0])
    return jobs, held, given_up, error
