"""The reference page of every key of a space and of a trial, in Markdown.

It is rendered from the JSON schemas of the configuration classes, which hold names, types,
defaults and docstrings; only what a table's entry is comes from the entry's own docstring.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from study.config.json_schema import Schema, resolved
from study.config.study_config import StudyConfig
from study.search.pruners import PRUNERS
from study.search.samplers import SAMPLERS
from study.spaces import search_space as space
from trainables.augmentations import AUGMENTATIONS
from trainables.backbones import BACKBONES
from trainables.configuration.schema import BaseConfig, Configured, Table
from trainables.criteria import SELECTORS
from trainables.methods import METHODS
from trainables.tasks import TASKS
from trainables.trial_config import INITIALIZATIONS, TrialConfig

_HEAD = """\
# Reference

Every key of a space and of a trial. This page is generated from the configuration classes by
`python -m study.reference > docs/reference.md`, and a test keeps it up to date. Unknown keys are
errors everywhere; `python -m study.run --space FILE --dry-run` reports them. Editors can complete
and check all keys: shipped spaces name the JSON schema next to them,
`# yaml-language-server: $schema=./space.schema.json`, and
`python -m study.schema > space.schema.json` writes it for spaces of your own.
"""

_SPACE = """\
`fixed` and `search` hold keys of [a trial](#a-trial); values under `search` may be
[open](#open-values).
"""

_TRIAL = """\
The keys under `fixed` and `search` of a space, and in the FILE of
`python -m trainables.run --config FILE`. In a space, `task`, `seed` and the criterion are given at
the top level instead. To choose one of several entries, give its name, `method: mcd`, or its name
with settings, `method: {mcd: {hidden_dim: 128}}`. Classes of your own are named
[by their dotted names](howto-own-method.md).
"""

_PATHS = """\
A path may begin with `~`, the home directory of the user who starts the study. Any other path
that is not absolute is relative to the space's `directory` or, without one, to the current
directory. Paths are made absolute before a trial starts, and the original spelling is kept: in
`study.yaml`, which names the directory and therefore means the same study everywhere, and under
`paths` in the records. `--resume` refuses a space with relative paths in another directory; give
`--space runs/NAME/study.yaml` there.

On a cluster, give absolute paths as its machines see them: `--cluster` and `--address http://…`
accept no others. With `--address auto`, relative paths start from the current directory of the
command, and the other machines must have the same folder.
"""

_TABLES: tuple[Table[Any], ...] = (
    TASKS,
    METHODS,
    BACKBONES,
    INITIALIZATIONS,
    AUGMENTATIONS,
    SELECTORS,
    SAMPLERS,
    PRUNERS,
)
"""The tables in the page's order."""

_PLURALS = {"criterion": "criteria"}
"""Plurals of kinds that do not end in s."""

_WORDS = {
    "boolean": "true or false",
    "integer": "integer",
    "number": "number",
    "string": "text",
    "null": "null",
}
"""YAML's words for the types of JSON."""

_LIMITS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def reference() -> str:
    """Return the page."""
    trial, study = TrialConfig.model_json_schema(), StudyConfig.model_json_schema()
    described: set[str] = set()
    parts = [
        _HEAD,
        _contents(),
        f"## A space\n\n{_SPACE}\n{_table(study)}",
        f"## Open values\n\n{_notation()}",
        f"## A trial\n\n{_TRIAL}\n{_table(trial)}",
        *_sections(trial, "###", described),
        *_sections(study, "###", described),
        f"## Paths\n\n{_PATHS}",
    ]
    for table in _TABLES:
        parts += [f"## {_title(table.kind)}", *_entries(table.kind, table, described)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _contents() -> str:
    titles = [
        "A space",
        "Open values",
        "A trial",
        "Paths",
        *(_title(table.kind) for table in _TABLES),
    ]
    return " · ".join(f"[{title}](#{_anchor(title)})" for title in titles)


def _title(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind}s").capitalize()


def _anchor(heading: str) -> str:
    """Return the fragment by which a link refers to a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _notation() -> str:
    """Return the docstring of the module that parses open values, as Markdown."""
    paragraphs = inspect.cleandoc(space.__doc__ or "").split("\n\n")[1:]
    return "\n\n".join(
        f"```yaml\n{inspect.cleandoc(part)}\n```"
        if part.startswith(" ")
        else _markdown(part.replace("::", ":"))
        for part in paragraphs
    )


# Sections


def _entries(kind: str, table: Mapping[str, Configured], described: set[str]) -> Iterator[str]:
    """Yield a section for each group of entries that share description and settings."""
    groups: dict[tuple[str, type[BaseConfig]], list[str]] = {}
    for name, entry in table.items():
        groups.setdefault((_entry_text(entry, table), entry.Config), []).append(name)
    for (text, config), names in groups.items():
        schema = config.model_json_schema()
        heading = f"### {kind.capitalize()} {', '.join(f'`{name}`' for name in names)}"
        yield f"{heading}\n\n{text}\n\n{_table(schema)}"
        yield from _sections(schema, "####", described)


def _entry_text(entry: Configured, table: Mapping[str, Configured]) -> str:
    """Return an entry's description: of its class, or of its settings if all share a class."""
    documented: object = entry
    if not isinstance(entry, type):
        alike = len({type(other) for other in table.values()}) == 1
        documented = entry.Config if alike else type(entry)
    text = inspect.cleandoc(documented.__doc__ or "").partition("\n\nArgs:")[0]
    own_settings = "." in entry.Config.__qualname__ and entry.Config.__doc__
    return _markdown(f"{text}\n\n{entry.Config.__doc__}" if own_settings else text)


def _sections(schema: Schema, level: str, described: set[str]) -> Iterator[str]:
    """Yield a section for each model below ``schema`` that has none yet."""
    for name in _models_in(schema["properties"].values()):
        if name not in described:
            described.add(name)
            inner = {**schema["$defs"][name], "$defs": schema["$defs"]}
            text = _markdown(inner.get("description", ""))
            yield f"{level} {_heading(name)}\n\n{text}\n\n{_table(inner)}"
            yield from _sections(inner, level, described)


def _models_in(schemas: Iterable[Schema]) -> Iterator[str]:
    """Yield the names of the models that these schemas refer to, outside tables' entries."""
    for schema in schemas:
        if "$ref" in schema:
            yield _model_name(schema)
        below = (schema.get("items"), schema.get("additionalProperties"))
        yield from _models_in(schema.get("anyOf", ()))
        yield from _models_in(schema.get("prefixItems", ()))
        yield from _models_in(inner for inner in below if isinstance(inner, dict))


def _model_name(reference: Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _heading(model: str) -> str:
    """Return the heading of a model: ``OptimizerConfig`` is "Optimizer settings"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", model.removesuffix("Config"))
    return " ".join(words).capitalize() + " settings"


def _markdown(text: str) -> str:
    """Return a docstring with its markup for code and references as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


# Fields


def _table(model: Schema) -> str:
    """Return a table of a model's keys, empty if it has none."""
    if not model["properties"]:
        return ""
    models, required = model.get("$defs", {}), model.get("required", ())
    rows = ["| key | value | default | what it does |", "|---|---|---|---|"]
    for name, schema in model["properties"].items():
        text = " ".join(_markdown(resolved(schema, models).get("description", "")).split())
        default = "**required**" if name in required else _default(schema, models)
        cells = (f"`{name}`", _type(schema), default, text)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def _type(schema: Schema) -> str:
    """Describe in words what a key takes."""
    match schema:
        case {"$ref": _}:
            return f"[settings](#{_anchor(_heading(_model_name(schema)))})"
        case {"oneOf": _, "title": kind}:
            return f"one of the [{_title(kind).lower()}](#{_anchor(_title(kind))})"
        case {"anyOf": alternatives}:
            return " or ".join(map(_type, alternatives))
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"format": "path"}:
            return "[path](#paths)"
        case {"prefixItems": items}:
            return f"[{', '.join(map(_type, items))}]"
        case {"items": item}:
            return f"list of {_type(item)}"
        case {"additionalProperties": dict() as value}:
            return f"mapping of names to {_type(value)}"
        case {"type": "object"}:
            return "mapping"
        case {"type": name}:
            limits = [f"{sign} {schema[key]}" for key, sign in _LIMITS.items() if key in schema]
            return f"{_WORDS[name]} {', '.join(limits)}".strip()
        case _:
            return "any value"


def _default(schema: Schema, models: Mapping[str, Schema]) -> str:
    """Return a key's default as YAML; empty for settings that have defaults of their own."""
    default = _default_value(schema)
    for alternative in _alternatives(schema) if isinstance(default, dict) else ():
        if "oneOf" in alternative:
            ((name, settings),) = default.items()
            entry = alternative["oneOf"][-1]["properties"][name]["anyOf"][0]
            changed = _changed(settings, entry)
            return _yaml({name: changed} if changed else name)
        if "$ref" in alternative and not _changed(default, resolved(alternative, models)):
            return ""
    return _yaml(default)


def _alternatives(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf", [schema]))


def _default_value(schema: Schema) -> Any:
    """Return a key's default; a choice as ``{name: settings}``, as it is inside other defaults."""
    default = schema.get("default")
    is_choice = any("oneOf" in alternative for alternative in _alternatives(schema))
    return {default["name"]: default["config"]} if is_choice and default else default


def _changed(settings: Mapping[str, Any], model: Schema) -> dict[str, Any]:
    """Return the settings that differ from their model's defaults."""
    properties = model["properties"]
    return {
        name: value
        for name, value in settings.items()
        if value != _default_value(properties[name])
    }


def _yaml(value: object) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"
