"""task.schema.json says to editors what the parser says to everybody, as far as a schema can."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import jsonschema
import pytest

from spool_layout import fields
from spool_layout.problems import InvalidTask
from spool_layout.taskfile import LONGEST_NAME, MOST_NODES, read_task_mapping
from spool_layout.taskpaths import MOST_MOUNTS
from tests.layout.task_cases import ACCEPTED, ENV_VALUES, REFUSED

TEXT = importlib.resources.files("spool_layout").joinpath("task.schema.json").read_text(encoding="utf-8")
SCHEMA: dict[str, Any] = json.loads(TEXT)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def value(text: str) -> Any:
    """What an editor sees: the mapping, before anybody judges it. None where there is none."""
    try:
        return read_task_mapping(text.encode())
    except InvalidTask:
        return None


def names(definition: str) -> set[str]:
    return set(SCHEMA["$defs"][definition]["properties"])


def test_it_is_a_json_schema_of_2020() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_what_the_parser_takes_is_valid() -> None:
    texts = [*(case.text for case in ACCEPTED), *(f"envs:\n  A: {written}\n" for written in ENV_VALUES)]
    refused = {text: [error.message for error in VALIDATOR.iter_errors(value(text))] for text in texts}
    assert {text: errors for text, errors in refused.items() if errors} == {}


def test_what_the_parser_refuses_is_invalid_where_a_schema_can_tell() -> None:
    judged = {case: VALIDATOR.is_valid(value(case.text)) for case in REFUSED}
    assert [case.text for case, valid in judged.items() if valid and case.schema] == []


def test_what_a_schema_cannot_tell_is_marked_so_and_nothing_else() -> None:
    readable = {case: value(case.text) for case in REFUSED if not case.schema}
    assert [case.text for case, read in readable.items() if read is not None and not VALIDATOR.is_valid(read)] == []


def test_it_has_the_parsers_fields_and_no_others() -> None:
    assert set(SCHEMA["properties"]) == {*fields.TASK, *fields.CLOUD_TASK}
    assert names("resources") == {*fields.RESOURCES, *fields.CLOUD_RESOURCES}
    assert names("candidate") == {*fields.CANDIDATE, *fields.CLOUD_RESOURCES}


@pytest.mark.parametrize(
    ("definition", "shape"),
    [("storage", fields.STORAGE), ("service", fields.CLOUD_TASK["service"]), ("pool", fields.CLOUD_TASK["pool"])],
)
def test_its_inner_mappings_have_the_parsers_fields(definition: str, shape: Any) -> None:
    ours = {word for word in names(definition) if not unknown(shape, word)}
    assert ours == names(definition)
    assert unknown(shape, "no_such_field")


def unknown(shape: Any, word: str) -> bool:
    return any(message == "there is no such field" for _, message, _ in shape.complaints({word: "x"}))


def test_its_bounds_are_the_parsers() -> None:
    assert SCHEMA["properties"]["name"]["maxLength"] == LONGEST_NAME
    assert SCHEMA["properties"]["num_nodes"]["maximum"] == MOST_NODES
    assert f'"maxProperties": {MOST_MOUNTS},' in TEXT


def test_every_field_of_a_task_says_what_it_is() -> None:
    told = {word: field.get("description") or described(field) for word, field in SCHEMA["properties"].items()}
    assert [word for word, description in told.items() if not description] == []


def described(field: dict[str, Any]) -> str:
    """The description of what a field refers to."""
    references = [option["$ref"] for option in field.get("anyOf", [field]) if "$ref" in option]
    return "".join(SCHEMA["$defs"][reference.rpartition("/")[2]].get("description", "") for reference in references)
