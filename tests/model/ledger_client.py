"""The client of ledger.py: reads ledger.json, lists events/, reads one file after the other, lists again, shows."""

from tests.model.ledger_spool import IDLE, Spool, replay


class Clients(Spool):
    def client_steps(self, w):
        if w.client is None or w.client.mode == "done":
            return
        label, new = getattr(self, "client_" + w.client.mode)(w, w.client)
        yield "client " + label, "step", w._replace(client=new)

    def client_idle(self, w, c):
        return f"reads ledger.json: {w.ledger}", c._replace(mode="list", ledger=w.ledger)

    def client_list(self, w, c):
        top = self.newest(w)
        new = c._replace(mode="read" if top else "done", top=top, state=c.ledger.state)
        return f"lists events/, newest is {top}", new

    def client_read(self, w, c):
        """The newest event file, then the earlier ones back to the generation's."""
        files = dict(c.read)
        if c.top not in files:
            return self.read_newest(w, c)
        left = [e for e in range(max(c.ledger.epoch, 1), c.top) if e not in files]
        if not left:
            return self.show(w, c, files)
        found = self.content(w, left[-1])
        label = f"reads events/{left[-1]}: {found}"
        if found is None and self.on["client_gap"]:
            return label, IDLE
        return label, c._replace(read=tuple(sorted({**files, left[-1]: found}.items())))

    def read_newest(self, w, c):
        found = self.content(w, c.top)
        new = c._replace(read=((c.top, found),))
        if found is None and self.on["client_gap"]:
            new = IDLE
        elif not found and self.on["client_seal"]:  # being taken over: the ledger alone is a true state
            new = c._replace(mode="done", state=c.ledger.state, read=())
        elif found and self.on["client_generation"] and self.vouched(found) > c.ledger[:2]:
            new = new._replace(mode="load")
        return f"reads events/{c.top}: {found}", new

    def client_load(self, w, c):
        base = self.generation(w, self.vouched(dict(c.read)[c.top]))
        new = IDLE if base is None else c._replace(mode="read", ledger=base)
        return f"loads the vouched generation: {base}", new

    def show(self, w, c, files):
        """All is read: list once more, and show what it comes to."""
        if self.newest(w) > c.top and self.on["client_lists_last"]:
            return "lists events/ again, starts over", IDLE
        whole = next((r for _, r in sorted(files.items(), reverse=True) if r), ())
        state = replay(c.ledger, files, dict(whole[0][1]) if whole else {})
        return f"lists events/ again, shows {state}", c._replace(mode="done", state=state, read=())
