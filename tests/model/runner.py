"""The runner of a node: comes and goes, reads assigned.json, heeds it, reports, renews."""

from tests.model.explorer import put
from tests.model.state import GONE, NEVER, ORPHANED, SUPERVISED, UNKNOWN, Attempt, Status, text
from tests.model.supervisor import Supervisors


def of(attempts, ident, number):
    """An attempt on a node's disk, or None."""
    return next((a for a in attempts if (a.id, a.number) == (ident, number)), None)


class Nodes(Supervisors):
    # ---- all steps of one node

    def node_steps(self, w, n):
        node = w.nodes[n]
        yield from self.supervisor_steps(w, n, node)
        if n in self.timed:
            yield from self.time_steps(w, n, node)
        if node.cut:
            yield f"node {n} reaches the spool again", "step", self.node_with(w, n, cut=False)
        elif cut := self.spend(w, "cut", n):
            yield f"node {n} is cut off", "fault", self.node_with(cut, n, cut=True)
        if not node.alive:
            if not node.cut:
                yield self.restart(w, n, node)
            return
        if killed := self.spend(w, "runner crash", n):
            yield f"runner{n} is killed", "fault", self.killed(killed, n)
        if node.cut:
            return
        if isinstance(node.published, Status):
            yield f"status.json of node {n} is written at last", "step", self.written(w, n, node.published)
        elif node.published:
            yield self.renew(w, n, node)
        elif not node.wrote:
            yield from self.report(w, n, node)
        else:
            yield from self.runner_steps(w, n, node)

    def runner_steps(self, w, n, node):
        yield from self.read(w, n, node)
        if node.desired is not None:
            for row in node.desired.jobs:
                yield from self.heed(w, n, node, row)
            yield from self.stop_unmentioned(w, n, node)
            yield from self.forget(w, n, node)
        for a in node.attempts:
            if a.phase in ORPHANED:
                yield (
                    f"runner{n} ends what is left of {a[:2]}, whose supervisor is dead",
                    "step",
                    self.becomes(w, n, a, "lost"),
                )
        yield from self.report(w, n, node)
        if left := self.spend(w, "leave", n):
            yield from self.report(left, n, node, leaving=True)

    # ---- the runner comes and goes

    def killed(self, w, n):
        """What a runner remembers only in itself is gone."""
        return self.node_with(
            w,
            n,
            alive=False,
            seen=(0, 0),
            reads=NEVER,
            desired=None,
            wrote=False,
            published=None,
            hung=False,
            counted=False,
            incarnation=0,
            lapses=0,
        )

    def restart(self, w, n, node):
        """A runner starts. That its limit was exceeded is counted with its first report; if its predecessor left on
        purpose, it is no lapse, but a new incarnation."""
        incarnation, attempts = max(w.status[n].incarnation, node.tight) + node.endless, node.attempts
        if node.endless and self.on["left_orders_end"]:
            attempts = frozenset(a._replace(phase="never", text=None) if a.phase == "ordered" else a for a in attempts)
        tight = node.endless and self.on["tighten_first"]
        noted = incarnation if self.on["note_incarnation"] else 1
        world = self.node_with(
            w,
            n,
            alive=True,
            seen=w.status[n].seen if self.on["remember_seen"] else (0, 0),
            incarnation=incarnation,
            lapses=node.noted,
            endless=node.endless and not tight,
            tight=max(node.tight, noted * (tight and "cancel" in self.s.user)),
            expired=node.expired and not tight,
            attempts=attempts,
        )
        return f"runner{n} starts again", "step", world

    def report(self, w, n, node, leaving=False):
        """Write status.json, having counted a lapse; then renew, as a step of its own where anything can come
        between."""
        count = node.expired and not node.endless and not node.counted
        phases = frozenset((a.id, a.number, self.told(node, a)) for a in node.attempts)
        status = Status(node.seen, node.reads, node.incarnation + count, leaving, phases)
        if status == w.status[n] and node.wrote and not (node.silent or node.expired or node.endless):
            return
        counted = self.node_with(
            w, n, incarnation=status.incarnation, lapses=node.lapses + count, counted=node.counted or count
        )
        label = self.says(n, status) + (", having counted a lapse" if count else "")
        world = self.written(counted, n, status)
        yield label, "step", world if self.may_be_cut(w, n, node) else self.renew(world, n, world.nodes[n])[2]
        if n in self.timed and not leaving and (cut := self.spend(counted, "cut", n)):
            yield f"{label}, is cut off meanwhile", "fault", self.node_with(cut, n, published=status, cut=True)

    def written(self, w, n, status):
        """status.json is there for everybody to see."""
        world = self.node_with(w, n, silent=False, tight=0, published="left" if status.left else "beat")
        return world._replace(status=put(w.status, n, status))

    def may_be_cut(self, w, n, node):
        """Whether anything may come between writing status.json and renewing, and make a difference."""
        faults = any(self.spend(w, fault, n) for fault in ("cut", "runner crash"))
        return n in self.timed and (faults or node.expired or node.endless)

    @staticmethod
    def says(n, status):
        left = ", leaves" if status.left else ""
        return f"runner{n} writes status.json: seen {status.seen} {sorted(status.phases)}{left}"

    def told(self, node, a):
        """The phase of an attempt as status.json tells it."""
        if a.phase == "marked" and node.reads == NEVER:
            return "lost"  # a fresh runner sees a marker and no process
        return {"ordered": "start", "marked": "start"}.get(a.phase, a.phase.rstrip("!"))

    def renew(self, w, n, node):
        """Note on the local disk that status.json was written, as of when that was begun."""
        count = node.expired and not node.counted and not node.endless and self.on["renewal_counts"]
        leaves, lapses = node.published == "left", node.lapses + count
        world = self.node_with(
            w,
            n,
            expired=node.hung,
            hung=False,
            counted=False,
            endless=leaves,
            noted=lapses,
            lapses=lapses,
            incarnation=node.incarnation + count,
            wrote=True,
            published=None,
        )
        label = f"runner{n} renews" + (" for ever, ends" if leaves else "") + (", counts a lapse" if count else "")
        return label, "step", self.killed(world, n) if leaves else world

    # ---- what the runner is told

    def read(self, w, n, node):
        """Read assigned.json, perhaps from a stale cache."""
        for age, file in enumerate(w.assigned[n]):
            name = (file.version, file.incarnation)
            if name == node.reads and node.desired is not None:
                continue
            if file.version < node.seen and self.on["runner_refuses"]:
                if name != node.reads:
                    yield (
                        f"runner{n} refuses assigned.json {file.version}, has seen {node.seen}",
                        "step",
                        self.node_with(w, n, reads=name),
                    )
                continue
            fits = "" if file.incarnation == node.incarnation else ", addressed to an older incarnation"
            yield (
                f"runner{n} reads {'a stale' if age else 'the'} assigned.json {file.version}{fits}",
                "step",
                self.node_with(w, n, seen=max(file.version, node.seen), reads=name, desired=file),
            )

    def heed(self, w, n, node, row):
        """Do what is due for one attempt that is assigned."""
        ident, number, want, *_ = row
        a = of(node.attempts, ident, number)
        fits = node.desired.incarnation == node.incarnation or not self.on["incarnation"]
        if want == "stop":
            yield from self.end(w, n, node, ident, number)
        elif not fits:
            return
        elif a is None:
            yield self.begin(w, n, node, row)
        elif self.is_to_go(want, node, a):
            yield f"runner{n} says go to {a[:2]}", "step", self.becomes(w, n, a, a.phase, go=node.lapses)

    def is_to_go(self, want, node, a):
        """Whether the runner has yet to say that `run` may follow `setup`. It says so anew after a lapse: the head has
        confirmed the attempt to this incarnation."""
        said = a.go == node.lapses if self.on["go_anew"] else a.go is not None
        return self.s.setup and (want == "go" or self.s.gang == 1) and not said and a.phase in ("setup", "ready")

    def begin(self, w, n, node, row):
        """Read the accepted text and make the attempt's directory."""
        ident, number, want, name, accepted = row
        go = node.lapses if want == "go" or self.s.gang == 1 else None
        new = Attempt(ident, number, "ordered", None, node.lapses, node.seen, go)
        file = dict(w.files).get("running/" + name)
        if file is None or (text(file) != accepted and self.on["runner_compares"]):
            label = f"runner{n} does not find the text of {new[:2]} in running/"
            return label, "step", self.becomes(w, n, new, "nofile" if file is None else "changed")
        phase = "ordered" if self.on["supervisor_marks"] else "marked"
        return f"runner{n} reads running/{name}, orders {new[:2]}", "step", self.becomes(w, n, new, phase, text=file)

    def end(self, w, n, node, ident, number):
        """Heed a `stop`: what was never started never will be; what was started is ended."""
        a = of(node.attempts, ident, number)
        if a is None or a.phase in ("ordered", "marked"):
            a = a or Attempt(ident, number, "never", None, 0, node.seen, None)
            label = f"runner{n} marks {a[:2]} as never to be started"
            yield label, "step", self.becomes(w, n, a, "never")
        elif a.phase in SUPERVISED:
            yield f"runner{n} stops {a[:2]}", "step", self.becomes(self.stops(w, n, a), n, a, "exit")

    def stop_unmentioned(self, w, n, node):
        """What a runner must not do: take an omission for an order."""
        if self.on["leave_omitted"]:
            return
        listed = {row[:2] for row in node.desired.jobs}
        for a in node.attempts:
            if a.phase in SUPERVISED and a[:2] not in listed:
                yield f"runner{n} stops {a[:2]}", "step", self.becomes(self.stops(w, n, a), n, a, "exit")

    def forget(self, w, n, node):
        listed = {row[:2] for row in node.desired.jobs}
        over = frozenset(a for a in node.attempts if a.phase in GONE and a[:2] not in listed)
        if self.on["forget_late"]:
            told = w.status[n].seen >= node.seen and node.reads[0] == node.seen
            over = frozenset(a for a in over if told and a.version < node.seen)
        if over:
            label = f"runner{n} forgets {sorted(a[:2] for a in over)}"
            yield label, "step", self.node_with(w, n, attempts=node.attempts - over)

    def stops(self, w, n, a):
        """At the moment when a runner ends an attempt."""
        job = self.truth(w).state.jobs.get(a.id, UNKNOWN)
        if job.state == "RUN" and job.attempt == a.number and job.stop is None:
            bad = f"undisturbed: node {n} stops {a[:2]}, which nobody revoked"
            return w._replace(bad=bad)
        return w
