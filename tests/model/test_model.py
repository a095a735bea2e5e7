"""The model holds, and it can fail: every scenario to its last state, every rule left out to its counterexample.

README.md beside this file records what the search finds, and is what it is compared with: a scenario that grew or
shrank by one state, or a counterexample that got longer, means that the model was changed and its page was not.
"""

import pkgutil
import re
from pathlib import Path

import pytest

from tests.model import ledger, protocol
from tests.model.explorer import LIMIT, explore

MODELS = {"protocol": protocol, "ledger": ledger}
RECORD = Path(__file__).with_name("README.md").read_text(encoding="utf-8")

# What is dearer waits for `make model`. A thousand states cost 30 to 90 ms.
FAST_STATES = 25_000
LONG_RULES = {
    "client_generation",
    "edited_anyway",
    "go_anew",
    "held_is_listed",
    "leave_changed",
    "leave_missing",
    "rewrite_unread",
    "seal_chain",
    "tighten_first",
}
LONG = (pytest.mark.long, pytest.mark.timeout(900))


def rows(heading, names):
    """The rows of the table under a heading of README.md that begin with one of these names, by name."""
    section = RECORD.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in section.splitlines()]
    return {row[0]: row[1:] for row in cells if row[0] in names}


def number(text):
    return int(text.replace(",", ""))


def scenario_cases():
    for name, model in MODELS.items():
        recorded = rows(f"{name}.py: scenarios", model.SCENARIOS)
        sizes = {scenario: number(recorded[scenario][1]) for scenario in model.SCENARIOS}
        for scenario, states in sorted(sizes.items(), key=lambda size: -size[1]):  # so that no core is idle at the end
            marks = LONG if states > FAST_STATES else ()
            yield pytest.param(model, scenario, states, marks=marks, id=f"{name}: {scenario}")


def rule_cases():
    for name, model in MODELS.items():
        recorded = rows(f"{name}.py: a rule left out", model.RULES)
        for rule in model.RULES:
            marks = LONG if rule in LONG_RULES else ()
            scenario, steps, promise, _ = recorded[rule]
            yield pytest.param(model, rule, scenario, number(steps), promise, marks=marks, id=f"{name}: {rule}")


@pytest.mark.parametrize(("model", "scenario", "states"), list(scenario_cases()))
def test_scenario_holds(model, scenario, states):
    found, verdict, trace = explore(model.Model(model.SCENARIOS[scenario]), LIMIT)
    assert trace == [], verdict
    assert verdict == "holds"
    assert found == states


@pytest.mark.parametrize(("model", "rule", "scenario", "steps", "promise"), list(rule_cases()))
def test_without_a_rule_a_promise_breaks(model, rule, scenario, steps, promise):
    assert scenario == model.NEEDED[rule]
    _, verdict, trace = explore(model.Model(model.SCENARIOS[scenario], [rule]), LIMIT)
    assert trace, f"nothing breaks without {rule}: {verdict}"
    assert (len(trace), verdict.split(":")[0]) == (steps, promise), verdict


@pytest.mark.parametrize("model", list(MODELS.values()), ids=list(MODELS))
def test_every_rule_has_a_scenario_that_needs_it(model):
    assert model.NEEDED.keys() == model.RULES.keys()
    assert set(model.NEEDED.values()) <= model.SCENARIOS.keys()


def test_the_slow_scenarios_of_the_command_line_exist():
    assert set(protocol.SLOW) <= protocol.SCENARIOS.keys()


def test_every_rule_is_explained():
    told = set(re.findall(r"`(\w+)`", RECORD))
    assert told >= protocol.RULES.keys() | ledger.RULES.keys()


@pytest.mark.parametrize(("name", "model"), list(MODELS.items()), ids=list(MODELS))
def test_every_rule_names_the_functions_that_keep_it_and_they_exist(name, model):
    kept = rows(f"{name}.py: functions", model.RULES)
    assert kept.keys() == model.RULES.keys()
    for rule, (names,) in kept.items():
        for path in re.findall(r"[\w.]+", names):
            assert callable(pkgutil.resolve_name(path)), f"{path}, which keeps {rule}"
