"""The heads: taking the lead, looking, committing. A head may stop between any two steps, for ever or for a time."""

from tests.model.deciding import Deciding
from tests.model.explorer import put
from tests.model.projecting import Projecting
from tests.model.state import NOTHING, OFF


class Heads(Deciding, Projecting):
    # ---- history: what the event files say

    def history(self, events, epoch, length):
        """Valid events up to `length` of `epoch`; its seal says how much of each earlier epoch counts."""
        key = (events[:epoch], length)
        if key not in self.histories:
            self.histories[key] = self.read_history(events, epoch, length)
        return self.histories[key]

    def read_history(self, events, epoch, length):
        if not epoch:
            return NOTHING
        own = events[epoch - 1].upto(length).events()
        if not own:  # claimed but never sealed
            return self.history(events, epoch - 1, None)
        log, seals = NOTHING, own[0][1]
        if self.on["seal_chain"]:
            for earlier, end in seals:
                log = log.add(*events[earlier - 1].upto(end if self.on["seal"] else None).events()[1:])
        elif seals:
            earlier, end = seals[-1]
            log = self.history(events, earlier, end if self.on["seal"] else None)
        return log.add(*own[1:])

    def truth(self, w):
        """The history that a head taking over now would find."""
        for epoch in range(len(w.events), 0, -1):
            if w.events[epoch - 1].length:
                return self.history(w.events, epoch, None)
        return NOTHING

    # ---- all steps of one head

    def become(self, w, k, h, **new):
        """The head with something changed. A head that has projected everything is ready; what need not be written is
        passed over."""
        h = h._replace(**new)
        while h.mode == "project" and h.todo and h.todo[0][0] == "assign" and not self.is_due(w, h, h.todo[0][1]):
            h = h._replace(todo=h.todo[1:])
        if h.mode == "project" and not h.todo:
            h = h._replace(mode="ready")
        return w._replace(heads=put(w.heads, k, h))

    @staticmethod
    def off(w, k):
        return w._replace(heads=put(w.heads, k, OFF))

    def head_steps(self, w, k):
        h = w.heads[k]
        if h.mode == "off":
            yield from self.begin_term(w, k)
            return
        if crashed := self.spend(w, "head crash"):
            yield f"head{k + 1} is killed", "fault", self.off(crashed, k)
        for label, kind, world in getattr(self, "in_" + h.mode)(w, k, h):
            yield f"head{k + 1} {label}", kind, world

    def begin_term(self, w, k):
        if any(h.mode == "off" for h in w.heads[:k]):
            return  # heads are alike: the first that is free does it
        leads = any(h.mode != "off" and (h.epoch == len(w.events) or h.mode in ("listed", "link")) for h in w.heads)
        world = self.spend(w, "takeover") if leads else w
        if world:
            label = f"head{k + 1} lists events/, newest is {len(w.events)}"
            new = {"mode": "listed", "epoch": len(w.events) + 1, "log": NOTHING, "wrote": (None,) * self.s.nodes}
            yield label, "fault" if leads else "step", self.become(world, k, OFF, **new)

    def in_listed(self, w, k, h):
        dirs = w.dirs | {(h.epoch, k + 1)}
        yield f"makes claims/{h.epoch}.{k + 1}/", "step", self.become(w._replace(dirs=dirs), k, h, mode="link")

    def in_link(self, w, k, h):
        if len(w.events) >= h.epoch:
            world = w._replace(dirs=w.dirs - {(h.epoch, k + 1)})
            yield f"finds epoch {h.epoch} taken", "step", self.off(world, k)
        else:
            world = w._replace(events=(*w.events, NOTHING))
            new = {"mode": "read", "extra": (h.epoch - 1, ())}
            yield f"claims epoch {h.epoch}", "step", self.become(world, k, h, **new)

    def in_read(self, w, k, h):
        """Read the event files downwards until one is whole; it knows the earlier ones."""
        epoch, seals = h.extra
        file = w.events[epoch - 1] if epoch else NOTHING
        found = ((epoch, file.length),) if epoch else ()
        label = f"reads events/{epoch}: {file.length} records"
        if epoch > 1 and not file.length:
            yield label, "step", self.become(w, k, h, extra=(epoch - 1, found + seals))
            return
        if file.length and self.on["seal_chain"]:
            found = file.upto(1).event[1] + found
        seals = found + seals
        own = NOTHING.add(("seal", seals))
        log = self.history((*w.events[: h.epoch - 1], own), h.epoch, None)
        seals = seals if self.on["seal_chain"] else seals[-1:]
        new = {"mode": "append", "todo": (("seal", seals),), "rest": (("empty",),), "log": log, "extra": None}
        yield label, "step", self.become(w, k, h, **new)

    def in_append(self, w, k, h):
        file = w.events[h.epoch - 1]
        for cut in range(1, len(h.todo)):  # a torn append: any prefix may be left
            if torn := self.spend(w, "head crash"):
                left = torn._replace(events=put(w.events, h.epoch - 1, file.add(*h.todo[:cut])))
                label = f"is killed while appending {list(h.todo)}, {cut} of these are left"
                yield label, "fault", self.off(left, k)
        world = w._replace(events=put(w.events, h.epoch - 1, file.add(*h.todo)))
        log = h.log.add(*(e for e in h.todo if e[0] != "seal"))
        label = f"appends to events/{h.epoch}: {list(h.todo)}"
        yield label, "step", self.become(world, k, h, mode="check", log=log)

    def in_check(self, w, k, h):
        if self.on["epoch_check"] and len(w.events) > h.epoch:
            yield "lists events/, sees a newer epoch, stops", "step", self.off(w, k)
            return
        todo = self.plan(w, k, h, h.todo) if h.rest is None else h.rest
        yield "lists events/, still the newest", "step", self.become(w, k, h, mode="project", todo=todo, rest=())

    def in_ready(self, w, k, h):
        """One look."""
        new = self.new_files(w, h.log.state) if self.on["accept_claims"] else []
        takes = [("take", "pending/" + name, "new") for name in new]
        takes += [("take", p, "request") for p, _ in w.files if p.startswith("requests/")]
        if takes:
            names = [step[1] for step in takes]
            yield f"looks and finds {names}", "step", self.become(w, k, h, mode="project", todo=(*takes, ("decide",)))
        elif batch := self.decide(w, k, h):
            yield f"looks and decides {list(batch)}", "step", self.become(w, k, h, mode="append", todo=batch, rest=None)
        elif unread := tuple(("assign", n) for n in range(self.s.nodes) if self.is_due(w, h, n)):
            label = "looks: assigned.json is not what it should be"
            yield label, "step", self.become(w, k, h, mode="project", todo=unread)

    def in_project(self, w, k, h):
        kind, *about = h.todo[0]
        for label, what, world, then in getattr(self, "do_" + kind)(w, k, h, *about):
            if then is None:
                yield label, what, self.off(world, k)
            elif then and then[0] == "commit":
                _, events, rest = then
                rest = rest if rest is None else (*rest, *h.todo[1:])
                yield label, what, self.become(world, k, world.heads[k], mode="append", todo=events, rest=rest)
            else:
                yield label, what, self.become(world, k, world.heads[k], todo=(*then, *h.todo[1:]))

    def do_decide(self, w, k, h):
        batch = self.decide(w, k, h)
        yield f"decides {list(batch)}", "step", w, ("commit", batch, None) if batch else ()
