"""The JSON schema of a space, with which editors complete and check space files.

A space file names it in a comment::

    # yaml-language-server: $schema=./space.schema.json

It is derived from the configuration classes but checks less than they do: whether the ends of a
range are in order, a value is given twice or data exist, only ``python -m study.run --dry-run``
reports.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from study.config.study_config import StudyConfig
from study.spaces.parsing import RANGES
from trainables.trial_config import TrialConfig

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The draft of JSON schema that YAML language servers support."""
_SCALARS = ("boolean", "integer", "null", "number", "string")


def space_schema() -> Schema:
    """Return the schema of a space file as JSON values."""
    shared = _Definitions()
    trial, study = TrialConfig.model_json_schema(), StudyConfig.model_json_schema()
    without_criterion = _without(_without(trial, "seed"), "selection", "criterion")
    fixed = _Part("fixed", trial["$defs"], shared)
    search = _Part("search", trial["$defs"], shared, is_open=True)
    top = _Part("space", study.get("$defs", {}), shared)
    task = fixed.value(trial["properties"]["task"])
    tasks = {"type": "array", "items": task, "minItems": 1, "uniqueItems": True}
    own = {
        "task": task,
        "tasks": {"anyOf": [tasks, {"type": "null"}]},
        "fixed": fixed.value(_without(without_criterion, "task")),
        "search": search.value(without_criterion),
    }
    properties = {
        name: _described(own[name] if name in own else top.value(schema), schema)
        for name, schema in study["properties"].items()
    }
    return {
        "$schema": DRAFT,
        "title": "A space of syn2real-study",
        "type": "object",
        "properties": properties,
        "required": study["required"],
        "oneOf": [
            {"required": ["task"]},  # a study's own file has both, one of them null
            {"required": ["tasks"], "properties": {"tasks": {"type": "array"}}},
        ],
        "additionalProperties": False,
        "$defs": shared.by_name,
    }


def _without(schema: Schema, key: str, *below: str) -> Schema:
    """Return a model's schema without ``key``, or without the key ``below`` it."""
    rest = {name: inner for name, inner in schema["properties"].items() if name != key}
    if below:
        inner = resolved(schema["properties"][key], schema["$defs"])
        rest[key] = _without({**inner, "$defs": schema["$defs"]}, *below)
    return {**schema, "properties": rest}


def resolved(schema: Schema, models: Mapping[str, Schema]) -> Schema:
    """Return the schema that a reference names, updated with the reference's other keywords."""
    if "$ref" not in schema:
        return schema
    others = {key: value for key, value in schema.items() if key != "$ref"}
    return {**models[schema["$ref"].rpartition("/")[2]], **others}


def _described(made: Schema, original: Schema) -> Schema:
    """Return ``made`` with the original's description on one line."""
    if "description" not in original:
        return made
    text = " ".join(original["description"].split()).replace("``", "`")
    if "$ref" in made:  # in draft 7, keywords next to a reference are ignored
        made = {"allOf": [made]}
    return {"description": text, **{k: v for k, v in made.items() if k != "description"}}


class _Definitions:
    """Schemas for ``$defs``; equal ones are stored once."""

    def __init__(self) -> None:
        self.by_name: dict[str, Schema] = {}
        self._names: dict[str, str] = {}

    def refer(self, wish: str, schema: Schema) -> Schema:
        """Store a schema under the wished name, or a numbered one; return a reference to it."""
        content = json.dumps(schema, sort_keys=True)
        if content not in self._names:
            name, number = wish, 2
            while name in self.by_name:
                name, number = f"{wish}-{number}", number + 1
            self._names[content] = name
            self.by_name[name] = schema
        return {"$ref": f"#/$defs/{self._names[content]}"}


class _Part:
    """The schema of a part of a space, such as ``search``, derived from pydantic's of a trial.

    No key is required, since another part may give it.

    Args:
        name: The part's name, which prefixes the names of its definitions.
        models: Pydantic's definitions.
        shared: The store for schemas that are referred to.
        is_open: Whether open values may replace values.
    """

    def __init__(
        self, name: str, models: Mapping[str, Schema], shared: _Definitions, is_open: bool = False
    ) -> None:
        self.name = name
        self.models = models
        self.shared = shared
        self.is_open = is_open

    def value(self, schema: Schema) -> Schema:
        """Return the schema of a key's value or of a list item."""
        literal = self._literal(schema)
        notation = self._notation(schema, literal) if self.is_open else None
        if notation is not None:
            literal = {"anyOf": [literal, self.shared.refer("open", notation)]}
        return _described(literal, resolved(schema, self.models))

    def _literal(self, schema: Schema) -> Schema:
        """Return the schema of a value that is not open; values inside it may still be."""
        schema = resolved(schema, self.models)
        if "oneOf" in schema:
            return self._table(schema)
        if "properties" in schema:
            return self._settings(schema)
        made: Schema = {}
        for keyword, content in schema.items():
            match keyword:
                case "title" | "default" | "description" | "format":
                    pass  # for the reference; no editor checks the format of a path
                case "anyOf":
                    made["anyOf"] = [self._literal(inner) for inner in content]
                case "prefixItems":
                    made["items"] = [self.value(inner) for inner in content]
                case "items" | "additionalProperties" if isinstance(content, Mapping):
                    made[keyword] = self.value(dict(content))
                case _:
                    made[keyword] = content
        return made

    def _settings(self, schema: Schema) -> Schema:
        """Return the schema of several keys and, where values may be open, of ``cases``."""
        made: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: self.value(inner) for name, inner in schema["properties"].items()
            },
        }
        name = f"{self.name}.{schema['title']}"
        plain = self.shared.refer(name, made)
        if not self.is_open:
            return plain
        properties = {**made["properties"], "cases": _labelled(plain)}
        return self.shared.refer(f"{name}.open", {**made, "properties": properties})

    def _table(self, schema: Schema) -> Schema:
        """Return the schema of a table's entry: its name, or its name with settings."""
        *names, _ = schema["oneOf"]
        return self.shared.refer(
            f"{self.name}.{schema['title']}",
            {"oneOf": [*names, {"allOf": [self._entries(schema)], "maxProperties": 1}]},
        )

    def _entries(self, schema: Schema) -> Schema:
        """Return the schema of any number of a table's entries with their settings."""
        mapping = {
            key: value for key, value in schema["oneOf"][-1].items() if key != "maxProperties"
        }
        kind = schema["title"]
        settings = {
            name: self._literal({"anyOf": [{**own, "title": f"{kind}.{name}"}, empty]})
            for name, (own, empty) in ((n, s["anyOf"]) for n, s in mapping["properties"].items())
        }
        return self.shared.refer(
            f"{self.name}.{kind}.settings", {**mapping, "properties": settings}
        )

    def _notation(self, schema: Schema, literal: Schema) -> Schema | None:
        """Return the schema of an open value, a mapping with one word; ``None`` if none fits."""
        leaves = list(self._leaves(schema))
        tables = [leaf for leaf in leaves if "oneOf" in leaf]
        scalars = [name for table in tables for name in table["oneOf"][:-1]]
        scalars += [
            self._literal(leaf)
            for leaf in leaves
            if leaf.get("type") in _SCALARS or "enum" in leaf or "const" in leaf
        ]
        if all(scalar.get("type") == "null" for scalar in scalars):
            return None  # settings have cases of their own, a list has its items
        words = dict(_ranges(scalars))
        options = [
            {"type": "array", "items": _any_of(scalars), "minItems": 1, "uniqueItems": True},
            *(self._entries(table) for table in tables),
        ]
        words["choice"] = _any_of(options)
        inner = self.shared.refer("open", _one_word(words))
        return _one_word({**words, "cases": _labelled(literal, inner)})

    def _leaves(self, schema: Schema) -> Iterator[Schema]:
        """Yield the alternatives of a value."""
        schema = resolved(schema, self.models)
        if "anyOf" not in schema:
            yield schema
        for inner in schema.get("anyOf", ()):
            yield from self._leaves(inner)


def _ranges(scalars: Sequence[Schema]) -> Iterator[tuple[str, Schema]]:
    """Yield the schemas of ranges, whose ends are numbers among the scalars, by word."""
    numbers = [scalar for scalar in scalars if scalar.get("type") in ("integer", "number")]
    kinds = {number["type"] for number in numbers}
    for word in RANGES:
        kind = "integer" if word.endswith("integer") else "number"
        if "number" in kinds or kind in kinds:
            end = {"allOf": [{"type": kind}, _any_of(numbers)]}
            yield word, {"type": "array", "items": end, "minItems": 2, "maxItems": 2}


def _any_of(schemas: Sequence[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def _one_word(words: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(words),
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }


def _labelled(*values: Schema) -> Schema:
    """Return the schema of ``cases``: values by labels that the user chooses."""
    return {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [*values, {"type": "null"}]},
    }
