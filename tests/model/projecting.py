"""What a head does after a commit: one rename or write a step. Also what a new head does before it looks at pending/.

Each `do_` step tells what comes before the rest of the plan: more steps, a commit, or None for the end of the term.
"""

from tests.model.claims import Claims, number_of
from tests.model.explorer import put
from tests.model.state import plain, text


class Projecting(Claims):
    # ---- what is to be projected

    def plan(self, w, k, h, batch):
        """The steps that follow a tick's commit."""
        state, accepted = h.log.state, {e[1]: e[4] for e in batch if e[0] == "accept"}
        out = [("out", i, claim) for i, claim in accepted.items()]
        starts = [("claim", e[1], False) for e in batch if e[0] == "start" and e[1] not in accepted]
        assign = [("assign", n) for n in range(self.s.nodes)]
        ended = [e[1] for e in batch if e[0] in ("end", "lost") and e[1] not in accepted]
        done = [(step, i) for step in ("finish", "clear") for i in ended if state.jobs[i].state == "DONE"]
        requests = [("drop", e[1]) for e in batch if e[0] == "requested"]
        moves = [*out, *starts]
        return (*(moves + assign if self.on["claim_first"] else assign + moves), *done, *requests)

    def plan_all(self, w, k, h):
        """What was committed and not projected, by listings; after the older claim directories are gone."""
        files, jobs = dict(w.files), h.log.state.jobs
        told = {row[:2] for file in w.assigned for row in file[0].jobs} | {p[:2] for s in w.status for p in s.phases}
        starts = [
            ("claim", i, True)
            for i, job in jobs.items()
            if job.state == "RUN"
            and not ("running/" + job.name in files and self.on["look_first"])
            and not ((i, job.attempt) in told and self.on["handed_over"])
        ]
        over = [i for i, job in jobs.items() if job.state == "DONE"]
        finish = [("finish", i) for i in over if "running/" + jobs[i].name in files]
        clear = [("clear", i) for i in over if self.is_to_clear(jobs[i], files)]
        assign = [("assign", n) for n in range(self.s.nodes)]
        return (*(starts + assign if self.on["claim_first"] else assign + starts), *finish, *clear)

    def is_to_clear(self, job, files):
        """Whether the file of a job that ended while it waited may still stand in pending/."""
        cleared = f"done/{job.name}.{job.result}" in files and self.on["clear_once"]
        return not job.in_running and "pending/" + job.name in files and not cleared

    # ---- the steps

    def do_take(self, w, k, h, source, kind):
        """A new file, or a request, to the own claim directory; there it is read."""
        if self.fenced(w, k, h):
            yield f"finds {self.folder(k, h)} fenced off, stops", "step", w, None
            return
        target, count = self.unused(w, k, h, kind, source)
        world = self.move(w, source, target)
        if world:
            taken = world._replace(heads=put(w.heads, k, h._replace(claimed=count)))
            yield f"renames {source} to {target} and reads it", "step", taken, ()
        else:
            yield f"gets ENOENT for {source}: not its file any more", "step", w, ()

    def do_out(self, w, k, h, i, source):
        """Accepted: to pending/, to running/ where it starts now, to done/ where it is over already."""
        job = h.log.state.jobs[i]
        if job.state == "RUN" and self.on["accept_claims"]:
            target = "running/" + job.name
        else:
            target = f"done/{job.name}.{job.result}" if job.state == "DONE" else "pending/" + job.name
        world = self.move(w, source, target)
        yield f"renames {source} to {target}" if world else f"misses {source}, stops", "step", world or w, world and ()

    def do_claim(self, w, k, h, i, taking_over):
        """A waiting file that starts. taking_over: where it is nowhere, its nodes will tell."""
        job, files = h.log.state.jobs[i], dict(w.files)
        waiting, running, place = "pending/" + job.name, "running/" + job.name, self.claimed(k, h, job.name)
        if job.attempt > 1 and running in files:
            yield f"sees {running} in its place", "step", w, ()
        elif self.fenced(w, k, h):
            yield f"finds {place} fenced off, stops", "step", w, None
        elif world := self.move(w, waiting, place):
            verify, deleted = (("verify", i, taking_over),), ("commit", (("end", i, "DELETED"),), ())
            yield f"renames {waiting} to {place}", "step", world, verify
            if lost := self.spend(world, "lost reply"):
                label = f"renames {waiting} to {place}, but is told ENOENT"
                yield label, "fault", lost, verify if self.on["believe_listing"] else deleted
        elif self.on["believe_listing"] and (place in files or running in files):
            yield (
                f"gets ENOENT, but sees {job.name}",
                "step",
                w,
                (("verify", i, taking_over),) if place in files else (),
            )
        elif taking_over and self.on["leave_missing"]:
            yield f"finds {job.name} nowhere, leaves it to its nodes", "step", w, ()
        else:
            yield f"gets ENOENT: {waiting} was deleted", "step", w, ("commit", (("end", i, "DELETED"),), ())

    def do_verify(self, w, k, h, i, taking_over):
        """Compare what was claimed with what was accepted. taking_over: if it is another file, it is a new one."""
        job, files = h.log.state.jobs[i], dict(w.files)
        place, running = self.claimed(k, h, job.name), "running/" + job.name
        if place not in files:
            yield f"misses {place}, stops", "step", w, () if running in files else None
        elif not self.is_as_accepted(job, files[place]) and taking_over and self.on["leave_changed"]:
            yield from self.adopt(w, k, h, place, "new")
        elif not self.is_as_accepted(job, files[place]):
            yield f"sees that {place} is not what was accepted", "step", w, self.put_back(w, i, job, place)
        elif place == running:
            yield f"accepts {running}", "step", w, ()
        else:
            yield f"compares {place}, renames it to {running}", "step", self.move(w, place, running), ()

    def is_as_accepted(self, job, file):
        return text(file) == text(job.file) or not self.on["verify_claim"] or (job.state == "DONE" and job.problem)

    @staticmethod
    def put_back(w, i, job, place, *then):
        """Commit `returned`, then move the file to a name in pending/ that nobody uses."""
        files, number = dict(w.files), 1
        while f"pending/{job.name.split('+')[0]}+{number}" in files:
            number += 1
        name = f"{job.name.split('+')[0]}+{number}"
        return "commit", (("changed", i, name),), (("move", place, "pending/" + name), *then)

    def do_move(self, w, k, h, source, target):
        world = self.move(w, source, target)
        yield f"renames {source} to {target}" if world else f"misses {source}", "step", world or w, ()

    def do_assign(self, w, k, h, n):
        new = self.wanted(h, n)
        written = w._replace(
            assigned=put(w.assigned, n, (new, w.assigned[n][0])[: 2 if self.s.stale else 1]),
            heads=put(w.heads, k, h._replace(wrote=put(h.wrote, n, new))),
        )
        jobs = sorted(row[:3] for row in new.jobs)
        yield f"writes assigned.json of node {n}: {new.version}, to {new.incarnation}: {jobs}", "step", written, ()

    def do_finish(self, w, k, h, i):
        job = h.log.state.jobs[i]
        world = self.move(w, "running/" + job.name, f"done/{job.name}.{job.result}")
        yield (
            f"renames running/{job.name} to done/" if world else f"finds no running/{job.name}",
            "step",
            world or w,
            (),
        )

    def do_clear(self, w, k, h, i):
        """The file of a job that ended while it waited."""
        job = h.log.state.jobs[i]
        waiting, place = "pending/" + job.name, self.claimed(k, h, job.name)
        if job.in_running or waiting not in dict(w.files):
            yield f"finds no {waiting}", "step", w, ()
        elif self.fenced(w, k, h):
            yield f"finds {place} fenced off, stops", "step", w, None
        else:
            yield f"renames {waiting} to {place}", "step", self.move(w, waiting, place), (("cleared", i),)

    def do_cleared(self, w, k, h, i):
        job, files = h.log.state.jobs[i], dict(w.files)
        place = self.claimed(k, h, job.name)
        if place not in files:
            yield f"misses {place}, stops", "step", w, None
        elif self.is_as_accepted(job, files[place]):
            yield f"renames {place} to done/", "step", self.move(w, place, f"done/{job.name}.{job.result}"), ()
        else:
            yield from self.adopt(w, k, h, place, "new")

    def do_drop(self, w, k, h, place, *then):
        """A request that was carried out."""
        files = dict(w.files)
        file = files.pop(place, None)
        world = w._replace(files=frozenset(files.items()), owned=w.owned - {file})
        if file and place not in self.truth(w).state.requested:
            world = world._replace(bad=f"P6: {place} is removed, though no valid event says that it was carried out")
        yield f"removes {place}", "step", world, then

    # ---- taking over (recover.py)

    def do_empty(self, w, k, h):
        """Empty and remove the claim directories of every other head, as old or older."""
        others = sorted(d for d in w.dirs if d != (h.epoch, k + 1) and d[0] <= h.epoch) * self.on["claim_directory"]
        if not others:
            yield "sees no older claims, lists what is to be projected", "step", w, self.plan_all(w, k, h)
            return
        folder = f"claims/{others[0][0]}.{others[0][1]}/"
        inside = sorted((p for p, _ in w.files if p.startswith(folder)), key=lambda p: (number_of(p), p))
        if inside:
            yield from self.place(w, k, h, inside[0])
        else:
            yield f"removes {folder}", "step", w._replace(dirs=w.dirs - {others[0]}), (("empty",),)

    def place(self, w, k, h, path):
        """Move one file where it belongs, or commit what has to be committed first."""
        files, name, then = dict(w.files), path.split("/")[-1], (("empty",),)
        kind = name.split("-")[0] if "-" in name else ""
        i = self.job_of(h, path, files[path]) if kind else int(name.split(".")[0])
        if kind == "request" and path in h.log.state.requested:
            yield from self.do_drop(w, k, h, path, *then)
            return
        job = h.log.state.jobs.get(i)
        if job is None:
            yield from self.adopt(w, k, h, path, kind or "new", *then)
            return
        waits = job.state == "PENDING" and not job.in_running
        waiting, running = "pending/" + job.name, "running/" + job.name
        if waits and waiting not in files:
            yield f"renames {path} to {waiting}", "step", self.move(w, path, waiting), then
        elif job.state == "DONE" and (kind or self.is_as_accepted(job, files[path])):
            yield f"renames {path} to done/", "step", self.move(w, path, f"done/{job.name}.{job.result}"), then
        elif waits or running in files:
            yield from self.adopt(w, k, h, path, "new", *then)
        elif job.state != "DONE" and self.is_as_accepted(job, files[path]):
            yield f"renames {path} to {running}", "step", self.move(w, path, running), then
        elif job.state == "RUN" and not self.on["leave_changed"]:
            yield f"sees that {path} is not what was accepted", "step", w, self.put_back(w, i, job, path, *then)
        else:
            yield from self.adopt(w, k, h, path, "new", *then)

    def job_of(self, h, path, file):
        """The job that was accepted from this claim."""
        if self.on["named_claims"]:
            return h.log.state.claims.get(path)
        return next((i for i, job in h.log.state.jobs.items() if text(job.file) == text(file)), None)

    def adopt(self, w, k, h, path, kind, *then):
        """To the own claim directory, to be accepted (or carried out) from there."""
        if self.fenced(w, k, h):
            yield f"finds {self.folder(k, h)} fenced off, stops", "step", w, None
            return
        target, count = self.unused(w, k, h, kind, path)
        if not self.on["adopt_unknown"]:
            target, count = ("pending/" if kind == "new" else "requests/") + plain(path.split("/")[-1]), h.claimed
        world = self.move(w, path, target)
        taken = world._replace(heads=put(w.heads, k, h._replace(claimed=count)))
        yield f"renames {path} to {target}, to be accepted from there", "step", taken, then
