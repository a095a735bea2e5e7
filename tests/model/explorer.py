"""Breadth-first search through all states of a model, and the command line of a model's module."""

import argparse
import time
from collections import deque

LIMIT = 800_000  # states; a search of this size takes about 1 GB and 90 s


def put(row, index, value):
    return (*row[:index], value, *row[index + 1 :])


def explore(model, limit):
    """Breadth first. -> (states, verdict, trace)"""
    first = model.start()
    number, origin, worlds = {first: 0}, [(None, "")], [first]
    before, goals, queue = [[]], [], deque([0])

    def trace(at):
        lines = []
        while at:
            at, label = origin[at]
            lines.append(label)
        return lines[::-1]

    while queue:
        at = queue.popleft()
        world, worlds[at] = worlds[at], None
        if model.finished(world):
            goals.append(at)
        for label, kind, new in model.steps(world):
            index = number.get(new)
            if index is None:
                index = number[new] = len(origin)
                origin.append((at, label))
                before.append([])
                worlds.append(new)
                queue.append(index)
                problem = model.broken(new)
                if problem:
                    return len(origin), problem, trace(index)
                if len(origin) > limit:
                    return len(origin), "stopped at the limit of states, nothing broken so far", []
            if kind == "step" and index != at:
                before[index].append(at)
    reached, queue = set(goals), deque(goals)
    while queue:
        for at in before[queue.popleft()]:
            if at not in reached:
                reached.add(at)
                queue.append(at)
    if len(reached) < len(origin) and model.live:
        stuck = next(i for i in range(len(origin)) if i not in reached)
        return len(origin), "stuck: from here no fault-free path ends all jobs", trace(stuck)
    return len(origin), "holds", []


def main(model):
    """The command line of a module with RULES, SCENARIOS, NEEDED and Model."""
    rules, scenarios = model.RULES, model.SCENARIOS
    parser = argparse.ArgumentParser(description=model.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", nargs="+", default=[], choices=rules, metavar="RULE")
    parser.add_argument("--scenario", nargs="+", choices=scenarios, metavar="NAME")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--limit", type=int, default=LIMIT)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.list:
        for name, text in rules.items():
            print(f"{name:18} {text}")
        print(*scenarios, sep="\n")
        return 0
    if args.table:
        for rule in rules:
            scenario = model.NEEDED[rule]
            states, verdict, trace = explore(model.Model(scenarios[scenario], [rule]), args.limit)
            print(f"without {rule:18} {scenario:26} {len(trace):3} steps to: {verdict}", flush=True)
        return 0
    red = 0
    for name in args.scenario or [name for name in scenarios if (name in model.SLOW) == args.slow]:
        start = time.monotonic()
        states, verdict, trace = explore(model.Model(scenarios[name], args.without), args.limit)
        print(f"{name:28} {states:9,} states {time.monotonic() - start:6.1f} s  {verdict}", flush=True)
        for line in trace:
            print("    " + line)
        red += bool(trace)
    return red > 0
