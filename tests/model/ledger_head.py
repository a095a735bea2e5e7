"""The heads of ledger.py: taking the lead, reading what is there, appending, writing a generation, packing away."""

from tests.model.explorer import put
from tests.model.ledger_spool import EMPTY, OFF, Ledger, Spool, ids, replay


class Heads(Spool):
    @staticmethod
    def become(w, k, **new):
        return w._replace(heads=put(w.heads, k, w.heads[k]._replace(**new)))

    @staticmethod
    def off(w, k):
        return w._replace(heads=put(w.heads, k, OFF))

    def head_steps(self, w, k):
        h = w.heads[k]
        if h.mode != "off" and (killed := self.spend(w, "head crash")):
            yield f"head{k + 1} is killed", "fault", self.off(killed, k)
        for label, kind, world in getattr(self, "in_" + h.mode)(w, k, h):
            yield f"head{k + 1} {label}", kind, world

    # ---- the lead

    def in_off(self, w, k, h):
        leads = any(o.mode != "off" and o.epoch >= len(w.events) for o in w.heads)
        top = self.newest(w)
        if world := self.spend(w, "takeover") if leads else w:
            label = f"lists events/, newest is {top}"
            yield label, "fault" if leads else "step", self.become(world, k, mode="link", epoch=top + 1, top=top)

    def in_link(self, w, k, h):
        if h.epoch in w.removed:  # an old listing: its number was used and packed away
            yield f"claims epoch {h.epoch} again", "step", self.become(w, k, mode="relist")
        elif len(w.events) >= h.epoch:
            yield f"finds epoch {h.epoch} taken", "step", self.off(w, k)
        else:
            world = w._replace(events=(*w.events, ()))
            yield f"claims epoch {h.epoch}", "step", self.become(world, k, mode="relist")

    def in_relist(self, w, k, h):
        if self.newest(w) > h.epoch and self.on["claim_lists_again"]:
            yield "lists events/ again, sees a newer epoch, stops", "step", self.off(w, k)
        elif h.epoch in w.removed:
            yield "goes on", "step", w._replace(bad=f"P3: epoch {h.epoch} is given twice")
        else:
            yield "lists events/ again", "step", self.become(w, k, mode="read")

    # ---- what is there: event files downwards to the first that is needed, and the generation in between

    def in_read(self, w, k, h):
        files = dict(h.read)
        whole = next((e for e in sorted(files, reverse=True) if files[e]), 0)
        if (whole and h.base is None) or not h.top:
            yield self.load(w, k, h, files, whole)
        elif h.top > 0 and (h.base is None or h.top >= max(h.base.epoch, 1)) and h.top not in files:
            found = self.content(w, h.top)
            top = h.top - (h.top > 1 or bool(found)) or -1
            read = tuple(sorted({**files, h.top: found}.items()))
            yield f"reads events/{h.top}: {found}", "step", self.become(w, k, read=read, top=top)
        else:
            yield self.seal(w, k, h, files, whole)

    def load(self, w, k, h, files, whole):
        base = self.generation(w, self.vouched(files[whole])) if whole else EMPTY
        base = base if self.on["vouched"] else w.ledger
        label = f"loads {'the vouched generation' if self.on['vouched'] else 'ledger.json'}: {base}"
        return label, "step", self.off(w, k) if base is None else self.become(w, k, base=base, top=h.top or -1)

    def seal(self, w, k, h, files, whole):
        """The first record: how much of each earlier epoch counts, and the generation to begin from."""
        seals = dict(files[whole][0][1]) if whole else {}
        seals |= {e: len(records) for e, records in files.items() if e >= whole and records is not None}
        base = h.base or EMPTY
        kept = tuple(sorted((e, end) for e, end in seals.items() if e >= base.epoch))
        first = ("seal", kept, (base.epoch, base.seq))
        world = w._replace(events=put(w.events, h.epoch - 1, (*w.events[h.epoch - 1], first)))
        new = {"mode": "check", "top": 0, "read": (), "state": replay(base, files, seals), "base": base}
        return f"appends {first} to events/{h.epoch}", "step", self.become(world, k, **new)

    # ---- events

    def in_append(self, w, k, h):
        records = (*w.events[h.epoch - 1], h.todo[0])
        world = w._replace(events=put(w.events, h.epoch - 1, records))
        new = {"mode": "check", "state": h.state + ids(h.epoch, records, len(records) - 1), "todo": h.todo[1:]}
        yield f"appends {h.todo[0]} to events/{h.epoch}", "step", self.become(world, k, **new)

    def in_check(self, w, k, h):
        if self.newest(w) > h.epoch and self.on["epoch_check"]:
            yield "lists events/, sees a newer epoch, stops", "step", self.off(w, k)
        else:
            yield "lists events/, still the newest", "step", self.become(w, k, mode="work")

    def in_work(self, w, k, h):
        if h.todo:
            yield from self.compact(w, k, h)
            return
        if world := self.spend(w, "event"):
            yield "decides", "step", self.become(world, k, mode="append", todo=("event",))
        if world := self.spend(w, "snapshot"):
            yield self.write_generation(world, k, h)

    # ---- generations

    def write_generation(self, w, k, h):
        """A generation, then the event that vouches for it, then ledger.json and the removal of what is older."""
        seq = h.base.seq + 1 if h.base.epoch == h.epoch else 1
        made = Ledger(h.epoch, seq, len(w.events[h.epoch - 1]), h.state)
        vouch = ("vouch", (made.epoch, made.seq))
        plan = ("append", (vouch, "publish", "remove"))
        if not self.on["vouch_first"]:
            plan = ("work", ("remove", vouch, "publish"))
        world = w._replace(generations=w.generations | {made})
        label = f"writes ledger/{made.epoch}.{made.seq}"
        return label, "step", self.become(world, k, base=made, mode=plan[0], todo=plan[1])

    def compact(self, w, k, h):
        if h.todo[0] == "publish":
            yield "writes ledger.json", "step", self.become(w._replace(ledger=h.base), k, todo=h.todo[1:])
        elif h.todo[0] == "remove":
            yield self.remove(w, k, h)
        else:
            yield from self.in_append(w, k, h)

    def remove(self, w, k, h):
        """What is older than the generation that it wrote: one file a step."""
        own = h.epoch if self.on["remove_own_past"] else self.newest(w)
        kept = h.base[:2] if self.on["remove_own_past"] else max(g[:2] for g in w.generations)
        old = [e for e in self.listing(w) if e < own + (not self.on["keep_highest"])]
        past = [g for g in w.generations if g[:2] < kept]
        if old:
            return f"packs events/{old[0]} away", "step", w._replace(removed=w.removed | {old[0]})
        if past:
            label = f"removes ledger/{past[0].epoch}.{past[0].seq}"
            return label, "step", w._replace(generations=w.generations - {past[0]})
        return "has nothing more to remove", "step", self.become(w, k, todo=h.todo[1:])
