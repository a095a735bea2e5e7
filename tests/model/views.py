"""What one process sees of the world: worlds that look alike to it have the same steps of it, worked out once.

A state of the search differs from its neighbours by what one process did; to all others it looks as before. So the
steps of a process are kept by all that it can see, and its share of what follows is put into the world at hand. What a
process does not see is None while its steps are worked out: a rule that looks there fails, instead of going by a world
that is another one.

heads    see all files, what nodes wrote, and whether T has passed; not users, nor (while they lead) other heads
nodes    see running/, what is assigned to them, and the truth, by which what they do is judged; of other nodes the
         attempts, for the same reason
users    see everything: nothing is kept of them
"""

from collections import namedtuple

from tests.model.explorer import put
from tests.model.state import World

Silence = namedtuple("Silence", "silent")  # a node, as a head sees it
Runs = namedtuple("Runs", "attempts")  # a node, as the steps of another one are judged by it
MOST = 200_000  # views that are kept; then it begins anew. Neighbours are searched soon after each other


class Views:
    def kept(self, seen, steps):
        """Note the steps that follow from what a process sees."""
        if len(self.views) >= MOST:
            self.views.clear()
        self.views[seen] = steps = tuple(steps)
        return steps

    def steps_of_head(self, w, k):
        """What head k can do, and what may happen to it."""
        files, dirs, owned, fresh, events, assigned, status, heads, nodes, user, budget, _ = w
        own = heads if heads[k].mode == "off" else heads[k]
        silent = tuple([node.silent for node in nodes])
        seen = (k, own, files, dirs, owned, fresh, events, assigned, status, silent, budget)
        steps = self.views.get(seen)
        if steps is None:
            others = heads if own is heads else put((None,) * len(heads), k, own)
            silence = tuple(Silence(passed) for passed in silent)
            view = World(files, dirs, owned, fresh, events, assigned, status, others, silence, None, budget, "")
            steps = self.kept(seen, self.head_steps(view, k))
        for label, kind, new in steps:
            files, dirs, owned, fresh, events, assigned, _, theirs, _, _, budget, bad = new
            theirs = put(heads, k, theirs[k])
            world = World(files, dirs, owned, fresh, events, assigned, status, theirs, nodes, user, budget, bad)
            yield label, kind, world

    def steps_of_node(self, w, n):
        """What the runner and the supervisors of node n can do, what may happen to them, and how time passes there."""
        files, dirs, owned, fresh, events, assigned, status, heads, nodes, user, budget, _ = w
        running, attempts = self.running(files), tuple([node.attempts for node in nodes])
        seen = (n, nodes[n], attempts, status[n], assigned[n], running, self.truth(w), budget)
        steps = self.views.get(seen)
        if steps is None:
            none = (None,) * len(nodes)
            told, said = put(none, n, assigned[n]), put(none, n, status[n])
            others = put(tuple(Runs(row) for row in attempts), n, nodes[n])
            view = World(running, None, None, None, events, told, said, None, others, None, budget, "")
            steps = self.kept(seen, self.node_steps(view, n))
        for label, kind, new in steps:
            _, _, _, _, _, _, said, _, others, _, budget, bad = new
            said = status if said[n] is status[n] else put(status, n, said[n])
            others = put(nodes, n, others[n])
            world = World(files, dirs, owned, fresh, events, assigned, said, heads, others, user, budget, bad)
            yield label, kind, world

    def running(self, files):
        """Those in running/."""
        found = self.in_running.get(files)
        if found is None:
            found = self.in_running[files] = frozenset(f for f in files if f[0].startswith("running/"))
        return found
