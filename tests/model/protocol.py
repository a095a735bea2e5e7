"""Exhaustive model of the spool protocol: every interleaving of small scenarios.

    python -m tests.model.protocol                       the scenarios of the protocol;  --slow  the longest ones
    python -m tests.model.protocol --without RULE ...    leave rules out; prints the shortest counterexample
    python -m tests.model.protocol --table               each rule left out in turn, in the scenario that needs it
    python -m tests.model.protocol --scenario NAME ...   only these;  --list  names scenarios and rules

One transition is one atomic file-system step of one process, or one fault. A process may stop between any two steps for
ever (crash) or for any time (pause).
Here are the rules and the promises. Heads: head.py (leading, committing), deciding.py, projecting.py, claims.py;
nodes: runner.py, supervisor.py; users: user.py; what is searched: scenarios.py; the search: explorer.py. Ledger
generations and clients have a model of their own, ledger.py.
Checked in every state: the promises (see `broken`). Checked at the end: from every reachable state, steps without
faults or users lead to "all jobs done".
"""

import sys

from tests.model.explorer import main
from tests.model.head import Heads
from tests.model.runner import Nodes
from tests.model.scenarios import NEEDED, SCENARIOS, SLOW
from tests.model.state import ALIVE, NEVER, OFF, UNKNOWN, Assigned, Node, Status, World
from tests.model.user import Users
from tests.model.views import Views

__all__ = ["NEEDED", "RULES", "SCENARIOS", "SLOW", "Model"]

RULES = {
    # heads: who leads, what counts
    "epoch_check": "after each commit a head lists events/ and stops if a newer epoch exists",
    "seal": "events beyond the offset that the next epoch wrote down are void",
    "seal_chain": "the first event seals every earlier epoch, not only the last one",
    "effects_first": "in an append, what a request brings about comes before the note that it was carried out",
    # heads: users' files
    "accept_claims": "a new file is claimed before it is read and given its ID",
    "claim_directory": "claims go through claims/EPOCH.TOKEN/, which the next head empties and removes",
    "count_claims": "the name of a new claim is used once in a head's directory",
    "named_claims": "a file in an older claim directory is the accepted job's if an event names this claim",
    "adopt_unknown": "what no event knows in an older claim directory goes to the head's own, not to pending/",
    "known_is_pending": "pending/ID.NAME is a job's file only while that job is pending under this name",
    "look_first": "a claim is not redone where running/ID.NAME is already listed",
    "believe_listing": "ENOENT of a claim is believed only when no listing shows the claimed file",
    "verify_claim": "what was claimed is compared with what was accepted before it may run",
    "problem_waits": "a job whose file was found changed is not granted again before `edited` was committed",
    "edited_anyway": "of such a job `edited` is committed also where its text is the accepted one again",
    "clear_once": "what stands in pending/ under the name of an ended job is new where done/ has that job's file",
    "handed_over": "a new head claims no file of an attempt that a node was told of",
    "leave_missing": "it ends no started attempt whose file is nowhere: its nodes tell",
    "leave_changed": "it takes back none whose file is another one by now: that file is new",
    # heads and nodes
    "claim_first": "assigned.json names an attempt only after its file stands in running/",
    "rewrite_unread": "a head rewrites assigned.json when status.json reports another one as last read",
    "explicit_stop": "an attempt is revoked by `stop`, not by leaving it out of assigned.json",
    "held_is_listed": "an attempt stays in assigned.json, with `stop`, until its slots are free",
    "confirm_gone": "a slot is free only when the runner has confirmed that the attempt is gone",
    "ranks_first": "a gang with a lost node is given up when its ranks on the other nodes are gone",
    "wait_for_left": "a node that left on purpose is given up only with a job that is to end",
    "wait_to_rerun": "nor with one that is stopped so that it may run again",
    "fenced_waits": "a job that may run again and was ended, or not begun, by its own node waits again",
    "fenced_ranks_first": "it does so when its ranks on the other nodes are gone",
    # nodes
    "runner_refuses": "a runner refuses an assigned.json lower than it has seen",
    "remember_seen": "a restarted runner takes `seen` from its own status.json",
    "leave_omitted": "what assigned.json does not mention is left alone; only `stop` stops",
    "forget_late": "an attempt is forgotten when a later version omits it, and status.json says so",
    "runner_compares": "a runner starts only the text that was accepted",
    "start_marker": "an attempt is marked durably before it is spawned, and never spawned twice",
    "supervisor_marks": "the supervisor makes the marker itself, just before it spawns the job",
    # nodes: time
    "incarnation": "a runner starts only what is addressed to its present incarnation",
    "spawn_fence": "no supervisor spawns a job when the runner's last renewal is beyond the limit",
    "successor_fence": "nor does it spawn `run` after `setup` then",
    "left_starts_nothing": "nor does it then begin what was ordered by a runner that left on purpose",
    "left_orders_end": "nor later: what such a runner had ordered, and nobody begun, its successor settles as `never`",
    "note_incarnation": "that one is another incarnation, and notes so before its first report",
    "count_lapses": "nor when the limit was exceeded since the attempt was ordered, or `go` said",
    "go_anew": "a runner says `go` again after a lapse",
    "supervisor_fences": "the supervisor, not only the runner, keeps the time rule",
    "renewal_counts": "a runner counts a lapse also when it renews, after it has written status.json",
    "tighten_first": "a runner that follows one that left sets the limit before it writes status.json",
}


class Model(Heads, Nodes, Users, Views):
    """One scenario, with some rules left out."""

    def __init__(self, scenario, without=()):
        self.s, self.on = scenario, {rule: rule not in without for rule in RULES}
        self.live = scenario.runners  # whether all jobs can come to their end
        self.timed = {n for n in range(scenario.nodes) if self.may_fall_silent(n)}
        self.histories, self.views, self.in_running, self.sound, self.prefix = {}, {}, {}, set(), []

    def may_fall_silent(self, n):
        """Whether time matters on a node."""
        faults = {"cut", "runner crash", "leave"} & self.s.budget.keys()
        return "silence" in self.s.budget and any(self.s.where.get(fault, n) == n for fault in faults)

    def start(self):
        """The state from which on everything is searched: the first one, or where the steps of `s.begin` were taken,
        with those that the head named last needs for them."""
        world, self.prefix, head = self.first(), [], "head1"
        for goal in self.s.begin:
            head = goal.split()[0] if goal.startswith("head") else head
            while not (self.prefix and self.prefix[-1].startswith(goal)):
                steps = list(self.steps(world))
                wanted = [step for step in steps if step[0].startswith(goal)]
                on_the_way = [step for step in steps if step[0].startswith(head) and step[1] == "step"]
                label, _, world = (wanted or on_the_way)[0]
                self.prefix.append(label)
        return world

    def first(self):
        s = self.s
        files = frozenset(("pending/" + name, (k, name)) for k, name in enumerate(s.drop, 1))
        node = Node(
            True, False, s.late, False, False, False, 0, False, 0, 0, 1, (0, 0), NEVER, None, True, None, frozenset()
        )
        return World(
            files,
            frozenset(),
            frozenset(f for _, f in files),
            frozenset(),
            (),
            ((Assigned((0, 0), 0, frozenset()),),) * s.nodes,
            (Status((0, 0), NEVER, 1, False, frozenset()),) * s.nodes,
            (OFF,) * s.heads,
            (node,) * s.nodes,
            frozenset(s.user),
            tuple(sorted(s.budget.items())),
            "",
        )

    def spend(self, w, what, n=None):
        """The world with one fault of a kind less to come; None: there are none left, or none on this node."""
        if n is not None and self.s.where.get(what, n) != n:
            return None
        for at, (name, left) in enumerate(w.budget):
            if name == what and left:
                return w._replace(budget=(*w.budget[:at], (name, left - 1), *w.budget[at + 1 :]))
        return None

    # ---- verdicts

    def broken(self, w):
        """What is wrong with a state; "" for nothing."""
        if w.bad:
            return w.bad
        log = self.truth(w)
        judged = (w.files, w.owned, log, *[node.attempts for node in w.nodes])  # all that the verdict depends on
        if judged in self.sound:
            return ""
        problem = self.misplaced(w, log.state) or self.misjudged(w, log.state) or self.shared(w, log.state)
        if not problem:
            self.sound.add(judged)
        return problem

    @staticmethod
    def misplaced(w, state):
        """P2, P6: no file of a user is lost, or in two places, or in the place of another job's."""
        places = {}
        for path, file in w.files:
            places.setdefault(file, []).append(path)
        for file in w.owned:
            if file not in places:
                return f"P6: file {file}, which the user did not delete, is nowhere"
            if len(places[file]) > 1:
                return f"P2: file {file} is at {places[file]}"
        ids = set()
        for path, file in w.files:
            if path.startswith(("running/", "done/")):
                ident = int(path.split("/")[-1].split(".")[0])
                if ident in ids:
                    return "P2: two files of one ID"
                ids.add(ident)
                if file[0] not in {f[0] for f in state.jobs.get(ident, UNKNOWN).files}:
                    return f"P6: {path} is {file}, which was never accepted as job {ident}"
        return ""

    def misjudged(self, w, state):
        """P3: no slot and no ID is given twice. P6: no job ends that should not."""
        if state.error:
            return "P3: " + state.error
        for i, job in state.jobs.items():
            if job.result == "DELETED" and any(
                (f == job.file and p == "pending/" + job.name) or p.startswith((f"running/{i}.", f"done/{i}."))
                for p, f in w.files
                if f in w.owned
            ):
                return f"P6: job {i} is ended as deleted, though its file {job.file} is there"
            if job.problem > 1:
                return f"stuck: job {i} is granted and taken back again and again, and nothing has changed"
            if job.result == "FAILED" and self.s.rerun:
                return f"P6: job {i} has failed, though it asks to run again and nothing of its own went wrong"
        job = state.jobs.get(1)
        if state.due and job.state != "DONE" and job.stop is None:
            return "P6: a request is recorded as carried out, and job 1 goes on"
        return ""

    @staticmethod
    def shared(w, state):
        """P3, P4: whatever lives holds its slot, and a job that waits does not live."""
        for n, node in enumerate(w.nodes):
            for a in node.attempts:
                if a.phase in ALIVE and state.held.get(n) != a[:2]:
                    holder = state.held.get(n, "nobody")
                    return f"P3: the slot of node {n} is held by {holder} while {a[:2]} lives there"
                if a.phase in ALIVE and state.jobs.get(a.id, UNKNOWN).state == "PENDING":
                    return f"P4: job {a.id} waits to run again while {a[:2]} lives on node {n}"
        return ""

    def finished(self, w):
        state = self.truth(w).state
        return (
            all(p.startswith("done/") for p, _ in w.files)
            and not state.held
            and all(job.state == "DONE" for job in state.jobs.values())
            and not any(a.phase in ALIVE for node in w.nodes for a in node.attempts)
        )

    def steps(self, w):
        for k in range(self.s.heads):
            yield from self.steps_of_head(w, k)
        for n in range(self.s.nodes if self.s.runners else 0):
            yield from self.steps_of_node(w, n)
        yield from self.user_steps(w)


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
