"""The daemons: `spoold head` decides, `spoold node` runs. A pure core with thin shells around it."""
