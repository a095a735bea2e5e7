"""The runner, the supervisors and the processes of a node: steps, and checks where a process starts or is stopped."""

from tests.model.explorer import put
from tests.model.state import LIVE, NEVER, UNKNOWN, Status, fold


class Nodes:
    # ---- the runner and the processes of one node

    def node_steps(self, w, n):
        node = w.nodes[n]

        def become(world, **new):
            return world._replace(nodes=put(world.nodes, n, node._replace(**new)))

        procs = {(i, a): p for i, a, p in node.procs}
        who = f"runner{n}"

        def pack(table):
            return frozenset((i, a, p) for (i, a), p in table.items())

        def spawned(world, attempt):
            if attempt in procs:
                world = world._replace(bad=f"P4: attempt {attempt} was started twice on node {n}")
            return world

        for attempt, p in procs.items():
            if p == "forked":  # the supervisor, between fork and exec
                marks = self.on["supervisor_marks"] and self.on["start_marker"]
                if marks and attempt in node.markers:
                    yield (
                        f"supervisor of {attempt} on node {n} finds the marker taken, ends",
                        "step",
                        become(w, procs=pack({a: q for a, q in procs.items() if a != attempt})),
                    )
                    continue
                mark = node.markers | {attempt} if marks else node.markers
                noted = max(node.noted, node.handed)
                world = self.runs(w, n, attempt)
                yield (
                    f"job {attempt} runs on node {n}",
                    "step",
                    become(world, markers=mark, noted=noted, procs=pack({**procs, attempt: "run"})),
                )
                if self.on["supervisor_marks"]:
                    dead = self.spend(w, "runner crash")
                    if dead:
                        yield (
                            f"supervisor of {attempt} on node {n} dies between marker and spawn",
                            "fault",
                            become(dead, markers=mark, noted=noted, procs=pack({**procs, attempt: "gone"})),
                        )
            elif p == "run":
                yield f"job {attempt} on node {n} exits", "step", become(w, procs=pack({**procs, attempt: "exit"}))
        live = [a for a, p in procs.items() if p in LIVE]
        quiet = node.cut or not node.alive
        fenced = (self.on["supervisor_fences"] and self.s.rerun) or (node.alive and self.s.rerun)
        ends = [a for a in live if fenced or (procs[a] == "forked" and self.on["spawn_fence"])]
        if quiet and ends and "silence" in self.s.budget:
            yield (
                f"time rule: node {n} ends or does not spawn {ends}",
                "step",
                become(
                    w,
                    procs=pack({a: "gone" if a in ends else p for a, p in procs.items()}),
                    markers=node.markers | set(ends),
                    desired=None,
                    spawning=None,
                    incarnation=node.incarnation + (node.alive and node.desired is not None),
                ),
            )
        if quiet and not node.silent and not ends and (not node.alive or node.desired is None):
            world = self.spend(w, "silence")
            if world:
                yield f"T passes without a heartbeat of node {n}", "fault", become(world, silent=True)
        if quiet and node.alive and not ends and node.desired is not None:
            yield (
                f"time rule: {who} starts nothing more",
                "step",
                become(w, desired=None, spawning=None, incarnation=node.incarnation + 1),
            )
        if node.cut:
            yield f"node {n} reaches the spool again", "step", become(w, cut=False)
        elif self.spend(w, "cut"):
            yield f"node {n} is cut off", "fault", become(self.spend(w, "cut"), cut=True)
        if not node.alive:
            seen = w.status[n].seen if self.on["remember_seen"] else (0, 0)
            if not node.cut:
                yield (
                    f"{who} starts again",
                    "step",
                    become(
                        w,
                        alive=True,
                        seen=seen,
                        desired=None,
                        reads=NEVER,
                        spawning=None,
                        incarnation=w.status[n].incarnation + 1,
                    ),
                )
            return
        crashed = self.spend(w, "runner crash")
        if crashed:
            yield (
                f"{who} is killed",
                "fault",
                become(crashed, alive=False, desired=None, spawning=None, seen=(0, 0), reads=NEVER),
            )
        if node.cut:
            return
        if node.spawning:  # second half of a start
            attempt = node.spawning
            yield (
                f"{who} forks the supervisor of {attempt}",
                "step",
                become(spawned(w, attempt), spawning=None, handed=node.seen, procs=pack({**procs, attempt: "forked"})),
            )
        # read assigned.json, perhaps from a stale cache
        for age, file in enumerate(w.assigned[n][: 2 if self.s.stale else 1]):
            name = (file.version, file.incarnation)
            if (name == node.reads and node.desired is not None) or node.spawning:
                continue
            if file.version < node.seen and self.on["runner_refuses"]:
                if name != node.reads:
                    yield (
                        f"{who} refuses assigned.json {file.version}, has seen {node.seen}",
                        "step",
                        become(w, reads=name),
                    )
                continue
            fits = file.incarnation == node.incarnation or not self.on["incarnation"]
            jobs = file.jobs if fits else frozenset(j for j in file.jobs if j[2] == "stop" or j[:2] in procs)
            yield (
                f"{who} reads {'a stale' if age else 'the'} assigned.json {file.version}"
                + ("" if fits else ", addressed to an older incarnation"),
                "step",
                become(w, seen=max(file.version, node.seen), reads=name, desired=jobs),
            )
        if node.desired is not None:
            wanted = {(i, a): what for i, a, what in node.desired}
            for attempt, what in wanted.items():
                if (
                    what == "run"
                    and attempt not in node.markers
                    and not node.spawning
                    and (procs.get(attempt) not in LIVE or (not self.on["start_marker"] and attempt not in procs))
                ):
                    if self.on["supervisor_marks"] or not self.on["start_marker"]:
                        if procs.get(attempt) not in LIVE:
                            yield f"{who} decides to start {attempt}", "step", become(w, spawning=attempt)
                    else:
                        yield (
                            f"{who} marks {attempt}",
                            "step",
                            become(
                                w, markers=node.markers | {attempt}, noted=max(node.noted, node.seen), spawning=attempt
                            ),
                        )
                if what == "stop" and attempt not in procs and attempt != node.spawning:
                    yield (
                        f"{who} marks {attempt} as never to be started",
                        "step",
                        become(
                            w,
                            markers=node.markers | {attempt},
                            noted=max(node.noted, node.seen),
                            procs=pack({**procs, attempt: "gone"}),
                        ),
                    )
            for attempt, p in procs.items():
                revoked = wanted.get(attempt) == "stop" or (attempt not in wanted and not self.on["leave_omitted"])
                if p in LIVE and revoked and (p == "run" or self.on["supervisor_marks"]):
                    world = self.stops(w, n, attempt)
                    yield (
                        f"{who} stops {attempt}",
                        "step",
                        become(world, markers=node.markers | {attempt}, procs=pack({**procs, attempt: "gone"})),
                    )
            told = (w.status[n].seen >= node.seen and node.reads[0] > node.noted) or not self.on["forget_late"]
            done = [a for a in node.markers if a not in wanted and procs.get(a) not in LIVE and a != node.spawning]
            if done and told and node.reads[0] == node.seen:
                yield (
                    f"{who} forgets {done}",
                    "step",
                    become(
                        w,
                        markers=node.markers - set(done),
                        procs=pack({a: p for a, p in procs.items() if a not in done}),
                    ),
                )
        phases = {
            (i, a, "run" if p in LIVE else p)
            for (i, a), p in procs.items()
            if p != "forked" or self.on["supervisor_marks"]
        }
        for attempt in node.markers - set(procs):  # a marker, but no process that anybody knows
            if attempt != node.spawning:
                phases.add((*attempt, "gone"))
        if not self.on["supervisor_marks"] and node.reads == NEVER:
            # a fresh runner knows only what was recorded: a marker without a pid looks dead
            phases |= {(i, a, "gone") for (i, a), p in procs.items() if p == "forked"}
        report = Status(node.seen, node.reads, node.incarnation, frozenset(phases))
        if report != w.status[n] or node.silent:
            yield (
                f"{who} writes status.json: seen {node.seen} {sorted(phases)}",
                "step",
                become(w._replace(status=put(w.status, n, report)), silent=False),
            )

    def runs(self, w, n, attempt):
        """Checks at the moment a job process comes to life."""
        jobs, held, _, _ = fold(self.truth(w))
        for i, a, p in w.nodes[n].procs:
            if (i, a) != attempt and p in LIVE[1:]:
                return w._replace(bad=f"P3: {attempt} and {(i, a)} use the GPU of node {n} together")
            if (i, a) != attempt and (i, a) in held.values():
                return w._replace(bad=f"P5: {attempt} runs before the outcome of {(i, a)} is durable")
        for m, node in enumerate(w.nodes):
            for i, a, p in node.procs:
                if i == attempt[0] and (a != attempt[1] and p == "run"):
                    return w._replace(bad=f"P4: {attempt} on node {n} beside {(i, a)} on node {m}")
        job = jobs.get(attempt[0], UNKNOWN)
        file = dict(w.files).get("running/" + job.name)
        if job is UNKNOWN:
            return w._replace(bad=f"P3: {attempt} runs, though no valid event started it")
        if job.state == "DONE" or attempt[1] < job.attempt:
            return w._replace(bad=f"P4: {attempt} runs after its end was recorded")
        if file != job.file and job.state == "RUN":
            return w._replace(bad=f"P2: {attempt} runs {job.file}, its file in running/ is {file}")
        return w

    def stops(self, w, n, attempt):
        jobs, _, _, _ = fold(self.truth(w))
        job = jobs.get(attempt[0], UNKNOWN)
        if job.state == "RUN" and job.attempt == attempt[1]:
            return w._replace(bad=f"running jobs undisturbed: node {n} stops {attempt}, which nobody revoked")
        return w
