"""The supervisors and the processes of a node, and time.

The starter is no process here. An attempt that is ordered may get a supervisor at any moment, from none, one or several
starters; so a starter may die, or come late, whenever it likes. What makes one start of it is the marker.

The time rule, of which only the order of things is modelled:

    expired    the limit has passed since the last renewal of the local file `renewed`
    hung       it has passed since the runner began to write the status.json for which it has not renewed yet
    silent     T has passed: the head may take the node for down. Only after the limit has, and after every supervisor
               that must end something has done so
    endless    the runner left on purpose: no limit holds for what runs
    tight      the next runner has set its limit, which counts from its start, and has not reported: T goes on from the
               leave. What it noted as its incarnation; 0: none of this. Only where a user may cancel, since for
               anything else a node that left is waited for
    lapses     how often the limit was exceeded: as the runner counts, as `renewed` says (noted), as it was when an
               attempt was ordered, as it was when the runner last said `go`
"""

from tests.model.explorer import put
from tests.model.state import ALIVE, GONE, ORPHANED, SUPERVISED, UNKNOWN, Status, text


def with_attempt(attempts, new):
    """A node's attempts with one of them replaced or added."""
    return frozenset(a for a in attempts if (a.id, a.number) != (new.id, new.number)) | {new}


class Supervisors:
    @staticmethod
    def node_with(w, n, **new):
        return w._replace(nodes=put(w.nodes, n, w.nodes[n]._replace(**new)))

    def becomes(self, w, n, a, phase, **new):
        """One attempt on a node's disk changes. What nobody will look at any more is left out, to have fewer states."""
        a = a._replace(phase=phase, **new)
        if phase in (*GONE, "run", "run!"):
            a = a._replace(text=None, go=None)
        if phase in GONE or n not in self.timed:
            a = a._replace(lapses=0)
        return self.node_with(w, n, attempts=with_attempt(w.nodes[n].attempts, a))

    # ---- supervisors and processes

    def keeps_time(self, node, lapses):
        """Whether the runner has kept its limit ever since there were so many lapses, as far as `renewed` tells."""
        within = node.endless or not node.expired
        return within and (lapses == node.noted or not self.on["count_lapses"])

    def may_start(self, node, a):
        """The same for an attempt of which nothing was begun: a node that left on purpose is not waited for then."""
        late = node.expired and self.on["left_starts_nothing"]
        return not self.on["spawn_fence"] or (self.keeps_time(node, a.lapses) and not late)

    def may_go(self, node, a):
        """Whether `run` may follow `setup`: the runner said so, and has kept the time rule since."""
        return a.go is not None and (self.keeps_time(node, a.go) or not self.on["successor_fence"])

    def supervisor_steps(self, w, n, node):
        for a in node.attempts:
            who = f"supervisor of {a[:2]} on node {n}"
            if a.phase in ("ordered", "marked"):
                yield from self.start_attempt(w, n, node, a, who)
            elif a.phase in SUPERVISED:
                yield from self.go_on(w, n, node, a, who)
            elif a.phase in ORPHANED:
                yield f"job {a[:2]} on node {n} exits, and nobody waits for it", "step", self.becomes(w, n, a, "lost")

    def start_attempt(self, w, n, node, a, who):
        if not self.may_start(node, a):
            yield f"{who} marks it never to be started", "step", self.becomes(w, n, a, "never")
            return
        yield self.spawn(w, n, a, "setup" if self.s.setup else "run", f"{who} marks and spawns it")
        if dead := self.spend(w, "supervisor crash", n):
            yield f"{who} is killed between marker and spawn", "fault", self.becomes(dead, n, a, "lost")

    def spawn(self, w, n, a, phase, label):
        return label, "step", self.becomes(self.runs(w, n, a), n, a, phase)

    def go_on(self, w, n, node, a, who):
        """An attempt whose supervisor lives."""
        if not self.on["start_marker"]:
            bad = f"P4: attempt {a[:2]} was started twice on node {n}"
            yield f"another {who} spawns it", "step", w._replace(bad=bad)
        if a.phase == "run":
            yield f"job {a[:2]} on node {n} exits", "step", self.becomes(w, n, a, "exit")
        elif self.may_go(node, a):
            yield self.spawn(w, n, a, "run", f"{who} sees that setup is over, spawns run")
        elif a.phase == "setup":
            yield f"setup of {a[:2]} on node {n} is over", "step", self.becomes(w, n, a, "ready")
        if self.must_end(node, a):
            yield f"{who} ends it: the time rule", "step", self.becomes(w, n, a, "fenced")
        if dead := self.spend(w, "supervisor crash", n):
            yield f"{who} is killed", "fault", self.becomes(dead, n, a, a.phase + "!")

    def must_end(self, node, a):
        """Whether the time rule ends an attempt: it may run again elsewhere."""
        fences = self.on["supervisor_fences"] or node.alive
        return a.phase in SUPERVISED and self.s.rerun and fences and not self.keeps_time(node, a.lapses)

    # ---- time

    def time_steps(self, w, n, node):
        if node.alive and not node.cut and not node.tight:
            return
        hidden = isinstance(node.published, Status)  # the head does not see yet what the runner began to write
        if not node.expired or (node.published and not node.hung):
            passed = {"expired": True, "hung": bool(node.published) and (node.expired or not hidden)}
            yield f"the limit passes without a renewal by node {n}", "fault", self.node_with(w, n, **passed)
            if not node.tight and not (node.expired and hidden):
                return
        delayed = node.silent or any(self.delays(node, a) for a in node.attempts)
        if not delayed and (late := self.spend(w, "silence", n)):
            yield f"T passes without a heartbeat of node {n}", "fault", self.node_with(late, n, silent=True)

    def delays(self, node, a):
        """Whether it is before T, since this attempt would have been ended by then. That a killed supervisor ends
        nothing is outside of what is promised."""
        return self.must_end(node, a) or (a.phase in ORPHANED and self.s.rerun)

    # ---- at the moment when a process of an attempt comes to life

    def runs(self, w, n, a):
        """The world with what is wrong with that."""
        state = self.truth(w).state
        job = state.jobs.get(a.id, UNKNOWN)
        for b in w.nodes[n].attempts:
            if b[:2] != a[:2] and b.phase in ALIVE:
                return w._replace(bad=f"P3: {a[:2]} and {b[:2]} use the GPU of node {n} together")
            if b[:2] != a[:2] and state.held.get(n) == b[:2]:
                return w._replace(bad=f"P5: {a[:2]} runs before the outcome of {b[:2]} is durable")
        for m, node in enumerate(w.nodes):
            for b in node.attempts:
                if b.id == a.id and b.number != a.number and b.phase in ALIVE:
                    return w._replace(bad=f"P4: {a[:2]} on node {n} beside {b[:2]} on node {m}")
        if job is UNKNOWN:
            return w._replace(bad=f"P3: {a[:2]} runs, though no valid event started it")
        if job.state != "RUN" or a.number != job.attempt:
            return w._replace(bad=f"P4: {a[:2]} runs after its end was recorded")
        if text(a.text) != text(job.file):
            return w._replace(bad=f"P2: {a[:2]} runs {a.text}, accepted was {job.file}")
        return w
