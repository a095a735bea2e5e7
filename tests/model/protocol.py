"""Exhaustive model of the spool protocol: every interleaving of small scenarios.

    python -m tests.model.protocol                       the scenarios of the protocol;  --slow  the three longest ones
    python -m tests.model.protocol --without RULE ...    leave rules out; prints the shortest counterexample
    python -m tests.model.protocol --table               each rule left out in turn, in the scenario that needs it
    python -m tests.model.protocol --scenario NAME ...   only these;  --list  names scenarios and rules

One transition is one atomic file-system step of one process, or one fault. A
process may stop between any two steps for ever (crash) or for any time (pause).
Here are the heads, the projections and the users; nodes are in runner.py, ledger
generations and clients in ledger.py, the search itself in explorer.py.
Checked in every state: the promises (see `broken`). Checked at the end: from
every reachable state, steps without faults or users lead to "all jobs done".
"""

import sys
from collections import namedtuple

from tests.model.explorer import main, put
from tests.model.runner import Nodes
from tests.model.state import LIVE, NEVER, OFF, UNKNOWN, Assigned, Node, Status, World, fold, plain

RULES = {
    # what design.md already says
    "epoch_check": "after each commit a head lists events/ and stops if a newer epoch exists",
    "seal": "events beyond the offset that the next epoch wrote down are void",
    "runner_refuses": "a runner refuses an assigned.json lower than it has seen",
    "start_marker": "an attempt is marked durably before it is spawned, and never spawned twice",
    "confirm_gone": "a slot is free only when the runner has confirmed that the attempt is gone",
    "believe_listing": "ENOENT of a claim is believed only when no listing shows the claimed file",
    "claim_first": "assigned.json names an attempt only after its file stands in running/",
    # repairs, now all in design.md
    "seal_chain": "the first event seals every earlier epoch, not only the last one",
    "look_first": "a claim is not redone where running/ID.NAME is already listed",
    "claim_directory": "claims go through claims/EPOCH.TOKEN/, which the next head empties and removes",
    "verify_claim": "what was claimed is compared with what was accepted before it may run",
    "explicit_stop": "an attempt is revoked by `stop`, not by leaving it out of assigned.json",
    "remember_seen": "a restarted runner takes `seen` from its own status.json",
    "leave_omitted": "what assigned.json does not mention is left alone; only `stop` stops",
    "forget_late": "a marker goes only when a later version omits the attempt, and status.json says so",
    "rewrite_unread": "a head rewrites assigned.json when status.json reports another one as last read",
    "supervisor_marks": "the supervisor makes the marker itself, just before it spawns the job",
    "supervisor_fences": "the supervisor, not only the runner, keeps the time rule",
    "incarnation": "a runner starts only what is addressed to its present incarnation",
    # accepting by a claim, lost nodes: in design.md the first one, the others are proposed
    "accept_claims": "a new file is claimed before it is read and given its ID",
    "decide_at_once": "what was claimed is committed before the head looks at pending/ again",
    "known_is_pending": "pending/ID.NAME is a job's file only while that job is pending under this name",
    "adopt_unknown": "what no event knows in an older claim directory goes to the head's own, not to pending/",
    "ranks_first": "a gang with a lost node is given up when its ranks on the other nodes are gone",
    "held_is_listed": "an attempt stays in assigned.json, with `stop`, until its slots are free",
    "spawn_fence": "no supervisor spawns a job when the runner's last renewal is beyond the limit",
}

Scenario = namedtuple(
    "Scenario",
    "heads nodes gang drop user budget cancel rerun stale runners late",
    defaults=(1, 1, 1, "a", (), {}, False, False, False, True, False),
)


class Model(Nodes):
    """Heads, projections and users; the nodes are in runner.py."""

    def __init__(self, scenario, without=()):
        self.s, self.on = scenario, {rule: rule not in without for rule in RULES}
        self.live = scenario.runners  # whether all jobs can come to their end

    def start(self):
        s = self.s
        files = frozenset(("pending/" + n, (k + 1, 0)) for k, n in enumerate(s.drop))
        nothing = Assigned((0, 0), 0, frozenset())
        return World(
            files,
            frozenset(),
            frozenset(f for _, f in files),
            (),
            ((nothing, nothing),) * s.nodes,
            (Status((0, 0), NEVER, 1, frozenset()),) * s.nodes,
            (OFF,) * s.heads,
            (Node(True, (0, 0), frozenset(), NEVER, 1, frozenset(), (0, 0), frozenset(), None, (0, 0), False, s.late),)
            * s.nodes,
            frozenset(s.user),
            tuple(sorted(s.budget.items())),
            s.cancel,
            "",
        )

    # ---- history: what the event files say

    def history(self, events, epoch, length):
        """Valid events up to `length` of `epoch`; its seal says how much of each earlier epoch counts."""
        own = events[epoch - 1][:length]
        if not own:  # claimed but never sealed
            return self.history(events, epoch - 1, None) if epoch > 1 else ()
        log = ()
        if self.on["seal_chain"]:
            for earlier, end in own[0][1]:
                log += events[earlier - 1][1 : end if self.on["seal"] else None]
        elif own[0][1]:
            earlier, end = own[0][1][-1]
            end = end if self.on["seal"] else None
            log = self.history(events, earlier, end)
        return log + own[1:]

    def truth(self, w):
        """The history that a head taking over now would find."""
        for epoch in range(len(w.events), 0, -1):
            if w.events[epoch - 1]:
                return self.history(w.events, epoch, None)
        return ()

    # ---- small helpers

    def spend(self, w, what):
        left = dict(w.budget)
        if not left.get(what):
            return None
        left[what] -= 1
        return w._replace(budget=tuple(sorted(left.items())))

    @staticmethod
    def move(w, source, target):
        files = dict(w.files)
        file = files.pop(source, None)
        if file is None:
            return None
        files[target] = file  # rename(2) replaces without asking
        return w._replace(files=frozenset(files.items()))

    def content(self, log, node):
        jobs, _, given_up, _ = fold(log)
        rows = {(i, j.attempt, "run") for i, j in jobs.items() if j.state == "RUN" and node in j.slots}
        if self.on["explicit_stop"]:
            rows |= {(i, j.attempt, "stop") for i, j in jobs.items() if j.state == "STOP" and node in j.slots}
            rows |= {
                (*a, "stop")
                for a, slots in given_up.items()
                if node in slots and (self.on["held_is_listed"] or jobs[a[0]].state != "DONE")
            }
        return frozenset(rows)

    # ---- the head: observe and decide (pure)

    def new_files(self, w, log):
        """Names in pending/ that are no waiting job's: files to be accepted."""
        known = {j.name for j in fold(log)[0].values() if j.state == "PENDING" or not self.on["known_is_pending"]}
        return sorted(p[8:] for p, _ in w.files if p.startswith("pending/") and p[8:] not in known)

    def decide(self, w, k, h):
        batch, log, files = [], h.log, dict(w.files)

        def add(*event):
            return batch.append(event)

        def now():
            return fold(log + tuple(batch))

        for i, j in now()[0].items():
            at = "pending/" + j.name
            if j.state == "PENDING" and at not in files:
                add("end", i, "DELETED")
            elif j.state == "PENDING" and files[at] != j.file:
                add("edit", i, files[at])
        if self.on["accept_claims"]:
            new = [(p.split("@")[1], f) for p, f in files.items() if p.startswith(self.folder(k, h) + "@")]
        else:
            new = [(name, files["pending/" + name]) for name in self.new_files(w, log)]
        for name, file in sorted(new):
            i = max(now()[0], default=0) + 1
            add("accept", i, f"{i}.{plain(name)}", file)

        def phase(node, i, attempt):
            return next((p for a, b, p in w.status[node].phases if (a, b) == (i, attempt)), None)

        def over(node, i, attempt):
            if not self.on["confirm_gone"]:
                return "gone"
            found = phase(node, i, attempt)
            if not self.on["explicit_stop"] and found is None:
                return "gone"  # "status.json does not show it, so it is gone"
            return found if found in ("exit", "gone") else None

        for i, j in now()[0].items():
            ends = [over(n, i, j.attempt) for n in j.slots]
            silent = tuple(n for n in j.slots if w.nodes[n].silent)
            heard = [end for n, end in zip(j.slots, ends, strict=True) if n not in silent]
            if j.state == "RUN":
                seen = [phase(n, i, j.attempt) for n in j.slots]
                if all(p in ("exit", "gone") for p in seen):
                    add("end", i, "OK" if all(p == "exit" for p in seen) else "FAILED")
                elif silent and (all(heard) or not self.on["ranks_first"]):
                    add("lost", i, j.attempt, "AGAIN" if self.s.rerun else "FAILED", silent)
                elif silent or "gone" in seen or (w.cancel and i == 1):
                    add("cancel", i)  # one rank failed, or the user asked
            elif j.state == "STOP" and all(ends):
                add("end", i, "CANCELLED")
            elif j.state == "STOP" and silent and all(heard):
                add("lost", i, j.attempt, "AGAIN" if self.s.rerun else "FAILED", silent)
        for (i, attempt), slots in now()[2].items():
            if all(over(n, i, attempt) for n in slots):
                add("gone", i, attempt)
        for i in sorted(now()[0]):
            j, held = now()[0][i], now()[1]
            free = [n for n in range(self.s.nodes) if n not in held and not w.nodes[n].silent]
            if j.state in ("PENDING", "AGAIN") and len(free) >= self.s.gang:
                add("start", i, j.attempt + 1, tuple(free[: self.s.gang]))
        return tuple(batch)

    def folder(self, k, h):
        return f"claims/{h.epoch}.{k + 1}/"

    def claimed(self, k, h, name):
        return self.folder(k, h) + name if self.on["claim_directory"] else "running/" + name

    def plan(self, w, k, h, batch, everything):
        """The projection steps that follow a commit; after a take-over those of the whole state."""
        jobs = fold(h.log)[0]
        touched = sorted(set(jobs) if everything else {e[1] for e in batch})
        listed = dict(w.files)
        taken = {f: p for p, f in listed.items() if p.startswith(self.folder(k, h) + "@")}
        out = [
            ("out", i, taken[jobs[i].file])
            for i in touched
            if jobs[i].file in taken and jobs[i].state in ("PENDING", "RUN")
        ]
        if not self.on["accept_claims"]:
            out = [("out", e[1], "pending/" + plain(e[2])) for e in batch if e[0] == "accept"]
        claims = [
            ("claim", i)
            for i in touched
            if jobs[i].state == "RUN"
            and not jobs[i].again
            and jobs[i].file not in taken
            and not (self.on["look_first"] and "running/" + jobs[i].name in listed)
        ]
        finish = [("finish", i) for i in touched if jobs[i].state == "DONE"]
        assign = [("assign", n) for n in (range(self.s.nodes) if everything or touched else ())]
        back = [
            ("put back", i)
            for i, j in jobs.items()
            if j.state == "PENDING" and "+" in j.name and self.claimed(k, h, j.name.rsplit("+", 1)[0]) in listed
        ]
        moves = back + out + claims
        return tuple((moves + assign if self.on["claim_first"] else assign + moves) + finish)

    # ---- the head: steps

    def head_steps(self, w, k):
        h = w.heads[k]

        def become(world, **new):
            return world._replace(heads=put(world.heads, k, h._replace(**new)))

        def off(world):
            return world._replace(heads=put(world.heads, k, OFF))

        who = f"head{k + 1}"
        if h.mode != "off":
            crashed = self.spend(w, "head crash")
            if crashed:
                yield f"{who} is killed", "fault", off(crashed)
        if h.mode == "off":
            leads = any(o.mode != "off" and (o.epoch == len(w.events) or o.mode in ("listed", "link")) for o in w.heads)
            world = self.spend(w, "takeover") if leads else w
            if world:
                yield (
                    f"{who} lists events/, newest is {len(w.events)}",
                    "fault" if leads else "step",
                    become(world, mode="listed", epoch=len(w.events) + 1),
                )
        elif h.mode == "listed":
            yield (
                f"{who} makes claims/{h.epoch}.{k + 1}/",
                "step",
                become(w._replace(dirs=w.dirs | {(h.epoch, k + 1)}), mode="link"),
            )
        elif h.mode == "link":
            if len(w.events) >= h.epoch:
                yield f"{who} finds epoch {h.epoch} taken", "step", off(w)
            else:
                yield (
                    f"{who} claims epoch {h.epoch}",
                    "step",
                    become(w._replace(events=(*w.events, ())), mode="read", extra=(h.epoch - 1, ())),
                )
        elif h.mode == "read":
            epoch, seals = h.extra
            length = len(w.events[epoch - 1]) if epoch else 0
            found = ((epoch, length),) if epoch else ()
            if length:  # that epoch was sealed: it knows the earlier ones
                seals = w.events[epoch - 1][0][1] + found + seals if self.on["seal_chain"] else found + seals
            else:
                seals = found + seals
            label = f"{who} reads events/{epoch}: {length} records"
            if epoch > 1 and not length:
                yield label, "step", become(w, extra=(epoch - 1, seals))
            else:
                log = self.history((*w.events[: h.epoch - 1], (("seal", seals),)), h.epoch, None)
                seals = seals if self.on["seal_chain"] else seals[-1:]
                yield label, "step", become(w, mode="append", todo=(("seal", seals),), log=log, extra=None)
        elif h.mode == "append":
            file = w.events[h.epoch - 1]
            for cut in range(1, len(h.todo)):  # a torn append: only a prefix survives
                torn = self.spend(w, "head crash")
                if torn:
                    yield (
                        f"{who} is killed while appending, {cut} of {len(h.todo)} records are left",
                        "fault",
                        off(torn._replace(events=put(w.events, h.epoch - 1, file + h.todo[:cut]))),
                    )
            new = tuple(e for e in h.todo if e[0] != "seal")
            yield (
                f"{who} appends to events/{h.epoch}: {list(h.todo)}",
                "step",
                become(
                    w._replace(events=put(w.events, h.epoch - 1, file + h.todo)),
                    mode="check",
                    log=h.log + new,
                    extra=h.extra or not file,
                ),
            )
        elif h.mode == "check":
            if self.on["epoch_check"] and len(w.events) > h.epoch:
                yield f"{who} lists events/, sees a newer epoch, stops", "step", off(w)
            else:
                yield (
                    f"{who} lists events/, still the newest",
                    "step",
                    become(
                        w,
                        mode="project",
                        extra=None,
                        todo=(("clear",),) if h.extra else self.plan(w, k, h, h.todo, False),
                    ),
                )
        elif h.mode == "project" and not h.todo:
            yield f"{who} ends its tick", "step", become(w, mode="ready")
        elif h.mode == "ready" and self.on["accept_claims"] and self.new_files(w, h.log):
            new = self.new_files(w, h.log)
            yield (
                f"{who} looks and finds new files {new}",
                "step",
                become(
                    w,
                    mode="project",
                    todo=tuple(("take", name) for name in new) + (("decide",),) * self.on["decide_at_once"],
                ),
            )
        elif h.mode == "ready":
            batch = self.decide(w, k, h)

            def unread(n):
                return (
                    w.status[n].reads != h.wrote[n] if self.on["rewrite_unread"] else w.status[n].seen < h.wrote[n][0]
                )

            stale = tuple(
                ("assign", n)
                for n in range(self.s.nodes)
                if h.wrote
                and (unread(n) or (self.on["incarnation"] and w.status[n].incarnation != h.wrote[n][1]))
                and w.assigned[n][0] != self.desired(w, h, n, h.wrote[n][0])
            )
            if batch:
                yield f"{who} looks and decides {list(batch)}", "step", become(w, mode="append", todo=batch)
            elif stale:
                yield (
                    f"{who} looks: a runner did not read what was written",
                    "step",
                    become(w, mode="project", todo=stale),
                )
        elif h.mode == "project" and h.todo[0][0] == "decide":
            batch = self.decide(w, k, h)
            yield f"{who} decides {list(batch)}", "step", become(w, mode="append" if batch else "ready", todo=batch)
        elif h.mode == "project":
            for label, kind, world, todo in self.project(w, k, h, h.todo[0]):
                if todo is None:
                    yield f"{who} {label}", kind, off(world)
                elif todo and todo[0] == "commit":
                    yield f"{who} {label}", kind, become(world, mode="append", todo=todo[1:], extra=True)
                else:
                    rest = todo + h.todo[1:]
                    if h.todo[0][0] == "assign":
                        n = h.todo[0][1]
                        new = world.assigned[n][0]
                        wrote = h.wrote or (NEVER,) * self.s.nodes
                        yield (
                            f"{who} {label}",
                            kind,
                            become(world, todo=rest, wrote=put(wrote, n, (new.version, new.incarnation))),
                        )
                    else:
                        yield f"{who} {label}", kind, become(world, todo=rest)

    def desired(self, w, h, n, version):
        return Assigned(version, w.status[n].incarnation if self.on["incarnation"] else 0, self.content(h.log, n))

    def project(self, w, k, h, step):
        """-> (label, kind, world, what to do next: steps | ("commit", event ...) | None for stop)"""
        jobs = fold(h.log)[0]
        files = dict(w.files)
        if step[0] == "assign":
            n = step[1]
            new = self.desired(w, h, n, (h.epoch, len(w.events[h.epoch - 1])))
            yield (
                f"writes assigned.json of node {n}: version {new.version} {sorted(new.jobs)}",
                "step",
                w._replace(assigned=put(w.assigned, n, (new, w.assigned[n][0]))),
                (),
            )
            return
        if step[0] == "clear":
            yield from self.clear(w, k, h, jobs, files)
            return
        if step[0] == "take":
            source, target = "pending/" + step[1], self.folder(k, h) + "@" + step[1]
            if (h.epoch, k + 1) not in w.dirs:
                yield f"finds {self.folder(k, h)} fenced off, stops", "step", w, None
            else:
                world = self.move(w, source, target)
                yield (
                    (f"renames {source} to {target} and reads it", "step", world, ())
                    if world
                    else (f"gets ENOENT for {source}: not its file any more", "step", w, ())
                )
            return
        i = step[1]
        job = jobs[i]
        waiting, running = "pending/" + job.name, "running/" + job.name
        place = self.claimed(k, h, job.name)
        if step[0] == "out":  # accepted: to pending/, or to running/ where it starts now
            target = running if job.state == "RUN" and self.on["accept_claims"] else waiting
            world = self.move(w, step[2], target)
            yield (
                (f"renames {step[2]} to {target}", "step", world, ())
                if world
                else (f"misses {step[2]}, stops", "step", w, None)
            )
        elif step[0] == "claim":
            fenced = self.on["claim_directory"] and (h.epoch, k + 1) not in w.dirs
            after = (("verify", i),)
            world = None if fenced else self.move(w, waiting, place)
            if fenced:
                yield f"finds {place} fenced off, stops", "step", w, None
            elif world:
                yield f"renames {waiting} to {place}", "step", world, after
                lost = self.spend(world, "lost reply")
                if lost:
                    yield (
                        f"renames {waiting} to {place}, but is told ENOENT",
                        "fault",
                        lost,
                        after if self.on["believe_listing"] else ("commit", ("end", i, "DELETED")),
                    )
            elif self.on["believe_listing"] and (place in files or running in files):
                yield f"gets ENOENT, but sees {job.name} claimed", "step", w, after if place in files else ()
            else:
                yield f"gets ENOENT: {waiting} was deleted", "step", w, ("commit", ("end", i, "DELETED"))
        elif step[0] == "verify":
            if place not in files:
                yield f"misses {place}, stops", "step", w, None if running not in files else ()
            elif self.on["verify_claim"] and files[place] != job.file:
                yield (
                    f"sees that {place} is not what was accepted",
                    "step",
                    w,
                    ("commit", ("return", i, f"{job.name}+{h.epoch}")),
                )
            elif place == running:
                yield f"accepts {running}", "step", w, ()
            else:
                yield f"compares {place}, renames it to {running}", "step", self.move(w, place, running), ()
        elif step[0] == "put back":  # its own claims only; older ones: see `clear`
            source = self.claimed(k, h, job.name.rsplit("+", 1)[0])
            yield f"puts {source} back as {waiting}", "step", self.move(w, source, waiting) or w, ()
        elif step[0] == "finish":
            world = self.move(w, running, f"done/{job.name}.{job.result}")
            yield (
                (f"renames {running} to done/", "step", world, ())
                if world
                else (f"finds nothing of {i} in running/", "step", w, ())
            )

    def clear(self, w, k, h, jobs, files):
        """A new head empties and removes the claim directories of every other head, as old or older."""
        others = sorted(d for d in w.dirs if d != (h.epoch, k + 1) and d[0] <= h.epoch) * self.on["claim_directory"]
        if not others:
            yield "sees no older claims, lists what is to be projected", "step", w, self.plan(w, k, h, (), True)
            return
        folder = f"claims/{others[0][0]}.{others[0][1]}/"
        inside = sorted(p for p in files if p.startswith(folder))
        if not inside:
            yield f"removes {folder}", "step", w._replace(dirs=w.dirs - {others[0]}), (("clear",),)
            return
        place, name = inside[0], inside[0][len(folder) :]
        if name.startswith("@"):  # taken to be accepted: was it?
            job = next((j for j in jobs.values() if j.file == files[place]), None)
            if job:
                target = ("running/" if job.state == "RUN" else "pending/") + job.name
            elif self.on["adopt_unknown"]:
                target = f"{self.folder(k, h)}{name}+{h.epoch}"
                while target in files:  # only this head writes here: looking is enough
                    target += "+"
            else:
                target = "pending/" + name[1:]
            yield f"renames {place} to {target}", "step", self.move(w, place, target), (("clear",),)
            return
        ident = int(name.split(".")[0])
        job = jobs.get(ident, UNKNOWN)
        if job.state == "RUN" and "running/" + job.name not in files:
            if files[place] == job.file or not self.on["verify_claim"]:
                yield (
                    f"renames {place} to running/{job.name}",
                    "step",
                    self.move(w, place, "running/" + job.name),
                    (("clear",),),
                )
            else:
                yield (
                    f"sees that {place} is not what was accepted",
                    "step",
                    w,
                    ("commit", ("return", ident, f"{name}+{h.epoch}")),
                )
        else:
            yield (
                f"puts {place} back as pending/{job.name}",
                "step",
                self.move(w, place, "pending/" + job.name),
                (("clear",),),
            )

    # ---- the user

    def user_steps(self, w):
        """Acts on the first file under its present name, NAME or ID.NAME, and drops others."""
        files = dict(w.files)
        mine = [p for p, f in w.files if p.startswith("pending/") and f[0] == 1]
        shown = [p for p in files if plain(p.split("/")[-1]) != p.split("/")[-1] and p.split("/")[-1].startswith("1.")]
        for act in w.user:
            left = w._replace(user=w.user - {act})

            def drop(path, file, lost=frozenset(), left=left):
                return left._replace(files=frozenset({**files, path: file}.items()), owned=w.owned - lost | {file})

            if act == "delete" and mine:
                yield (
                    f"user deletes {mine[0]}",
                    "user",
                    left._replace(files=w.files - {(mine[0], files[mine[0]])}, owned=w.owned - {files[mine[0]]}),
                )
            elif act == "edit" and mine:
                old = files[mine[0]]
                yield f"user edits {mine[0]}", "user", drop(mine[0], (old[0], old[1] + 1), {old})
            elif act == "again" and "pending/a" not in files:
                yield "user drops another pending/a", "user", drop("pending/a", (9, 0))
            elif act == "forge" and shown:  # a name that the user has seen: replaces, or lies beside
                yield "user drops pending/1.a", "user", drop("pending/1.a", (8, 0), {files.get("pending/1.a")})

    # ---- verdicts

    def broken(self, w):
        if w.bad:
            return w.bad
        places = {}
        for path, file in w.files:
            places.setdefault(file, []).append(path)
        for file in w.owned:
            if file not in places:
                return f"P6: file {file}, which the user did not delete, is nowhere"
            if len(places[file]) > 1:
                return f"P2: file {file} is at {places[file]}"
        jobs, _, _, error = fold(self.truth(w))
        if error:
            return "P3: " + error
        for i, j in jobs.items():
            if j.result == "DELETED" and any(
                (f == j.file and p == "pending/" + j.name) or p.startswith((f"running/{i}.", f"done/{i}."))
                for p, f in w.files
                if f in w.owned
            ):
                return f"P6: job {i} is ended as deleted, though its file {j.file} is there"
        ids = [p.split("/")[-1].split(".")[0] for p, _ in w.files if p.startswith(("running/", "done/"))]
        if len(ids) != len(set(ids)):
            return "P2: two files of one ID"
        return ""

    def finished(self, w):
        jobs, held, _, _ = fold(self.truth(w))
        return (
            all(p.startswith("done/") for p, _ in w.files)
            and not held
            and all(j.state == "DONE" for j in jobs.values())
            and not any(p in LIVE for node in w.nodes for _, _, p in node.procs)
        )

    def steps(self, w):
        for k in range(self.s.heads):
            yield from self.head_steps(w, k)
        for n in range(self.s.nodes if self.s.runners else 0):
            yield from self.node_steps(w, n)
        yield from self.user_steps(w)


SCENARIOS = {
    "plain": Scenario(drop="ab"),
    "two heads, two jobs": Scenario(heads=2, drop="ab", budget={"takeover": 1}),
    "head killed anywhere": Scenario(heads=1, drop="ab", budget={"head crash": 2}),
    "unsealed epoch": Scenario(heads=2, drop="a", budget={"takeover": 2, "head crash": 1}, runners=False),
    "three heads": Scenario(heads=3, drop="a", budget={"takeover": 2}, runners=False),
    "same name again": Scenario(heads=1, user=("again",), budget={"head crash": 1}),
    "same name, two heads": Scenario(heads=2, user=("again",), budget={"takeover": 1}),
    "delete while claimed": Scenario(heads=2, user=("delete",), budget={"takeover": 1}),
    "edit while claimed": Scenario(heads=2, user=("edit",), budget={"takeover": 1}),
    "edit, delete, drop again": Scenario(user=("edit", "delete", "again"), budget={"head crash": 1}),
    "lost reply of a rename": Scenario(user=("delete",), budget={"lost reply": 1, "head crash": 1}),
    "once beside a daemon": Scenario(heads=2, budget={"takeover": 1, "head crash": 1}),
    "gang on two nodes": Scenario(heads=2, nodes=2, gang=2, budget={"takeover": 1}),
    "gang, head killed": Scenario(nodes=2, gang=2, budget={"head crash": 2}),
    "gang, runner killed": Scenario(nodes=2, gang=2, budget={"runner crash": 1}),
    "cancel races finish": Scenario(heads=2, cancel=True, budget={"takeover": 1}),
    "cancel, two jobs": Scenario(heads=1, drop="ab", cancel=True, budget={"runner crash": 1}, stale=True),
    "deposed writer": Scenario(heads=2, budget={"takeover": 1, "runner crash": 1}),
    "runner killed anywhere": Scenario(drop="ab", budget={"runner crash": 2}, stale=True),
    "node lost, run again": Scenario(nodes=2, rerun=True, budget={"cut": 1, "silence": 1}),
    "runner lost, run again": Scenario(nodes=2, rerun=True, budget={"runner crash": 1, "silence": 1}),
    # accepting by a claim; the user at NAME and ID.NAME while the job waits (its node is heard late)
    "waits: edit, delete, drop": Scenario(late=True, user=("edit", "delete", "again"), budget={"head crash": 1}),
    "waits: forge, drop": Scenario(late=True, user=("forge", "again"), budget={"head crash": 1}),
    "waits: delete, two heads": Scenario(heads=2, late=True, user=("delete",), budget={"takeover": 1}),
    "waits: edit, two heads": Scenario(heads=2, late=True, user=("edit",), budget={"takeover": 1}),
    "waits: forge, two heads": Scenario(heads=2, late=True, user=("forge",), budget={"takeover": 1}),
    "waits: forge, lost reply": Scenario(
        late=True, user=("forge", "delete"), budget={"lost reply": 1, "head crash": 1}
    ),
    "node lost": Scenario(drop="ab", budget={"cut": 1, "silence": 1, "head crash": 1}),
    "runner lost": Scenario(drop="ab", budget={"runner crash": 1, "silence": 1}),
    "gang, node lost": Scenario(nodes=2, gang=2, budget={"cut": 1, "silence": 1}),
    "gang, node lost, run again": Scenario(nodes=2, gang=2, rerun=True, budget={"cut": 1, "silence": 1}),
}

SLOW = ("gang on two nodes", "gang, node lost, run again", "waits: forge, two heads")

NEEDED = {  # where each rule shows its worth
    "epoch_check": "delete while claimed",
    "seal": "delete while claimed",
    "runner_refuses": "cancel, two jobs",
    "start_marker": "plain",
    "confirm_gone": "cancel, two jobs",
    "seal_chain": "unsealed epoch",
    "look_first": "waits: forge, drop",
    "believe_listing": "lost reply of a rename",
    "claim_directory": "same name, two heads",
    "verify_claim": "waits: edit, two heads",
    "claim_first": "delete while claimed",
    "explicit_stop": "cancel, two jobs",
    "remember_seen": "deposed writer",
    "rewrite_unread": "deposed writer",
    "leave_omitted": "cancel, two jobs",
    "forget_late": "runner killed anywhere",
    "supervisor_marks": "runner killed anywhere",
    "supervisor_fences": "runner lost, run again",
    "incarnation": "runner lost, run again",
    "accept_claims": "edit while claimed",
    "decide_at_once": "same name again",
    "known_is_pending": "waits: forge, drop",
    "adopt_unknown": "same name again",
    "held_is_listed": "runner lost",
    "spawn_fence": "runner lost",
    "ranks_first": "gang, node lost",
}


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
