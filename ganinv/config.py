"""Strict configuration: pydantic models, YAML files, and errors that name the key and the nearest valid one."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import CoreSchema, core_schema

from ganinv.errors import ConfigError, did_you_mean
from ganinv.registry import Registry

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """Base of all configurations: immutable, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ChosenBy:
    """``Annotated[Base, ChosenBy("method", METHODS)]``: a field that is one of a registry's configurations, as its key says.

    A discriminated union whose members are looked up when a value is validated, so that entries registered later are included.
    """

    def __init__(self, key: str, registry: Registry[Any]) -> None:
        self.key, self.registry = key, registry

    def _read(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, Mapping) or not isinstance(value.get(self.key), str):
            raise ValueError(f"expected a mapping with {self.key}: one of {', '.join(self.registry.names)}")
        try:
            model = self.registry[value[self.key]]
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return model.model_validate(dict(value))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        dump = core_schema.plain_serializer_function_ser_schema(
            lambda value, info: value.model_dump(mode=info.mode), info_arg=True
        )
        return core_schema.no_info_plain_validator_function(self._read, serialization=dump)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        members = [self.registry[name] for name in self.registry]
        union: Any = Annotated[reduce(lambda a, b: a | b, members), Field(discriminator=self.key)]
        return handler(TypeAdapter(union).core_schema)


class NameOf:
    """``Annotated[str, NameOf(DISTANCES)]``: a field that is a name of a registry; nothing is imported to check it."""

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def _check(self, name: str) -> str:
        try:
            return self.registry.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.registry.names)}


def config_path(kind: str, name: str) -> Path:
    """``configs/<kind>/<name>.yaml`` of this installation, or ``name`` itself when it is a path to a YAML file."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no configuration file at {name!r}")
        return path
    known = config_names(kind)
    if name not in known:
        raise ConfigError(
            f"unknown {kind.rstrip('s')} {name!r}{did_you_mean(name, known)}; there are: {', '.join(known)}"
        )
    return _configs() / kind / f"{name}.yaml"


def offered(where: str) -> list[str]:
    """Names of methods that ``configs/offered.yaml`` lists under a word."""
    names: list[str] = load_yaml(config_file("offered.yaml"))[where]
    return names


def config_names(kind: str) -> list[str]:
    """Names of the shipped configurations of a kind (``methods``, ``chains``, ``training``)."""
    return sorted(p.stem for p in (_configs() / kind).glob("*.yaml"))


def config_file(name: str) -> Path:
    """``configs/<name>`` of this installation."""
    return _configs() / name


def _configs() -> Path:
    package = Path(__file__).parent
    installed = package / "configs"  # in a wheel; a checkout has them at its top level
    return installed if installed.is_dir() else package.parent / "configs"


# libyaml is ten times as fast as PyYAML's own reader. A PyYAML that was built without it has only that.
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping."""
    try:
        text = path.read_text()
        try:
            data = yaml.load(text, Loader=_FAST)
        except yaml.YAMLError:
            data = yaml.safe_load(text)  # says it again, and shows the line
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a mapping of keys to values, got {type(data).__name__}")
    return data


def validate(model: type[M], data: Any, where: str, named: Mapping[str, str] | None = None) -> M:
    """``model`` from plain data; a :class:`ConfigError` names every wrong key and the nearest valid one.

    Args:
        named: field, as ``dataset.limit`` -> what whoever gave the value knows it as, such as ``--limit``.
    """
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        errors = error.errors()
        inner = {e["loc"][:depth] for e in errors for depth in range(len(e["loc"]))}
        causes = [
            e for e in errors if e["type"] != "too_short" or e["loc"] not in inner
        ]  # a list whose items are wrong is empty
        raise ConfigError(f"{where}: " + "; ".join(_explain(model, e, named or {}) for e in causes)) from None


def reread(model: type[BaseModel], config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that an older version wrote, as today's ``model`` reads it: settings added since have their defaults.

    Keys that are not fields of the model stay as they are, and so do values that it refuses. Nothing is required.
    """
    now = dict(config)
    for name, field in model.model_fields.items():
        # With what is annotated beside the type: of a recipe, which one its kind names.
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        if name in config:
            with contextlib.suppress(ValidationError):
                now[name] = adapter.dump_python(adapter.validate_python(config[name]), mode="json")
        elif not field.is_required():
            now[name] = adapter.dump_python(field.get_default(call_default_factory=True), mode="json")
    return now


def _explain(model: type[BaseModel], error: Any, named: Mapping[str, str]) -> str:
    location = ".".join(str(part) for part in error["loc"])
    location = named.get(location, location)
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        return f"unknown key {location!r}{did_you_mean(key, sorted(_all_fields(model)))}"
    said = error["msg"].removeprefix("Value error, ")
    if not location:
        return str(said)  # of the whole: what it says names its fields
    return f"{location}: {said} (got {error.get('input')!r:.80})"


def _all_fields(model: type[BaseModel]) -> set[str]:
    """Field names of a model and of every model inside it."""
    schema = model.model_json_schema()
    names = set(schema.get("properties", {}))
    for inner in schema.get("$defs", {}).values():
        names |= set(inner.get("properties", {}))
    return names


def digest(value: Any) -> str:
    """sha256 of a JSON-able value (or model) in canonical form: keys sorted, no spaces."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
