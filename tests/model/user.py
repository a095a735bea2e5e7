"""What users do, each of it once and at any moment: acts on the first job's file under its present name, and drops."""

from tests.model.state import text


class Users:
    def user_steps(self, w):
        for act in sorted(w.user):
            for label, world in getattr(self, "act_" + act.replace(" ", "_"))(w, dict(w.files)):
                yield "user " + label, "user", world._replace(user=w.user - {act})
        if self.is_quiet(w):
            yield "the settle time passes", "step", w._replace(fresh=frozenset())

    def is_quiet(self, w):
        """Files settle while nobody moves them: not before every head has done what it can."""
        return w.fresh and not any(
            True for k, h in enumerate(w.heads) if h.mode != "off" for _ in getattr(self, "in_" + h.mode)(w, k, h)
        )

    @staticmethod
    def drop(w, path, file):
        """A file comes to stand at a path, and what stood there before is no longer anybody's."""
        files = dict(w.files)
        owned = w.owned - {files.get(path)} | {file}
        fresh = w.fresh | {f for f in (file,) if text(f).endswith("~")}
        return w._replace(files=frozenset({**files, path: file}.items()), owned=owned, fresh=fresh)

    @staticmethod
    def take_away(w, path):
        files = dict(w.files)
        file = files.pop(path)
        return w._replace(files=frozenset(files.items()), owned=w.owned - {file})

    @staticmethod
    def mine(files):
        """Where the first job's file stands in pending/, if it does."""
        return [p for p, f in files.items() if p.startswith("pending/") and f[0] == 1]

    def shown(self, w, files):
        """Whether the user has seen that its ID is 1."""
        removed = "unlabel" in self.s.user and "unlabel" not in w.user
        return removed or any(p.split("/")[-1].startswith("1.") and not p.startswith("claims/") for p in files)

    def act_delete(self, w, files):
        for path in self.mine(files)[:1]:
            yield f"deletes {path}", self.take_away(w, path)

    def act_edit(self, w, files):
        for path in self.mine(files)[:1]:
            yield f"edits {path}", self.drop(w, path, (1, "a, edited"))

    def act_scribble(self, w, files):
        """An edit in place that does not end with the end mark: the file is complete when it has been quiet."""
        for path in self.mine(files)[:1]:
            yield f"edits {path} without an end mark", self.drop(w, path, (1, "a, edited~"))

    def act_write_on(self, w, files):
        """What is written through a descriptor from before goes wherever the file has been moved."""
        for path, file in files.items():
            if file[0] == 1:
                yield f"writes to {path}, opened long ago", self.drop(w, path, (1, "a, overwritten"))

    def act_undo(self, w, files):
        for path in self.mine(files)[:1]:
            if files[path] != (1, "a"):
                yield f"takes the edit of {path} back", self.drop(w, path, (1, "a"))

    def act_again(self, w, files):
        if "pending/a" not in files:
            yield "drops another pending/a", self.drop(w, "pending/a", (9, "c"))

    def act_twin(self, w, files):
        """The same text once more: a copy, perhaps even with the same inode number."""
        if "pending/a" not in files:
            yield "drops a copy as pending/a", self.drop(w, "pending/a", (7, "a"))

    def act_forge(self, w, files):
        """A name that the user has seen: it replaces the waiting file, or lies beside the started job."""
        if self.shown(w, files):
            yield "drops pending/1.a", self.drop(w, "pending/1.a", (8, "d"))

    def act_copy(self, w, files):
        """The same, with the text of job 1."""
        if self.shown(w, files) and "pending/1.a" not in files:
            yield "drops a copy as pending/1.a", self.drop(w, "pending/1.a", (6, "a"))

    def act_unlabel(self, w, files):
        for path in files:
            if path.startswith("running/1."):
                yield f"removes the label {path}", self.take_away(w, path)

    def act_cancel(self, w, files):
        yield "asks that job 1 be cancelled", self.drop(w, "requests/cancel", (5, "cancel"))
