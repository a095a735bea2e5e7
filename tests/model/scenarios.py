"""What is searched: small spools, what may happen to them, and which rule each of them needs."""

from collections import namedtuple

Scenario = namedtuple(
    "Scenario",
    "heads nodes gang drop user budget where begin rerun stale runners late setup",
    defaults=(1, 1, 1, "a", (), {}, {}, (), False, False, True, False, False),
)
"""
drop     the files that are dropped; each is a job that asks for a GPU on one node, or on `gang` nodes
user     what users do besides, each of it once (user.py)
budget   faults, and how many of each; "silence" is how often T may pass, without it time does not matter
where    on which node alone a fault may come, for those that would be alike on the other
begin    steps after which the search begins; before them nothing else happens
rerun    the job asks to run again where its node is lost
stale    an older assigned.json may be read
runners  False: no node does anything, and only safety is asked for
late     the nodes are heard late, so that jobs wait
setup    jobs have setup commands
"""


def begun(n, seq):
    """Node n reads the assigned.json of this number, and attempt (1, 1) runs there."""
    return (
        f"head1 writes assigned.json of node {n}: (1, {seq})",
        f"runner{n} reads the assigned.json (1, {seq})",
        f"runner{n} reads running",
        f"supervisor of (1, 1) on node {n} marks",
    )


GRANTED = ("head1 renames claims/1.1/new-1-a to running/1.a",)
RUNS = (*GRANTED, *begun(0, 2))
GANG_RUNS = (*RUNS, *begun(1, 2))
FENCED = (*GANG_RUNS, "node 0 is cut off", "the limit passes", "supervisor of (1, 1) on node 0 ends it")
LEFT = (  # before it reads that job 1 is to run there
    *GRANTED,
    "head1 writes assigned.json of node 0: (1, 2)",
    "runner0 writes status.json: seen (0, 0) [], leaves",
    "runner0 renews for ever",
)
DEPOSED = (  # head 1 is about to write assigned.json when head 2 takes over and starts job 1
    "head1 sees no older claims",
    "head2 lists events/",
    "head2 renames claims/2.2/new-1-a to running/1.a",
    "head2 writes assigned.json of node 0: (2, 2)",
)

SCENARIOS = {
    # heads that are killed, paused, overtaken
    "plain": Scenario(drop="ab"),
    "two heads, two jobs": Scenario(heads=2, drop="ab", budget={"takeover": 1}),
    "head killed anywhere": Scenario(drop="ab", budget={"head crash": 2}),
    "unsealed epoch": Scenario(heads=2, budget={"takeover": 2, "head crash": 1}, runners=False),
    "three heads": Scenario(heads=3, budget={"takeover": 2}, runners=False),
    "three heads, a node": Scenario(heads=3, budget={"takeover": 2}),
    "once beside a daemon": Scenario(heads=2, budget={"takeover": 1, "head crash": 1}),
    "deposed writer": Scenario(heads=2, budget={"takeover": 1, "runner crash": 1}),
    "lost reply of a rename": Scenario(user=("delete",), budget={"lost reply": 1, "head crash": 1}),
    # users, while a head takes and places their files
    "same name again": Scenario(user=("again",), budget={"head crash": 1}),
    "same name, two heads": Scenario(heads=2, user=("again",), budget={"takeover": 1}),
    "delete while claimed": Scenario(heads=2, user=("delete",), budget={"takeover": 1}),
    "edit while claimed": Scenario(heads=2, user=("edit",), budget={"takeover": 1}),
    "edit, delete, drop again": Scenario(user=("edit", "delete", "again"), budget={"head crash": 1}),
    "written on": Scenario(user=("write on",), budget={"head crash": 1}),
    "written on, two heads": Scenario(heads=2, user=("write on",), budget={"takeover": 1}),
    "written on, two heads, killed": Scenario(heads=2, user=("write on",), budget={"takeover": 1, "head crash": 1}),
    "copied": Scenario(user=("copy",), budget={"head crash": 1}),
    # users, while a job waits
    "waits: edit, delete, drop": Scenario(late=True, user=("edit", "delete", "again"), budget={"head crash": 1}),
    "waits: forge, drop": Scenario(late=True, user=("forge", "again"), budget={"head crash": 1}),
    "waits: delete, two heads": Scenario(heads=2, late=True, user=("delete",), budget={"takeover": 1}),
    "waits: edit, two heads": Scenario(heads=2, late=True, user=("edit",), budget={"takeover": 1}),
    "waits: forge, two heads": Scenario(heads=2, late=True, user=("forge",), budget={"takeover": 1}),
    "waits: forge, lost reply": Scenario(
        late=True, user=("forge", "delete"), budget={"lost reply": 1, "head crash": 1}
    ),
    "waits: scribble, undo": Scenario(late=True, user=("scribble", "undo"), budget={"head crash": 1}),
    "waits: scribble, two heads": Scenario(heads=2, late=True, user=("scribble",), budget={"takeover": 1}),
    "waits: written on": Scenario(late=True, user=("write on",), budget={"head crash": 2}),
    "waits: delete, drop a copy": Scenario(late=True, user=("delete", "twin"), budget={"head crash": 1}),
    # users, after a job was started
    "label removed": Scenario(user=("unlabel", "forge"), budget={"head crash": 2}),
    "label removed, copied": Scenario(user=("unlabel", "copy"), budget={"head crash": 1}, begin=RUNS),
    "label removed, deposed writer": Scenario(
        heads=2, user=("unlabel", "forge"), budget={"takeover": 1, "head crash": 1}, begin=DEPOSED
    ),
    # requests
    "cancel, head killed": Scenario(user=("cancel",), budget={"head crash": 2}),
    "cancel races finish": Scenario(heads=2, user=("cancel",), budget={"takeover": 1}),
    "cancel, two jobs": Scenario(drop="ab", user=("cancel",), budget={"runner crash": 1}, stale=True),
    "waits: cancel, forge": Scenario(late=True, user=("cancel", "forge"), budget={"head crash": 1}),
    "waits: cancel, copy": Scenario(late=True, user=("cancel", "copy"), budget={"head crash": 1}),
    # runners and supervisors that are killed
    "runner killed anywhere": Scenario(drop="ab", budget={"runner crash": 2}, stale=True),
    "supervisor killed": Scenario(drop="ab", setup=True, budget={"supervisor crash": 1, "runner crash": 1}),
    "supervisor killed, run again": Scenario(
        nodes=2, rerun=True, budget={"supervisor crash": 1, "runner crash": 1}, begin=GRANTED
    ),
    "gang on two nodes": Scenario(heads=2, nodes=2, gang=2, budget={"takeover": 1}),
    "gang, head killed": Scenario(nodes=2, gang=2, budget={"head crash": 2}),
    "gang, runner killed": Scenario(nodes=2, gang=2, budget={"runner crash": 1}),
    "gang with setup": Scenario(nodes=2, gang=2, setup=True, budget={"supervisor crash": 1, "runner crash": 1}),
    # nodes that are lost: time
    "node lost": Scenario(drop="ab", budget={"cut": 1, "silence": 1, "head crash": 1}, begin=GRANTED),
    "node lost in setup": Scenario(drop="ab", setup=True, budget={"cut": 1, "silence": 1}),
    "node lost, deposed writer": Scenario(heads=2, budget={"takeover": 1, "cut": 1, "silence": 1}, begin=DEPOSED),
    "node lost, run again": Scenario(nodes=2, rerun=True, budget={"cut": 1, "silence": 1}, begin=GRANTED),
    "node lost, run again, head killed": Scenario(
        nodes=2, rerun=True, budget={"cut": 1, "silence": 1, "head crash": 1}, where={"cut": 0}, begin=GRANTED
    ),
    "node lost, run again, stale reads": Scenario(
        nodes=2, rerun=True, budget={"cut": 1, "silence": 1}, where={"cut": 0}, stale=True, begin=GRANTED
    ),
    "node lost, supervisor killed": Scenario(
        nodes=2,
        budget={"supervisor crash": 1, "cut": 1, "silence": 1},
        where={"supervisor crash": 0, "cut": 0},
        rerun=True,
        setup=True,
        begin=GRANTED,
    ),
    "runner lost": Scenario(drop="ab", budget={"runner crash": 1, "silence": 1}, stale=True),
    "runner lost in setup": Scenario(drop="ab", setup=True, budget={"runner crash": 1, "silence": 1}),
    "runner lost, run again": Scenario(nodes=2, rerun=True, budget={"runner crash": 1, "silence": 1}, begin=GRANTED),
    "gang, node lost": Scenario(
        nodes=2, gang=2, budget={"cut": 1, "silence": 1}, where={"cut": 0}, setup=True, begin=GRANTED
    ),
    "gang, node lost, run again": Scenario(
        nodes=2, gang=2, budget={"cut": 1, "silence": 1}, where={"cut": 0}, rerun=True, begin=GRANTED
    ),
    # nodes that leave on purpose
    "node left": Scenario(drop="ab", user=("cancel",), budget={"leave": 1, "silence": 1}),
    "node left, runner killed": Scenario(
        user=("cancel",), budget={"leave": 1, "runner crash": 1, "silence": 1}, stale=True, begin=LEFT
    ),
    "node left, deposed writer": Scenario(
        heads=2, user=("cancel",), budget={"takeover": 1, "leave": 1, "silence": 1}, begin=DEPOSED
    ),
    "node left, run again": Scenario(
        nodes=2,
        budget={"leave": 1, "runner crash": 1, "silence": 1},
        where={"leave": 0, "runner crash": 0, "silence": 0},
        rerun=True,
        begin=RUNS,
    ),
    "gang, one left, one lost": Scenario(
        nodes=2,
        gang=2,
        budget={"leave": 1, "cut": 1, "silence": 1},
        where={"leave": 1, "cut": 0, "silence": 1},
        rerun=True,
        begin=FENCED,
    ),
}

SLOW = (
    "gang on two nodes",
    "gang, node lost, run again",
    "node left, deposed writer",
    "node lost, run again, head killed",
    "node lost, run again, stale reads",
    "three heads, a node",
    "written on, two heads, killed",
)

NEEDED = {  # where each rule shows its worth
    "epoch_check": "delete while claimed",
    "seal": "delete while claimed",
    "seal_chain": "unsealed epoch",
    "effects_first": "cancel, head killed",
    "accept_claims": "delete while claimed",
    "claim_directory": "same name, two heads",
    "count_claims": "waits: delete, drop a copy",
    "named_claims": "waits: delete, drop a copy",
    "adopt_unknown": "same name again",
    "known_is_pending": "label removed, copied",
    "look_first": "copied",
    "believe_listing": "lost reply of a rename",
    "verify_claim": "waits: forge, drop",
    "problem_waits": "waits: scribble, undo",
    "edited_anyway": "waits: scribble, undo",
    "clear_once": "waits: cancel, copy",
    "handed_over": "label removed, copied",
    "leave_missing": "label removed, deposed writer",
    "leave_changed": "label removed, deposed writer",
    "claim_first": "delete while claimed",
    "rewrite_unread": "deposed writer",
    "explicit_stop": "cancel, two jobs",
    "held_is_listed": "runner lost",
    "confirm_gone": "cancel, two jobs",
    "ranks_first": "gang, node lost, run again",
    "wait_for_left": "node left, run again",
    "wait_to_rerun": "gang, one left, one lost",
    "fenced_waits": "node lost, run again",
    "fenced_ranks_first": "gang, one left, one lost",
    "runner_refuses": "runner killed anywhere",
    "remember_seen": "runner killed anywhere",
    "leave_omitted": "runner killed anywhere",
    "forget_late": "runner killed anywhere",
    "runner_compares": "written on",
    "start_marker": "plain",
    "supervisor_marks": "runner killed anywhere",
    "incarnation": "runner lost",
    "spawn_fence": "runner lost",
    "successor_fence": "node lost in setup",
    "left_starts_nothing": "node left",
    "left_orders_end": "node left",
    "note_incarnation": "node left, runner killed",
    "count_lapses": "node lost in setup",
    "go_anew": "node lost in setup",
    "supervisor_fences": "runner lost, run again",
    "renewal_counts": "node lost in setup",
    "tighten_first": "node left, run again",
}
