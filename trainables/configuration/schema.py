"""Strict, frozen configuration and the tables that configuration chooses from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

Place = tuple[str | int, ...]
"""Keys and list positions from the root of a configuration to a value."""


class BaseConfig(BaseModel):
    """Frozen settings, in which unknown keys, text in place of numbers and NaN are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class Configured(Protocol):
    """An entry of a table: something that is built from its own ``Config``."""

    @property
    def Config(self) -> type[BaseConfig]:  # noqa: N802 - a class, named as one
        """The class of the entry's settings."""


@dataclass(frozen=True)
class Settings:
    """An entry that is nothing but its settings; whoever looks it up tells entries by name."""

    Config: type[BaseConfig]


DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
"""Pattern of the names of users' own entries."""

ConfigT = TypeVar("ConfigT", bound=BaseConfig)
EntryT = TypeVar("EntryT")


class Table(dict[str, EntryT]):
    """The entries that a setting chooses from, by name: ``Table("method", Method, {…})``.

    Args:
        kind: The word for an entry in messages.
        base: The class that entries are subclasses of or, in a table of objects, instances. A
            user's own entry has to be one, too.
        entries: The entries by name, all of them classes or all of them objects.
    """

    def __init__(self, kind: str, base: type, entries: Mapping[str, EntryT]) -> None:
        super().__init__(entries)
        self.kind = kind
        self.base = base

    def look_up(self, name: str) -> EntryT:
        """Return the entry of a name, which may be the dotted name of a user's own.

        Raises:
            ValueError: There is no such entry; the message names the nearest one.
        """
        if name in self:
            return self[name]
        module, _, attribute = name.rpartition(".")
        if not module:
            raise ValueError(f"unknown {self.kind} '{name}'.{nearest(name, list(self))}")
        try:
            entry: EntryT = vars(import_module(module))[attribute]
        except (ImportError, KeyError, TypeError) as error:  # TypeError: a relative name
            raise ValueError(f"{self.kind} '{name}' cannot be imported: {error}.") from error
        rule = f"{self.kind} '{name}' must be a {self.base.__module__}.{self.base.__name__}"
        if all(isinstance(listed, type) for listed in self.values()):
            if not (isinstance(entry, type) and issubclass(entry, self.base)):
                raise ValueError(f"{rule}.")
        elif not isinstance(entry, self.base):
            is_class = isinstance(entry, type) and issubclass(entry, self.base)
            hint = ": an instance, not the class" if is_class else ""
            raise ValueError(f"{rule}{hint}.")
        return entry


@dataclass(frozen=True)
class Choice(Generic[ConfigT]):
    """An entry of a table with its settings: ``dann: {domain_weight: 0.3}`` in YAML.

    An entry whose settings all have defaults may be written as its bare name.
    """

    name: str
    config: ConfigT


def default_choice(table: Mapping[str, Configured], name: str) -> Choice[Any]:
    """Return an entry with its default settings."""
    return Choice(name, table[name].Config())


@dataclass(frozen=True)
class Problem:
    """A value of a configuration that breaks a rule."""

    place: Place
    """Keys from the root to the value."""
    message: str
    """The rule and the value that broke it."""


class ConfigError(ValueError):
    """The configuration breaks a rule; the message is one line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"{join(p.place)}: {p.message}" for p in problems))


def join(place: Place) -> str:
    """Return keys as a path: ``method/dann/domain_weight``."""
    return "/".join(str(key) for key in place) or "top level"


def nearest(name: str, known: list[str]) -> str:
    """Return the end of an "unknown name" message: the closest known name, and all names."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"{hint} Known: {', '.join(sorted(known))}."


class OneOf:
    """Pydantic annotation of a :class:`Choice` from a table: ``Annotated[Choice[C], OneOf(T)]``.

    Problems in the settings of an entry are passed on in the context of pydantic's error, from
    which :func:`problems_of` reports each at its full place.
    """

    def __init__(self, table: Table[Any]) -> None:
        self.table = table

    @property
    def kind(self) -> str:
        """The word for an entry of the table."""
        return self.table.kind

    def parse(self, value: object) -> Choice[BaseConfig]:
        """Validate ``name`` or ``{name: settings}`` as a choice."""
        if isinstance(value, Choice):
            return value
        name, settings = self._split(value)
        try:
            entry = self.table.look_up(name)
        except ValueError as error:
            raise _custom_error([Problem((), str(error))]) from error
        try:
            return Choice(name, entry.Config.model_validate(settings))
        except ValidationError as error:
            inner = problems_of(error, entry.Config)
            raise _custom_error([Problem((name, *p.place), p.message) for p in inner]) from error

    def _split(self, value: object) -> tuple[str, object]:
        if isinstance(value, str):
            return value, {}
        if isinstance(value, dict) and len(value) == 1:
            name, settings = next(iter(value.items()))
            return str(name), {} if settings is None else settings
        raise _custom_error(
            [
                Problem(
                    (),
                    (
                        f"must be the name of one {self.kind}, or one name with its settings, "
                        f"got {shorten(value)}.{nearest('', list(self.table))}"
                    ),
                )
            ]
        )

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return a schema that validates by :meth:`parse` and dumps ``{name: settings}``."""
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda choice: {choice.name: choice.config.model_dump(mode="json")}
            ),
        )

    def __get_pydantic_json_schema__(
        self, source: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return a schema of a name of the table, a name with its settings, or a dotted name."""
        settings = {
            name: _settings_schema(entry.Config, handler) for name, entry in self.table.items()
        }
        bare = [
            name
            for name, entry in self.table.items()
            if not any(field.is_required() for field in entry.Config.model_fields.values())
        ]
        return {
            "title": self.kind,
            "oneOf": [
                {"enum": bare, "type": "string"},
                {"type": "string", "pattern": DOTTED},
                {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": settings,
                    "patternProperties": {DOTTED: {"type": ["object", "null"]}},
                    "additionalProperties": False,
                },
            ],
        }


def _settings_schema(config: type[BaseConfig], handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    return {"anyOf": [handler(config.__pydantic_core_schema__), {"type": "null"}]}


def _custom_error(problems: list[Problem]) -> PydanticCustomError:
    return PydanticCustomError("nested", "invalid choice", {"problems": problems})


def shorten(value: object) -> str:
    """Return a value as messages show it: at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def problems_of(error: ValidationError, model: type[BaseConfig]) -> list[Problem]:
    """Return pydantic's errors as problems, those within a table's entry at their full place."""
    return list(_flatten(error, model))


def _flatten(error: ValidationError, model: type[BaseConfig]) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        place: Place = detail["loc"]
        context = detail.get("ctx", {})
        cause = context.get("error")
        nested = cause.problems if isinstance(cause, ConfigError) else context.get("problems")
        if nested is not None:
            yield from (Problem((*place, *p.place), p.message) for p in nested)
        elif detail["type"] == "extra_forbidden":
            hint = nearest(str(place[-1]), list(fields_at(model, place[:-1])))
            yield Problem(place, f"unknown key '{place[-1]}'.{hint}")
        elif detail["type"] == "invalid_key":
            yield Problem(place, f"keys must be text, got {shorten(place[-1])}.")
        elif detail["type"] == "missing":
            yield Problem(place, "is required and missing.")
        else:
            yield Problem(place, _message(detail["msg"], detail["input"]))


def fields_at(model: type[BaseConfig], place: Place) -> list[str]:
    """Return the keys that ``model`` knows below ``place``; none if no configuration is there."""
    for key in place:
        field = model.model_fields.get(str(key))
        annotation = field.annotation if field else None
        inner = [
            t
            for t in (annotation, *get_args(annotation))
            if isinstance(t, type) and issubclass(t, BaseConfig)
        ]
        if not inner:
            return []
        model = inner[0]
    return list(model.model_fields)


def _message(rule: str, value: object) -> str:
    rule = rule.removeprefix("Value error, ").removeprefix("Input should be ")
    text = rule if rule[-1:] in ".?" else f"must be {rule}, got {shorten(value)}."
    if isinstance(value, str) and "number" in rule:
        try:
            float(value)
        except ValueError:
            return text
        return text + " YAML reads 1e-4 as text: write 1.0e-4, without quotes."
    return text


def validate(model: type[ConfigT], value: Any) -> ConfigT:
    """Validate a value as settings.

    Args:
        model: The class of the settings.
        value: Plain data, as YAML has them.

    Raises:
        ConfigError: The value breaks rules; the error lists every problem with its place.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ConfigError(problems_of(error, model)) from error
