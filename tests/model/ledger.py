"""Exhaustive model of ledger generations, compaction, and of clients that read them.

    python -m tests.model.ledger                       all scenarios;  --without RULE ... leaves rules out
    python -m tests.model.ledger --table               each rule left out in turn, in the scenario that needs it
    python -m tests.model.ledger --scenario NAME ...   only these;  --list  names scenarios and rules

Heads claim epochs and append as in protocol.py; here every event is just a number, and a state is the row of events
that led to it. A state is true if it is the beginning of the valid history. Event files that were packed away can no
longer be read; the model still knows them, and compares. Here are the rules, the promises and the scenarios; heads:
ledger_head.py; the client: ledger_client.py; what they read: ledger_spool.py.
"""

import sys
from collections import namedtuple

from tests.model.explorer import main
from tests.model.ledger_client import Clients
from tests.model.ledger_head import Heads
from tests.model.ledger_spool import EMPTY, IDLE, OFF, World, truth

RULES = {
    # heads
    "epoch_check": "after each commit a head lists events/ and stops if a newer epoch exists",
    "vouched": "a head begins from the generation that a valid event vouches for, not from ledger.json",
    "vouch_first": "nothing is removed before the event that vouches for the generation is committed",
    "keep_highest": "the highest epoch's file is never removed",
    "claim_lists_again": "a head that sees a newer epoch right after its claim has lost, and appends nothing",
    "newest_vouch": "the newest vouch is the last in the newest whole epoch, else the one its first record names",
    "remove_own_past": "a head removes only what is older than the generation that it wrote itself",
    "client_generation": "a client takes ledger.json only if it is not older than the vouched generation",
    "client_seal": "a client adds events only when the newest epoch's first record is whole",
    "client_gap": "a client that misses a file it needs starts over",
    "client_lists_last": "a client lists events/ again after reading, and starts over if there is a newer epoch",
}
Scenario = namedtuple("Scenario", "heads client budget")


class Model(Heads, Clients):
    """One scenario, with some rules left out."""

    live = True
    prefix = ()

    def __init__(self, scenario, without=()):
        self.s, self.on = scenario, {rule: rule not in without for rule in RULES}

    def start(self):
        heads, client = (OFF,) * self.s.heads, IDLE if self.s.client else None
        budget = tuple(sorted(self.s.budget.items()))
        return World((), frozenset(), frozenset(), EMPTY, heads, client, budget, "")

    def steps(self, w):
        for k in range(self.s.heads):
            yield from self.head_steps(w, k)
        yield from self.client_steps(w)

    # ---- verdicts

    def broken(self, w):
        """What is wrong with a state; "" for nothing."""
        return w.bad or self.misled(w) or self.misinformed(w)

    @staticmethod
    def misled(w):
        """P2: a head goes by the valid history, the newest one by all of it."""
        true = truth(w)
        for k, h in enumerate(w.heads):
            if h.mode == "work" and h.state != true[: len(h.state) if h.epoch < len(w.events) else None]:
                return f"P2: head{k + 1} goes by {h.state}, true is {true}"
        return ""

    @staticmethod
    def misinformed(w):
        """P2: a client shows a beginning of it, no older than the ledger that it loaded."""
        if not w.client or w.client.mode != "done":
            return ""
        shown, true, ledger = w.client.state, truth(w), w.client.ledger.state
        if true[: len(shown)] != shown:
            return f"P2: the client shows {shown}, true is {true}"
        return f"P2: the client shows {shown}, its ledger was {ledger}" if len(shown) < len(ledger) else ""

    def finished(self, w):
        leads = any(h.mode == "work" and h.epoch == len(w.events) for h in w.heads)
        return leads and (not w.client or w.client.mode == "done")


SCENARIOS = {
    "snapshot, killed anywhere": Scenario(1, False, {"event": 2, "snapshot": 2, "head crash": 2}),
    "two heads": Scenario(2, False, {"event": 2, "snapshot": 2, "takeover": 2}),
    "two heads, killed": Scenario(2, False, {"event": 2, "snapshot": 2, "takeover": 1, "head crash": 1}),
    "three heads": Scenario(3, False, {"event": 1, "snapshot": 3, "takeover": 2}),
    "client": Scenario(1, True, {"event": 2, "snapshot": 2, "head crash": 1}),
    "client, two heads": Scenario(2, True, {"event": 2, "snapshot": 2, "takeover": 1}),
    "client, heads killed": Scenario(1, True, {"event": 2, "snapshot": 1, "head crash": 2}),
    "client, two heads, killed": Scenario(2, True, {"event": 1, "snapshot": 1, "takeover": 1, "head crash": 1}),
}

SLOW = ()

NEEDED = dict.fromkeys(RULES, "two heads") | {
    "client_generation": "client, two heads",
    "client_seal": "client, two heads",
    "client_gap": "client",
    "client_lists_last": "client, two heads",
}

if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))
