"""What a head decides from one look: the events, and what assigned.json shall say. Pure, as spoold/core is."""

from tests.model.claims import Claims
from tests.model.state import GONE, Assigned, plain, text


class Tick:
    """One decision: the events so far, and what they come to."""

    def __init__(self, log):
        self.log, self.events = log, []

    @property
    def state(self):
        return self.log.state

    def add(self, *event):
        self.events.append(event)
        self.log = self.log.add(event)

    def add_all(self, events):
        for event in events:
            self.add(*event)


class Deciding(Claims):
    def decide(self, w, k, h):
        """The events that follow from one look, in the order in which they are appended."""
        tick = Tick(h.log)
        for n, status in enumerate(w.status):
            if tick.state.incarnations.get(n, 1) != status.incarnation:
                tick.add("node", n, status.incarnation)
        for i, job in list(tick.state.jobs.items()):
            if job.slots:
                tick.add_all(self.outcome(w, i, job))
        for (i, number), nodes in list(tick.state.given_up.items()):
            for n in nodes:
                if self.phase(w, n, i, number) in GONE or not self.on["confirm_gone"]:
                    tick.add("gone", i, number, n)
        for i, job in list(tick.state.jobs.items()):
            tick.add_all(self.change(w, k, h, i, job))
        for claim, file in self.to_accept(w, k, h, tick.state):
            i = max(tick.state.jobs, default=0) + 1
            tick.add("accept", i, f"{i}.{plain(claim.split('/')[-1])}", file, claim)
        for claim in self.own(w, k, h, "request"):
            if claim not in tick.state.requested:
                effects, done = self.cancel(tick.state), [("requested", claim)]
                tick.add_all(effects + done if self.on["effects_first"] else done + effects)
        self.grant(w, tick)
        return tuple(tick.events)

    def phase(self, w, n, i, number):
        return next((p for a, b, p in w.status[n].phases if (a, b) == (i, number)), None)

    def outcome(self, w, i, job):
        """What follows for an attempt from where its ranks stand."""
        phases = [self.phase(w, n, i, job.attempt) for n in job.slots]
        gone = [p in GONE or self.taken_for_gone(job, p) for p in phases]
        silent = [not over and self.is_silent(w, n, job) for n, over in zip(job.slots, gone, strict=True)]
        if all(gone):
            return self.over(i, job, phases)
        if any(silent):
            return self.lose(i, job, gone, silent)
        if job.stop is not None:
            return []
        if cause := self.cause(phases):
            again = cause == "AGAIN" and not self.on["fenced_ranks_first"]
            return [("again", i)] if again else [("stop", i, cause)]
        if self.s.setup and not job.go and all(p == "ready" for p in phases):
            return [("go", i)]
        return []

    def taken_for_gone(self, job, phase):
        """What a head must not do: believe that an attempt is gone before its node says so."""
        return job.stop is not None and (
            not self.on["confirm_gone"] or (phase is None and not self.on["explicit_stop"])
        )

    def over(self, i, job, phases):
        """Nothing of the attempt is left."""
        if job.stop is None and all(p in ("never", "nofile", "changed") for p in phases):
            if "nofile" in phases or "changed" in phases:
                return [("end", i, "DELETED" if "nofile" in phases else "CANCELLED")]
            return [("again", i)]
        result = job.stop or self.cause(phases) or "OK"
        return [("again", i)] if result == "AGAIN" else [("end", i, result)]

    def cause(self, phases):
        """As what an attempt ends by the ranks that are over; False: none has failed."""
        failed = any(p in GONE and p != "exit" for p in phases)
        return failed and ("AGAIN" if self.s.rerun and self.on["fenced_waits"] else "FAILED")

    def is_silent(self, w, n, job):
        """Whether a job may be given up on a node. One that left on purpose is waited for, but not to carry out a stop
        that ends the job."""
        if not w.nodes[n].silent or not w.status[n].left or not self.on["wait_for_left"]:
            return w.nodes[n].silent
        return job.stop is not None and (job.stop != "AGAIN" or not self.on["wait_to_rerun"])

    def lose(self, i, job, gone, silent):
        """A node of the attempt may be given up: its ranks elsewhere first."""
        live = any(not g and not s for g, s in zip(gone, silent, strict=True))
        again = "AGAIN" if self.s.rerun else "FAILED"
        if live and self.on["ranks_first"]:
            return [] if job.stop is not None else [("stop", i, again)]
        decided = job.stop if job.stop != "AGAIN" else None
        nodes = tuple(n for n, s in zip(job.slots, silent, strict=True) if s)
        return [("lost", i, job.attempt, decided or again, nodes)]

    def change(self, w, k, h, i, job):
        """A waiting file was deleted or edited by its owner."""
        if job.state != "PENDING" or job.in_running:
            return []
        files, at = dict(w.files), "pending/" + job.name
        if at in files:
            changed = files[at] != job.file or (job.problem and self.on["edited_anyway"])
            return [("edit", i, files[at])] if changed and files[at] not in w.fresh else []
        seen = {self.folder(k, h) + job.name, "running/" + job.name} & files.keys()
        return [] if seen else [("end", i, "DELETED")]

    def to_accept(self, w, k, h, state):
        files = dict(w.files)
        if self.on["accept_claims"]:
            return [(claim, files[claim]) for claim in self.own(w, k, h, "new")]
        return [("pending/" + name, files["pending/" + name]) for name in self.new_files(w, state)]

    def new_files(self, w, state):
        """Names in pending/ that are no waiting job's: files to be accepted."""
        known = {
            j.name
            for j in state.jobs.values()
            if (j.state == "PENDING" and not j.in_running) or not self.on["known_is_pending"]
        }
        return sorted(p[8:] for p, f in w.files if p.startswith("pending/") and p[8:] not in known and f not in w.fresh)

    @staticmethod
    def cancel(state):
        """What the only request there is asks for: that job 1 ends."""
        job = state.jobs.get(1)
        if job is None or job.state == "DONE" or job.stop == "CANCELLED":
            return []
        return [("end", 1, "CANCELLED")] if job.state == "PENDING" else [("stop", 1, "CANCELLED")]

    def grant(self, w, tick):
        for i in sorted(tick.state.jobs):
            job, held = tick.state.jobs[i], tick.state.held
            free = [n for n, s in enumerate(w.status) if n not in held and not w.nodes[n].silent and not s.left]
            blocked = job.problem and self.on["problem_waits"]
            if job.state == "PENDING" and not blocked and len(free) >= self.s.gang:
                tick.add("start", i, job.attempt + 1, tuple(free[: self.s.gang]))

    # ---- assigned.json

    def content(self, state, n):
        rows = set()
        for i, job in state.jobs.items():
            if n in job.slots and (job.stop is None or self.on["explicit_stop"]):
                want = "stop" if job.stop is not None else "go" if job.go else "run"
                named = ("", "") if want == "stop" else (job.name, text(job.file))
                rows.add((i, job.attempt, want, *named))
        for (i, number), nodes in state.given_up.items():
            held = self.on["held_is_listed"] or state.jobs[i].state != "DONE"
            if n in nodes and held and self.on["explicit_stop"]:
                rows.add((i, number, "stop", "", ""))
        return frozenset(rows)

    def wanted(self, h, n):
        """assigned.json of a node as it should be. What says something new has a version above all that this head
        wrote; a repetition has that of what it repeats, so that two heads which overwrite each other come to an end."""
        addressed = h.log.state.incarnations.get(n, 1) if self.on["incarnation"] else 0
        content, last = self.content(h.log.state, n), h.wrote[n]
        if last and last[1:] == (addressed, content):
            return last
        return Assigned((h.epoch, last.version[1] + 1 if last else 1), addressed, content)

    def is_due(self, w, h, n):
        """Whether assigned.json of a node is to be written: it is not what was written last, or the node read another
        one last, and that is what stands there."""
        last = h.wrote[n]
        if last != self.wanted(h, n):
            return True
        name = (last.version, last.incarnation)
        read = w.status[n].reads == name if self.on["rewrite_unread"] else w.status[n].seen >= last.version
        return not read and w.assigned[n][0] != last
