"""A head's claim directory, and moving files. Names in it are those of the code: new-N-NAME (to be accepted),
request-N-NAME (to be carried out), ID.NAME (to be started, or to go to done/)."""

from tests.model.state import plain, text


def number_of(claim):
    """N of new-N-NAME and request-N-NAME: the order in which they were taken."""
    parts = claim.split("-")
    return int(parts[1]) if len(parts) == 3 else 0


class Claims:
    def folder(self, k, h):
        return f"claims/{h.epoch}.{k + 1}/"

    def claimed(self, k, h, name):
        return self.folder(k, h) + name if self.on["claim_directory"] else "running/" + name

    def fenced(self, w, k, h):
        return self.on["claim_directory"] and (h.epoch, k + 1) not in w.dirs

    def unused(self, w, k, h, kind, name):
        """Where a claim is put, and how many it then has taken: a name that it has never used; or one that is free."""
        label = plain(name.split("/")[-1])
        if self.on["count_claims"]:
            return f"{self.folder(k, h)}{kind}-{h.claimed + 1}-{label}", h.claimed + 1
        place = f"{self.folder(k, h)}{kind}-0-{label}"
        while place in dict(w.files):
            place += "+"
        return place, 0

    def own(self, w, k, h, kind):
        """This head's claims of a kind, in the order in which they were taken."""
        start = f"{self.folder(k, h)}{kind}-"
        return sorted((p for p, _ in w.files if p.startswith(start)), key=lambda p: (number_of(p), p))

    @staticmethod
    def move(w, source, target):
        """rename(2): replaces without asking. None: there is nothing at source. A move of a file without an end mark
        makes it look as if it had just been written."""
        files = dict(w.files)
        file = files.pop(source, None)
        if file is None:
            return None
        files[target] = file
        return w._replace(files=frozenset(files.items()), fresh=w.fresh | {f for f in (file,) if text(f).endswith("~")})
