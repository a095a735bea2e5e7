"""What the world of ledger.py is made of, and what can be read of it. Every event is just a number."""

from collections import namedtuple

World = namedtuple("World", "events removed generations ledger heads client budget bad")
Head = namedtuple("Head", "mode epoch state read top base todo")
Client = namedtuple("Client", "mode ledger top read state")
Ledger = namedtuple("Ledger", "epoch seq offset state")  # true up to record `offset` of `epoch`
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


def truth(w):
    """The valid history, of which every state that anybody believes must be a beginning."""
    cuts = {}
    for records in w.events:
        if records:
            cuts.update(records[0][1])
    return tuple(i for epoch, records in enumerate(w.events, 1) for i in ids(epoch, records[: cuts.get(epoch)]))


class Spool:
    """What heads and clients read."""

    @staticmethod
    def spend(w, what):
        """The world with one thing of a kind less to come; None: there are none left."""
        left = dict(w.budget)
        if not left.get(what):
            return None
        left[what] -= 1
        return w._replace(budget=tuple(sorted(left.items())))

    @staticmethod
    def listing(w):
        return [epoch for epoch in range(1, len(w.events) + 1) if epoch not in w.removed]

    def newest(self, w):
        return max(self.listing(w), default=0)

    @staticmethod
    def content(w, epoch):
        return None if epoch in w.removed else w.events[epoch - 1]

    def vouched(self, records):
        """(epoch, seq) of the generation to begin from, by the newest whole epoch file."""
        later = [r[1] for r in records[1:] if r[0] == "vouch"] if self.on["newest_vouch"] else []
        return (later or [records[0][2]])[-1]

    @staticmethod
    def generation(w, name):
        return EMPTY if name == (0, 0) else next((g for g in w.generations if (g.epoch, g.seq) == name), None)
