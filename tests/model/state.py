"""What the world of protocol.py is made of, and the replay of events."""

from collections import namedtuple

World = namedtuple("World", "files dirs owned fresh events assigned status heads nodes user budget bad")
Head = namedtuple("Head", "mode epoch log todo rest wrote claimed extra")
Node = namedtuple(
    "Node",
    "alive cut silent expired hung endless tight counted noted lapses incarnation "
    "seen reads desired wrote published attempts",
)
NEVER = ((0, 0), 0)  # version and incarnation of nothing
Status = namedtuple("Status", "seen reads incarnation left phases")  # phases: {(id, attempt, phase)}
Assigned = namedtuple("Assigned", "version incarnation jobs")  # jobs: {(id, attempt, want, name, file)}
Attempt = namedtuple("Attempt", "id number phase text lapses version go")  # on a node's own disk
Job = namedtuple("Job", "state name file attempt slots result in_running problem stop go files")
State = namedtuple("State", "jobs held given_up claims requested due incarnations error")
OFF = Head("off", 0, None, (), (), (), 0, None)
UNKNOWN = Job("UNKNOWN", "", None, 0, (), None, False, 0, None, False, ())
EMPTY = State({}, {}, {}, {}, frozenset(), False, {}, "")

# Phases of an attempt: ordered, setup, ready, run; then one of GONE. "!": its supervisor was killed.
SUPERVISED = ("setup", "ready", "run")
ORPHANED = ("setup!", "ready!", "run!")
ALIVE = SUPERVISED + ORPHANED
GONE = ("exit", "fenced", "lost", "never", "nofile", "changed")


def plain(name):
    """The label of NAME, ID.NAME, NAME+N and new-N-NAME."""
    return name.split("-")[-1].split("+")[0].split(".")[-1]


def text(file):
    """What a head can compare of a file (its digest): not who dropped it, nor when. file: (which one, text)."""
    return file[1]


class Log:
    """A row of events. Equal rows are one object, so that comparing and replaying them costs nothing."""

    __slots__ = ("_after", "_state", "before", "event", "length")

    def __init__(self, before, event):
        self.before, self.event, self._after, self._state = before, event, {}, None
        self.length = before.length + 1 if before else 0

    def add(self, *events):
        """This row and some more."""
        log = self
        for event in events:
            if event not in log._after:
                log._after[event] = Log(log, event)
            log = log._after[event]
        return log

    def upto(self, length):
        """The first ones of it; all of them for None."""
        log = self
        while length is not None and log.length > length:
            log = log.before
        return log

    def events(self):
        """All of them, oldest first."""
        found, log = [], self
        while log.length:
            found.append(log.event)
            log = log.before
        return found[::-1]

    @property
    def state(self):
        """What they come to."""
        if self._state is None:
            self._state = Replay(self.before.state, self.event).state if self.length else EMPTY
        return self._state


NOTHING = Log(None, None)


class Replay:
    """One event taken in, as spool_layout/replay.py does it."""

    def __init__(self, state, event):
        self.jobs, self.held, self.given_up = dict(state.jobs), dict(state.held), dict(state.given_up)
        self.claims, self.requests, self.due = dict(state.claims), state.requested, state.due
        self.incarnations, self.error = dict(state.incarnations), state.error
        kind, *rest = event
        getattr(self, kind)(*rest)
        self.state = State(
            self.jobs,
            self.held,
            self.given_up,
            self.claims,
            self.requests,
            self.due,
            self.incarnations,
            self.error,
        )

    def become(self, ident, **new):
        self.jobs[ident] = self.jobs[ident]._replace(**new)

    def release(self, ident, number, kept=()):
        """Free the slots of an attempt, but for those on some nodes."""
        self.held = {n: holder for n, holder in self.held.items() if holder != (ident, number) or n in kept}

    def seal(self, seals):
        """Nothing changes: readers look for it in the file."""

    def node(self, n, incarnation):
        self.incarnations[n] = incarnation

    def accept(self, ident, name, file, claim):
        if ident in self.jobs:
            self.error = f"ID {ident} given twice"
        self.jobs[ident] = Job("PENDING", name, file, 0, (), None, False, 0, None, False, (file,))
        self.claims[claim] = ident

    def edit(self, ident, file):
        self.become(ident, file=file, problem=0, files=(*self.jobs[ident].files, file))

    def start(self, ident, number, slots):
        for n in slots:
            if n in self.held:
                self.error = f"GPU of node {n} granted to {(ident, number)} while {self.held[n]} holds it"
            self.held[n] = (ident, number)
        self.become(ident, state="RUN", attempt=number, slots=slots, in_running=True, stop=None, go=False)

    def back(self, ident, **new):
        self.become(ident, state="PENDING", slots=(), stop=None, go=False, **new)

    def changed(self, ident, name):
        """`returned`: what was claimed is not what was accepted."""
        self.release(ident, self.jobs[ident].attempt)
        self.back(ident, name=name, in_running=False, problem=self.jobs[ident].problem + 1)

    def again(self, ident):
        """`returned` with in_running: nothing of the attempt is left, and it may run again."""
        self.release(ident, self.jobs[ident].attempt)
        self.back(ident)

    def go(self, ident):
        self.become(ident, go=True)

    def stop(self, ident, result):
        self.become(ident, stop=result)

    def lost(self, ident, number, result, nodes):
        self.given_up[(ident, number)] = nodes  # whose slots stay held until they are heard
        self.release(ident, number, nodes)
        if result == "AGAIN":
            self.back(ident)
        else:
            self.over(ident, result)

    def gone(self, ident, number, n):
        left = tuple(m for m in self.given_up[(ident, number)] if m != n)
        self.given_up[(ident, number)] = left
        if not left:
            del self.given_up[(ident, number)]
        self.release(ident, number, left)

    def end(self, ident, result):
        if self.jobs[ident].state == "DONE":
            self.error = f"job {ident} ended twice"
        self.release(ident, self.jobs[ident].attempt)
        self.over(ident, result)

    def over(self, ident, result):
        self.become(ident, state="DONE", slots=(), stop=None, result=result)

    def requested(self, claim):
        """The only request there is asks that job 1 end. It is due where there is such a job by now."""
        self.requests |= {claim}
        self.due = self.due or 1 in self.jobs
