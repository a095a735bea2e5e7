"""Exhaustive model of ledger generations, compaction, and of clients that read them.

    python -m tests.model.ledger                       all scenarios;  --without RULE ... leaves rules out
    python -m tests.model.ledger --table               each rule left out in turn, in the scenario that needs it
    python -m tests.model.ledger --scenario NAME ...   only these;  --list  names scenarios and rules

Heads claim epochs and append as in protocol.py; here every event is just a
number, and a state is the row of events that led to it. A state is true if it
is the beginning of the valid history. Event files that were packed away can no
longer be read; the model still knows them, and compares.
"""

import sys
from collections import namedtuple

from tests.model.explorer import main, put

RULES = {
    # what design.md says
    "epoch_check": "after each commit a head lists events/ and stops if a newer epoch exists",
    "vouched": "a head begins from the generation that a valid event vouches for, not from ledger.json",
    "vouch_first": "nothing is removed before the event that vouches for the generation is committed",
    "keep_highest": "the highest epoch's file is never removed",
    # repairs
    "claim_lists_again": "a head that sees a newer epoch right after its claim has lost, and appends nothing",
    "newest_vouch": "the newest vouch is the last in the newest whole epoch, else the one its first record names",
    "remove_own_past": "a head removes only what is older than the generation that it wrote itself",
    "client_generation": "a client takes ledger.json only if it is not older than the vouched generation",
    "client_seal": "a client adds events only when the newest epoch's first record is whole",
    "client_gap": "a client that misses a file it needs starts over",
    "client_lists_last": "a client lists events/ again after reading, and starts over if there is a newer epoch",
}
World = namedtuple("World", "events removed generations ledger heads client budget bad")
Head = namedtuple("Head", "mode epoch state read top base todo")
Client = namedtuple("Client", "mode ledger top read state")
Ledger = namedtuple("Ledger", "epoch seq offset state")  # true up to record `offset` of `epoch`
Scenario = namedtuple("Scenario", "heads client budget")
EMPTY = Ledger(0, 0, 0, ())
OFF = Head("off", 0, (), (), 0, None, ())
IDLE = Client("idle", EMPTY, 0, (), ())


def ids(epoch, records, start=0):
    """The events among the records of an epoch file, from `start` on."""
    return tuple((epoch, n) for n, record in enumerate(records) if n >= start and record == "event")


def replay(ledger, files, seals):
    """The state after `ledger`, by the files that were read and the seals that cut them."""
    state = ledger.state
    for epoch, records in sorted(files.items()):
        if records and epoch >= ledger.epoch:
            state += ids(epoch, records[: seals.get(epoch)], ledger.offset if epoch == ledger.epoch else 0)
    return state


class Model:
    live = True

    def __init__(self, scenario, without=()):
        self.s, self.on = scenario, {rule: rule not in without for rule in RULES}

    def start(self):
        return World(
            (),
            frozenset(),
            frozenset(),
            EMPTY,
            (OFF,) * self.s.heads,
            IDLE if self.s.client else None,
            tuple(sorted(self.s.budget.items())),
            "",
        )

    @staticmethod
    def truth(w):
        """The valid history, of which every state that anybody believes must be a beginning."""
        cuts = {}
        for records in w.events:
            if records:
                cuts.update(records[0][1])
        return tuple(i for epoch, records in enumerate(w.events, 1) for i in ids(epoch, records[: cuts.get(epoch)]))

    @staticmethod
    def spend(w, what):
        left = dict(w.budget)
        if not left.get(what):
            return None
        left[what] -= 1
        return w._replace(budget=tuple(sorted(left.items())))

    @staticmethod
    def listing(w):
        return [epoch for epoch in range(1, len(w.events) + 1) if epoch not in w.removed]

    @staticmethod
    def content(w, epoch):
        return None if epoch in w.removed else w.events[epoch - 1]

    def vouched(self, records):
        """(epoch, seq) of the generation to begin from, by the newest whole epoch file."""
        later = [r[1] for r in records[1:] if r[0] == "vouch"] if self.on["newest_vouch"] else []
        return (later or [records[0][2]])[-1]

    def generation(self, w, name):
        return EMPTY if name == (0, 0) else next((g for g in w.generations if (g.epoch, g.seq) == name), None)

    # ---- the head

    def head_steps(self, w, k):
        h = w.heads[k]
        who = f"head{k + 1}"

        def become(world, **new):
            return world._replace(heads=put(world.heads, k, h._replace(**new)))

        def off(world):
            return world._replace(heads=put(world.heads, k, OFF))

        killed = self.spend(w, "head crash") if h.mode != "off" else None
        if killed:
            yield f"{who} is killed", "fault", off(killed)
        if h.mode == "off":
            leads = any(o.mode != "off" and o.epoch >= len(w.events) for o in w.heads)
            world = self.spend(w, "takeover") if leads else w
            if world:
                top = max(self.listing(w), default=0)
                yield (
                    f"{who} lists events/, newest is {top}",
                    "fault" if leads else "step",
                    become(world, mode="link", epoch=top + 1, top=top),
                )
        elif h.mode == "link":
            if h.epoch in w.removed:  # an old listing: its number was used and packed away
                yield f"{who} claims epoch {h.epoch} again", "step", become(w, mode="relist")
            elif len(w.events) >= h.epoch:
                yield f"{who} finds epoch {h.epoch} taken", "step", off(w)
            else:
                yield f"{who} claims epoch {h.epoch}", "step", become(w._replace(events=(*w.events, ())), mode="relist")
        elif h.mode == "relist":
            if max(self.listing(w), default=0) > h.epoch and self.on["claim_lists_again"]:
                yield f"{who} lists events/ again, sees a newer epoch, stops", "step", off(w)
            elif h.epoch in w.removed:
                yield f"{who} goes on", "step", w._replace(bad=f"epoch {h.epoch} is given twice")
            else:
                yield f"{who} lists events/ again", "step", become(w, mode="read")
        elif h.mode == "read":  # downwards to the first file that is needed
            yield from self.read(w, k, h, who, become, off)
        elif h.mode == "append":
            records = w.events[h.epoch - 1] + (h.todo[0],)
            state = h.state + ids(h.epoch, records, len(records) - 1)
            yield (
                f"{who} appends {h.todo[0]} to events/{h.epoch}",
                "step",
                become(
                    w._replace(events=put(w.events, h.epoch - 1, records)), mode="check", state=state, todo=h.todo[1:]
                ),
            )
        elif h.mode == "check":
            newer = max(self.listing(w), default=0) > h.epoch and self.on["epoch_check"]
            yield (
                f"{who} lists events/, {'sees a newer epoch, stops' if newer else 'still the newest'}",
                "step",
                off(w) if newer else become(w, mode="work"),
            )
        elif h.mode == "work" and h.todo:
            yield from self.compact(w, k, h, who, become)
        elif h.mode == "work":
            world = self.spend(w, "event")
            if world:
                yield f"{who} decides", "step", become(world, mode="append", todo=("event",))
            world = self.spend(w, "snapshot")
            if world:
                made = Ledger(
                    h.epoch, h.base.seq + 1 if h.base.epoch == h.epoch else 1, len(w.events[h.epoch - 1]), h.state
                )
                steps = ("publish", "remove") if self.on["vouch_first"] else ("publish",)
                vouch = ("vouch", (made.epoch, made.seq))
                yield (
                    f"{who} writes ledger/{made.epoch}.{made.seq}",
                    "step",
                    become(
                        world._replace(generations=w.generations | {made}),
                        base=made,
                        **{"mode": "append", "todo": (vouch, *steps)}
                        if self.on["vouch_first"]
                        else {"mode": "work", "todo": ("remove", vouch, *steps)},
                    ),
                )

    def read(self, w, k, h, who, become, off):
        files = dict(h.read)
        whole = next((e for e in sorted(files, reverse=True) if files[e]), 0)
        base = h.base
        if (whole and base is None) or not h.top:
            base = self.generation(w, self.vouched(files[whole])) if whole else EMPTY
            base = base if self.on["vouched"] else w.ledger
            yield (
                f"{who} loads {'ledger.json' if not self.on['vouched'] else 'the vouched generation'}: {base}",
                "step",
                become(w, base=base, top=h.top or -1) if base is not None else off(w),
            )
        elif h.top > 0 and (base is None or h.top >= max(base.epoch, 1)) and h.top not in files:
            found = self.content(w, h.top)
            yield (
                f"{who} reads events/{h.top}: {found}",
                "step",
                become(
                    w, read=tuple(sorted({**files, h.top: found}.items())), top=h.top - (h.top > 1 or bool(found)) or -1
                ),
            )
        else:
            seals = {
                **(dict(files[whole][0][1]) if whole else {}),
                **{e: len(r) for e, r in files.items() if e >= whole and r is not None},
            }
            base = base or EMPTY
            kept = tuple(sorted((e, end) for e, end in seals.items() if e >= base.epoch))
            first = ("seal", kept, (base.epoch, base.seq))
            records = w.events[h.epoch - 1] + (first,)
            yield (
                f"{who} appends {first} to events/{h.epoch}",
                "step",
                become(
                    w._replace(events=put(w.events, h.epoch - 1, records)),
                    mode="check",
                    top=0,
                    read=(),
                    state=replay(base, files, seals),
                    base=base,
                ),
            )

    def compact(self, w, k, h, who, become):
        step, rest = h.todo[0], h.todo[1:]
        if step == "publish":
            yield f"{who} writes ledger.json", "step", become(w._replace(ledger=h.base), todo=rest)
        elif step == "remove":
            listing = self.listing(w)
            own = h.epoch if self.on["remove_own_past"] else max(listing)
            if not self.on["keep_highest"]:
                own += 1
            old = [e for e in listing if e < own]
            past = [
                g
                for g in w.generations
                if g[:2] < (h.base[:2] if self.on["remove_own_past"] else max(x[:2] for x in w.generations))
            ]
            if old:
                yield f"{who} packs events/{old[0]} away", "step", become(w._replace(removed=w.removed | {old[0]}))
            elif past:
                yield (
                    f"{who} removes ledger/{past[0].epoch}.{past[0].seq}",
                    "step",
                    become(w._replace(generations=w.generations - {past[0]})),
                )
            else:
                yield f"{who} has nothing more to remove", "step", become(w, todo=rest)
        else:
            yield from self.head_steps(w._replace(heads=put(w.heads, k, h._replace(mode="append"))), k)

    # ---- the client

    def client_steps(self, w):
        c = w.client

        def become(**new):
            return w._replace(client=c._replace(**new))

        again = w._replace(client=IDLE)
        files = dict(c.read)
        if c.mode == "idle":
            yield f"client reads ledger.json: {w.ledger}", "step", become(mode="list", ledger=w.ledger)
        elif c.mode == "list":
            top = max(self.listing(w), default=0)
            yield (
                f"client lists events/, newest is {top}",
                "step",
                become(mode="read" if top else "done", top=top, state=c.ledger.state),
            )
        elif c.mode == "read" and c.top not in files:
            found = self.content(w, c.top)
            new = become(read=((c.top, found),))
            if found is None and self.on["client_gap"]:
                new = again
            elif not found and self.on["client_seal"]:  # being taken over: the ledger alone is a true state
                new = become(mode="done", state=c.ledger.state, read=())
            elif found and self.on["client_generation"] and self.vouched(found) > c.ledger[:2]:
                new = become(read=((c.top, found),), mode="load")
            yield f"client reads events/{c.top}: {found}", "step", new
        elif c.mode == "load":
            base = self.generation(w, self.vouched(files[c.top]))
            yield (
                f"client loads the vouched generation: {base}",
                "step",
                again if base is None else become(mode="read", ledger=base),
            )
        elif c.mode == "read":
            left = [e for e in range(max(c.ledger.epoch, 1), c.top) if e not in files]
            if left:
                found = self.content(w, left[-1])
                yield (
                    f"client reads events/{left[-1]}: {found}",
                    "step",
                    again
                    if found is None and self.on["client_gap"]
                    else become(read=tuple(sorted({**files, left[-1]: found}.items()))),
                )
            else:
                newer = max(self.listing(w), default=0) > c.top and self.on["client_lists_last"]
                whole = next((r for _, r in sorted(files.items(), reverse=True) if r), ())
                state = replay(c.ledger, files, dict(whole[0][1]) if whole else {})
                yield (
                    f"client lists events/ again, {'starts over' if newer else f'shows {state}'}",
                    "step",
                    again if newer else become(mode="done", state=state, read=()),
                )

    # ---- verdicts

    def broken(self, w):
        if w.bad:
            return w.bad
        truth = self.truth(w)
        for k, h in enumerate(w.heads):
            if h.mode == "work" and truth[: len(h.state)] != h.state:
                return f"head{k + 1} goes by {h.state}, true is {truth}"
            if h.mode == "work" and h.epoch == len(w.events) and truth != h.state:
                return f"head{k + 1} goes by {h.state}, true is {truth}"
        if w.client and w.client.mode == "done":
            shown = w.client.state
            if truth[: len(shown)] != shown:
                return f"the client shows {shown}, true is {truth}"
            if len(shown) < len(w.client.ledger.state):
                return f"the client shows {shown}, its ledger was {w.client.ledger.state}"
        return ""

    def finished(self, w):
        return (not w.client or w.client.mode == "done") and any(
            h.mode == "work" and h.epoch == len(w.events) for h in w.heads
        )

    def steps(self, w):
        for k in range(self.s.heads):
            yield from self.head_steps(w, k)
        if w.client:
            yield from self.client_steps(w)


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
