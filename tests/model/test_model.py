"""The model holds, and it can fail: every scenario to its last state, every rule left out to its counterexample.

README.md beside this file records what the search finds, and is what it is compared with: a scenario that grew or
shrank by one state, or a counterexample that got longer, means that the model was changed and its page was not.
"""

import re
from pathlib import Path

import pytest

from tests.model import ledger, protocol
from tests.model.explorer import LIMIT, explore

MODELS = {"protocol": protocol, "ledger": ledger}
RECORD = Path(__file__).with_name("README.md").read_text(encoding="utf-8")

# What is dearer waits for `make model`. A thousand states cost 50 to 120 ms.
FAST_STATES = 50_000
LONG_RULES = {"client_generation", "known_is_pending", "remember_seen", "rewrite_unread"}
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
        for scenario in model.SCENARIOS:
            states = number(recorded[scenario][1])
            marks = LONG if states > FAST_STATES else ()
            yield pytest.param(model, scenario, states, marks=marks, id=f"{name}: {scenario}")


def rule_cases():
    for name, model in MODELS.items():
        recorded = rows(f"{name}.py: a rule left out", model.RULES)
        for rule in model.RULES:
            marks = LONG if rule in LONG_RULES else ()
            yield pytest.param(model, rule, number(recorded[rule][1]), marks=marks, id=f"{name}: {rule}")


@pytest.mark.parametrize(("model", "scenario", "states"), list(scenario_cases()))
def test_scenario_holds(model, scenario, states):
    found, verdict, trace = explore(model.Model(model.SCENARIOS[scenario]), LIMIT)
    assert trace == [], verdict
    assert verdict == "holds" or states > LIMIT, verdict
    assert found == states


@pytest.mark.parametrize(("model", "rule", "steps"), list(rule_cases()))
def test_without_a_rule_a_promise_breaks(model, rule, steps):
    _, verdict, trace = explore(model.Model(model.SCENARIOS[model.NEEDED[rule]], [rule]), LIMIT)
    assert trace, f"nothing breaks without {rule}: {verdict}"
    assert len(trace) == steps, verdict


@pytest.mark.parametrize("model", list(MODELS.values()), ids=list(MODELS))
def test_every_rule_has_a_scenario_that_needs_it(model):
    assert model.NEEDED.keys() == model.RULES.keys()
    assert set(model.NEEDED.values()) <= model.SCENARIOS.keys()


def test_the_slow_scenarios_of_the_command_line_exist():
    assert set(protocol.SLOW) <= protocol.SCENARIOS.keys()


def test_every_rule_is_explained():
    told = set(re.findall(r"`(\w+)`", RECORD))
    assert told >= protocol.RULES.keys() | ledger.RULES.keys()
