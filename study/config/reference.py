"""Writes the reference of every key: ``python -m study.reference > docs/reference.md``.

All of it comes from the configuration classes: names, types, defaults and docstrings.
"""

import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt
from pydantic.fields import FieldInfo

from study.config.study_config import StudyConfig
from study.spaces import search_space as space
from trainables.config import TrialConfig
from trainables.configuration.paths import NamesPath
from trainables.configuration.schema import BaseConfig, Choice, Configured, OneOf

_HEAD = """\
# Reference

Every key of a space and of a trial. Written by `python -m study.reference > docs/reference.md`
from the configuration classes; a test compares the two. Unknown keys are errors everywhere, and
`python -m study.run --space FILE --dry-run` says which. Editors know all of this page: spaces name
the schema that comes with them, `# yaml-language-server: $schema=./space.schema.json`, and
`python -m study.schema > space.schema.json` writes it beside spaces of your own.
"""

_SPACE = """\
`fixed` and `search` hold keys of [a trial](#a-trial), and what stands under `search` may be
[open](#open-values).
"""

_TRIAL = """\
What may stand under `fixed` and `search` of a space, and in the FILE of
`python -m trainables.run --config FILE`. In a space, `task`, `seed` and the criterion stand at the
top instead. Where one of several is chosen, YAML has its name, `method: mcd`, or its name with
settings, `method: {mcd: {hidden_dim: 128}}`; classes of your own go
[by their dotted names](howto-own-method.md).
"""

_PATHS = """\
A path may begin with `~`, the home of whoever starts the study. One that is not absolute then is
relative to the current directory, or to a space's `directory` where it names one. A study makes
all of them absolute before a trial begins, and keeps what was written: in its `study.yaml`, which
names the directory and so is the same study everywhere, and under `paths` in its records.
`--resume` of a space with relative paths is refused in another directory; give `--space
runs/NAME/study.yaml` there.

On a cluster give absolute paths, as its machines see them: `--cluster` and `--address http://…`
take no others. With `--address auto`, relative ones start from the current directory of the
command, and the other machines must have the same folder.
"""

_PLURALS = {"criterion": "criteria"}
"""Of what tables hold, where it is not a matter of an s."""

_WORDS = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    type(None): "null",
    Any: "any value",
    dict: "mapping",
}
"""What types are called in YAML."""


def reference() -> str:
    """The page, in Markdown."""
    tables = dict(_tables((TrialConfig, StudyConfig)))
    described: set[type[BaseConfig]] = set()
    parts = [
        _HEAD,
        _contents(tables),
        f"## A space\n\n{_SPACE}\n{_table(StudyConfig)}",
        f"## Open values\n\n{_notation()}",
        f"## A trial\n\n{_TRIAL}\n{_table(TrialConfig)}",
        *_models(TrialConfig, "###", described),
        *_models(StudyConfig, "###", described),
        f"## Paths\n\n{_PATHS}",
    ]
    for kind, table in tables.items():
        parts += [f"## {_title(kind)}", *_entries(kind, table, described)]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _contents(tables: Iterable[str]) -> str:
    titles = ["A space", "Open values", "A trial", "Paths", *map(_title, tables)]
    return " · ".join(f"[{title}](#{_anchor(title)})" for title in titles)


def _title(kind: str) -> str:
    return _PLURALS.get(kind, f"{kind}s").capitalize()


def _anchor(heading: str) -> str:
    """How a link names a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def _notation() -> str:
    """What the module of search spaces says of its notation, as Markdown."""
    paragraphs = inspect.cleandoc(space.__doc__ or "").split("\n\n")[1:]
    return "\n\n".join(
        f"```yaml\n{inspect.cleandoc(part)}\n```"
        if part.startswith(" ")
        else _markdown(part.replace("::", ":"))
        for part in paragraphs
    )


# Sections


def _entries(
    kind: str, table: Mapping[str, Configured], described: set[type[BaseConfig]]
) -> Iterator[str]:
    """One section for the entries that share a description and settings."""
    groups: dict[tuple[str, type[BaseConfig]], list[str]] = {}
    for name, entry in table.items():
        groups.setdefault((_entry_text(entry, table), entry.Config), []).append(name)
    for (text, config), names in groups.items():
        heading = f"### {kind.capitalize()} {', '.join(f'`{name}`' for name in names)}"
        yield f"{heading}\n\n{text}\n\n{_table(config)}"
        yield from _models(config, "####", described)


def _entry_text(entry: Configured, table: Mapping[str, Configured]) -> str:
    """What a table's entry is; where all are of one class, their settings tell them apart."""
    described: object = entry
    if not isinstance(entry, type):
        alike = len({type(other) for other in table.values()}) == 1
        described = entry.Config if alike else type(entry)
    text = inspect.cleandoc(described.__doc__ or "").partition("\n\nArgs:")[0]
    own_settings = "." in entry.Config.__qualname__ and entry.Config.__doc__
    return _markdown(f"{text}\n\n{entry.Config.__doc__}" if own_settings else text)


def _models(
    model: type[BaseConfig], level: str, described: set[type[BaseConfig]]
) -> Iterator[str]:
    """A section for each set of settings below ``model`` that has none yet."""
    for inner in _inner_models(model):
        if inner not in described:
            described.add(inner)
            text = _markdown(inspect.cleandoc(inner.__doc__ or ""))
            yield f"{level} {_name(inner)}\n\n{text}\n\n{_table(inner)}"
            yield from _models(inner, level, described)


def _table(model: type[BaseConfig]) -> str:
    if not model.model_fields:
        return ""
    rows = ["| key | value | default | what it does |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        text = " ".join(_markdown(field.description or "").split())
        rows.append(
            f"| `{name}` | {_value(field)} | {_default(field)} | "
            f"{text.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(rows)


def _name(model: type[BaseConfig]) -> str:
    """A heading for a set of settings, from its class: ``OptimizerConfig`` is "Optimizer"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+", model.__qualname__.removesuffix("Config"))
    return " ".join(words).capitalize() + " settings"


def _markdown(text: str) -> str:
    """A docstring's marks for code, and its references to other code, as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


# Fields


def _fields(model: type[BaseConfig]) -> Iterator[tuple[object, tuple[object, ...]]]:
    for field in model.model_fields.values():
        yield from _parts(field.annotation, tuple(field.metadata))


def _parts(
    annotation: object, metadata: tuple[object, ...] = ()
) -> Iterator[tuple[object, tuple[object, ...]]]:
    """An annotation and all that it is made of, each with what is noted beside it."""
    annotation, metadata = _unwrapped(annotation, metadata)
    yield annotation, metadata
    if get_origin(annotation) not in (Literal, Choice):
        for argument in get_args(annotation):
            yield from _parts(argument)


def _unwrapped(
    annotation: object, metadata: tuple[object, ...]
) -> tuple[object, tuple[object, ...]]:
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = (*metadata, *more)
    flat: list[object] = []
    for note in metadata:
        flat += note.metadata if isinstance(note, FieldInfo) else [note]
    return annotation, tuple(flat)


def _tables(models: Iterable[type[BaseConfig]]) -> Iterator[tuple[str, Mapping[str, Configured]]]:
    """Tables that are chosen from in these settings, below them, and in the tables' entries."""
    seen: set[object] = set()
    queue: list[type[BaseConfig]] = list(models)
    while queue:
        model = queue.pop(0)
        if model in seen:
            continue
        seen.add(model)
        queue += _inner_models(model)
        for _, metadata in _fields(model):
            for note in metadata:
                if isinstance(note, OneOf) and note.kind not in seen:
                    seen.add(note.kind)
                    yield note.kind, note.table
                    queue += [entry.Config for entry in note.table.values()]


def _inner_models(model: type[BaseConfig]) -> list[type[BaseConfig]]:
    return list(
        dict.fromkeys(
            annotation
            for annotation, _ in _fields(model)
            if isinstance(annotation, type) and issubclass(annotation, BaseConfig)
        )
    )


def _value(field: FieldInfo) -> str:
    return _type(field.annotation, tuple(field.metadata)).replace("|", "\\|")


def _type(annotation: object, metadata: tuple[object, ...] = ()) -> str:
    """What a key takes, in words."""
    annotation, metadata = _unwrapped(annotation, metadata)
    for note in metadata:
        if isinstance(note, OneOf):
            title = _title(note.kind)
            return f"one of the [{title.lower()}](#{_anchor(title)})"
        if isinstance(note, NamesPath):
            return "[path](#paths)"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if origin in (list, tuple):
        if origin is list or arguments[-1] is Ellipsis:
            return f"list of {_type(arguments[0])}"
        return f"[{', '.join(map(_type, arguments))}]"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping of names to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseConfig):
        return f"[settings](#{_anchor(_name(annotation))})"
    limits = ", ".join(_bounds(metadata))
    return f"{_WORDS[annotation]} {limits}".strip()  # type: ignore[index]


def _bounds(metadata: tuple[object, ...]) -> Iterator[str]:
    for note in metadata:
        for bound in note if isinstance(note, GroupedMetadata) else (note,):
            match bound:
                case Gt(gt=limit):
                    yield f"> {limit}"
                case Ge(ge=limit):
                    yield f"≥ {limit}"
                case Lt(lt=limit):
                    yield f"< {limit}"
                case Le(le=limit):
                    yield f"≤ {limit}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseConfig):
        return "" if default == type(default)() else _yaml(default.model_dump(mode="json"))
    if isinstance(default, Choice):
        changed = default.config.model_dump(mode="json", exclude_defaults=True)
        return _yaml({default.name: changed} if changed else default.name)
    return _yaml(list(default) if isinstance(default, tuple) else default)


def _yaml(value: object) -> str:
    """A value as YAML writes it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"
