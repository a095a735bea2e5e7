"""Breadth-first search through all states of a model, and the command line of a model's module."""

import argparse
import gc
import time
from array import array
from collections import deque

LIMIT = 1_200_000  # states; a search of this size takes about 1 GB and a minute and a half


def put(row, index, value):
    """A tuple with one element replaced."""
    return (*row[:index], value, *row[index + 1 :])


def explore(model, limit):
    """Breadth first. -> (states, verdict, trace)"""
    gc.disable()  # nothing here is cyclic, and looking for cycles among a million states takes a third of the time
    try:
        return _explore(model, limit)
    finally:
        gc.enable()


def _explore(model, limit):
    first = model.start()
    number, parents, goals = {first: 0}, array("I", [0]), []
    sources, targets = array("I"), array("I")  # of steps that are no faults
    queue = deque([first])
    for at in range(limit):
        if not queue:
            break
        world = queue.popleft()
        if model.finished(world):
            goals.append(at)
        for _, kind, new in model.steps(world):
            index = number.setdefault(new, len(parents))
            if index == len(parents):
                parents.append(at)
                queue.append(new)
                if problem := model.broken(new):
                    return len(parents), problem, retrace(model, number, parents, index)
            if kind == "step" and index != at:
                sources.append(at)
                targets.append(index)
    if queue:
        return len(parents), "stopped at the limit of states, nothing broken so far", []
    if model.live:
        stuck = first_stuck(len(parents), sources, targets, goals)
        if stuck is not None:
            return (
                len(parents),
                "stuck: from here no fault-free path ends all jobs",
                retrace(model, number, parents, stuck),
            )
    return len(parents), "holds", []


def first_stuck(states, sources, targets, goals):
    """The first state from which no row of steps leads to a goal; None: there is none."""
    ends = array("I", bytes(4 * (states + 1)))  # of the steps that lead to each state, sorted by that state
    for target in targets:
        ends[target] += 1
    for state in range(1, states + 1):
        ends[state] += ends[state - 1]
    before = array("I", bytes(4 * len(sources)))
    for source, target in zip(sources, targets, strict=True):
        ends[target] -= 1
        before[ends[target]] = source
    reached = bytearray(states)
    queue = list(goals)
    for goal in goals:
        reached[goal] = 1
    while queue:
        at = queue.pop()
        for source in before[ends[at] : ends[at + 1]]:
            if not reached[source]:
                reached[source] = 1
                queue.append(source)
    stuck = reached.find(0)
    return None if stuck < 0 else stuck


def retrace(model, number, parents, at):
    """The labels of the steps that lead to a state. They are not kept: the way is walked once more."""
    way = [at]
    while at:
        at = parents[at]
        way.append(at)
    world = model.start()
    labels = list(model.prefix)
    for index in way[-2::-1]:
        label, world = next((label, new) for label, _, new in model.steps(world) if number[new] == index)
        labels.append(label)
    return labels


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
            print(f"{name:20} {text}")
        print(*scenarios, sep="\n")
        return 0
    if args.table:
        return print_table(model, args.limit)
    red = 0
    for name in args.scenario or [name for name in scenarios if (name in model.SLOW) == args.slow]:
        start = time.monotonic()
        states, verdict, trace = explore(model.Model(scenarios[name], args.without), args.limit)
        print(f"{name:34} {states:9,} states {time.monotonic() - start:6.1f} s  {verdict}", flush=True)
        for line in trace:
            print("    " + line)
        red += bool(trace)
    return red > 0


def print_table(model, limit):
    """Each rule left out in turn, in the scenario that needs it. 1 where nothing breaks."""
    red = 0
    for rule in model.RULES:
        start, scenario = time.monotonic(), model.NEEDED[rule]
        states, verdict, trace = explore(model.Model(model.SCENARIOS[scenario], [rule]), limit)
        seconds = time.monotonic() - start
        print(
            f"without {rule:20} {scenario:34} {states:9,} states {seconds:6.1f} s {len(trace):3} steps to: {verdict}",
            flush=True,
        )
        red += not trace
    return red > 0
