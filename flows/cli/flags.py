"""Flags of a command, made from the fields of its job model: no field is written twice.

    @step(app, "tasks.steps.invert:InvertJob", flat=("dataset",), flags={"start": Flag("--from")})
    def invert(job: Said, engine: Said, dry_run: DryRun = False, as_json: AsJson = False) -> None:
        '''Invert a data set.'''
        run_step("tasks.steps.invert:run_invert", job, engine, as_json)

Each field of the model is a flag of its name, and so is each field of :class:`tasks.jobs.engine.Engine`, with ``--allow-failed``;
the function's own parameters stand between. What is said of a field comes from the model's docstring. Values become what the
field wants:

==============================================  ============================================================
field                                           flag
==============================================  ============================================================
``str``, ``int``, ``float``, a ``Literal``      ``--name VALUE``
``bool``                                        ``--name/--no-name``; ``--name`` alone where False is the default
``tuple[str, ...]``                             ``--name A --name B``
a mapping, or a model                           ``--name KEY=VALUE --name KEY=VALUE``; not of texts also ``A.B=VALUE``
a model in ``flat``                             a flag for each of its fields; its ``url`` has the name of the model's field
a tuple of so many values                       ``--name A,B``
anything else                                   ``--name YAML``
==============================================  ============================================================

A model may live beside torch, so it is imported when its command is called or asked for help, not when commands are listed.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from typer.core import TyperCommand

from ganinv.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

ENGINE = "tasks.jobs.engine:Engine"
COMMON = {
    "store": "Root of the store: a folder or any fsspec URL, such as s3://bucket/root.",
    "generator": "Name of an embedded generator, a weight file, or the folder of an imported generator.",
    "labeller": "Name of a shipped labeller or of one in configs/labellers, or a YAML file.",
    "name": "Name of the result in the store.",
    "latents": "Name of the inversions.",
    "samples": "Name of the samples.",
    "edits": "Name of the edits.",
    "seed": "Random seed.",
    "method": "Name of a method in configs/methods, or a YAML file.",
    "unit_size": "Number of images that are computed and written together.",
    "distance": "Perceptual distance to compare images with.",
    "encoders": "NAME=URI: current location of an encoder that has moved, by the name that the method uses.",
    "needed": "ROLE=URI: another encoder that one depends on, such as w_encoder=w.pt.",
}
"""What is said of a field where its model says nothing."""
SINGULAR = {"encoders": "--encoder"}
"""Fields that are several, whose flag names one."""


@dataclass(frozen=True)
class Flag:
    """How one field appears on the command line, where that does not follow from the field.

    Args:
        name: such as ``--from``.
        help: in place of what the model says.
        default: of this command, in place of the model's.
        required: False where the command does without a value that the model requires.
        argument: a word without a flag before it.
    """

    name: str = ""
    help: str = ""
    default: Any = None
    required: bool | None = None
    argument: bool = False


class Said:
    """What the command line says of a model. The command adds to it and makes the model.

    Args:
        given: field -> value, of those alone that were given. named: field, as ``dataset.limit`` -> its flag.
        allow_failed: of an engine: how many images may fail before the exit code says so; see ``tasks.outcome``.
    """

    def __init__(
        self,
        model: type[BaseModel],
        given: dict[str, Any],
        allow_failed: str | None = None,
        named: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.given, self.allow_failed, self.named = model, given, allow_failed, named or {}

    def make(self, **more: Any) -> Any:
        """The model, with ``more`` before what was said.

        Raises:
            ConfigError: a value that the model refuses; it is named.
        """
        from ganinv.config import validate

        return validate(self.model, {**self.given, **more}, "command line", self.named)


@dataclass(frozen=True, eq=False)
class Step:
    """A command that is made from a model.

    Args:
        model: ``package.module:Model``.
        function: called with what was said of the model, of the engine where it has one, and its own parameters.
        engine: whether units of it run somewhere.
        flat: fields that are models and have a flag for each of their fields.
        made: fields that the function makes of parameters of its own: field -> those flags.
        flags: what is otherwise than the model says; fields of a flat model as ``dataset.url``.
        ahead: modules that its workers need: they are begun before the model, and so torch, is imported here.
    """

    name: str
    model: str
    function: Callable[..., None]
    engine: bool
    flat: Sequence[str]
    made: Mapping[str, Sequence[str]]
    flags: Mapping[str, Flag]
    ahead: Sequence[str] = ()

    @cache  # noqa: B019  # there are as many as there are commands
    def command(self) -> TyperCommand:
        """The command with all its flags. Imports the model."""
        words = [*_words(load(self.model), self)]
        run_on = [*_words(load(ENGINE), _OF_ENGINES)] if self.engine else []
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in list(inspect.signature(self.function, eval_str=True).parameters.values())[
                1 + self.engine :
            ]
        ]

        def call(**values: Any) -> None:
            said = [Said(load(self.model), _given(words, values), named=_as_given(words))]
            if self.engine:
                on = Said(load(ENGINE), _given(run_on, values), values["allow_failed"], _as_given(run_on))
                said.append(on)
            self.function(*said, **{parameter.name: values[parameter.name] for parameter in own})

        parameters = (
            [word.parameter for word in words]
            + own
            + [word.parameter for word in run_on]
            + [_ALLOW_FAILED] * self.engine
        )
        parameters.sort(key=lambda p: p.default is not inspect.Parameter.empty)  # required ones first
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(self.name, help=self.function.__doc__)(call)
        made = typer.main.get_command(alone)
        assert isinstance(made, TyperCommand)
        return made


STEPS: list[Step] = []
"""Every command that is made from a model."""


class StepCommand(TyperCommand):
    """A command that gets its flags when it is called."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        step: Step = self.callback.step  # type: ignore[union-attr]
        if _begins_ahead and "--help" not in args:
            load("tasks.pool.lean:without_pandas")()
        if _begins_ahead and step.ahead and not {"--help", "--dry-run", "--to"} & {a.partition("=")[0] for a in args}:
            begin_ahead(step, args)
        return step.command().make_context(info_name, args, parent=parent, **extra)


def step(
    group: typer.Typer,
    model: str,
    *,
    engine: bool = True,
    flat: Sequence[str] = (),
    made: Mapping[str, Sequence[str]] | None = None,
    flags: Mapping[str, Flag] | None = None,
    ahead: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Register a function as a command of ``group`` with the flags of ``model`` (see :class:`Step`).

    The function's name is the command's. What is returned can be registered with another group, as a :class:`StepCommand`.
    """

    def register(function: Callable[..., None]) -> Callable[[], None]:
        def unbuilt() -> None: ...

        unbuilt.__doc__, unbuilt.__name__ = function.__doc__, function.__name__
        made_of = Step(function.__name__, model, function, engine, flat, made or {}, flags or {}, ahead)
        unbuilt.step = made_of  # type: ignore[attr-defined]
        STEPS.append(made_of)
        group.command(function.__name__, cls=StepCommand)(unbuilt)
        return unbuilt

    return register


_begins_ahead = False


def allow_ahead() -> None:
    """Of a process that is one command: what is begun before it is known to be needed ends with it, and nobody else imports."""
    global _begins_ahead
    _begins_ahead = True


def begin_ahead(step: Step, args: Sequence[str]) -> None:
    """Ray and its workers are on their way while this process imports the command's model. What is wrong with the engine's
    flags is told by the command itself."""
    words = {flag: word for word in _words(load(ENGINE), _OF_ENGINES) for flag in _names(word)}
    given: dict[str, Any] = {}
    for place, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if (word := words.get(flag)) is None:
            continue
        if equals:
            given[word.path[-1]] = value
        elif flag.startswith("--no-") or place + 1 == len(args) or args[place + 1].startswith("--"):
            given[word.path[-1]] = not flag.startswith("--no-")
        else:
            given[word.path[-1]] = args[place + 1]
    with suppress(ConfigError):
        load("tasks.pool.early:begin")(Said(load(ENGINE), given).make(), step.ahead)


def _as_given(words: Sequence[Word]) -> dict[str, str]:
    """Field -> the flag that it is given with."""
    return {".".join(word.path): (_names(word) or [word.path[0].upper()])[0] for word in words}


def _names(word: Word) -> list[str]:
    """``--quiet``, ``--no-quiet``."""
    about = get_args(word.parameter.annotation)[1]
    declared = [
        about.default,
        *(about.param_decls or ()),
    ]  # beside an annotation, Typer takes the first name for the default
    return [name for names in declared if isinstance(names, str) for name in names.split("/")]


def load(name: str) -> Any:
    """``package.module:object``."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping."""
    found = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"expected key=value, got {text!r}: a name, an equals sign and a value without blanks between"
            )
        found[key.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class Word:
    """One flag: where its value goes, how it is read, and as Typer wants it."""

    path: tuple[str, ...]
    read: Callable[[Any], Any]
    parameter: inspect.Parameter


def _words(model: type[BaseModel], of: Step, path: tuple[str, ...] = ()) -> Iterator[Word]:
    told = _told(model)
    for name, field in model.model_fields.items():
        here = (*path, name)
        if name in of.made and not path:
            continue
        if name in of.flat and not path:
            inner, optional = _without_none(field.annotation)
            words = _words(inner, of, here)
            yield from (_optional(word) for word in words) if optional else words
            continue
        flag = of.flags.get(".".join(here), Flag())
        help_text = flag.help or told.get(name) or COMMON.get(name, "")
        yield _word(here, field, replace(flag, help=help_text), _PANEL if of is _OF_ENGINES else None)


def _word(path: tuple[str, ...], field: FieldInfo, flag: Flag, panel: str | None) -> Word:
    kind, read, metavar = _kind(field.annotation)
    name = path[0] if path[-1] == "url" and len(path) > 1 else path[-1]
    default = flag.default if flag.default is not None else None if field.is_required() else field.get_default()
    if default is None and not field.is_required():
        default = field.get_default(call_default_factory=True)
    required = field.is_required() and flag.default is None if flag.required is None else flag.required
    shown: str | bool = False
    if not required and isinstance(default, str | int | float) and not isinstance(default, bool) and default != "":
        shown = str(default)
    names = [flag.name or SINGULAR.get(name) or f"--{name.replace('_', '-')}"]
    if kind is bool:
        names = names if default is False else [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
        shown = {True: names[0].partition("/")[0].removeprefix("--")}.get(bool(default), False)
    settings: dict[str, Any] = {"help": flag.help or None, "show_default": shown, "rich_help_panel": panel}
    settings |= {"metavar": metavar} if metavar else {"metavar": path[0].upper()} if flag.argument else {}
    about = typer.Argument(**settings) if flag.argument else typer.Option(*names, **settings)
    identifier = "_".join(path) if len(path) > 1 or panel is None else f"engine_{path[-1]}"
    empty = inspect.Parameter.empty
    parameter = inspect.Parameter(
        identifier,
        inspect.Parameter.KEYWORD_ONLY,
        default=empty if required else flag.default,
        annotation=Annotated[kind if required else kind | None, about],
    )
    return Word(path, read, parameter)


def _optional(word: Word) -> Word:
    """Not required: without any of its flags the whole model is left away."""
    old = word.parameter
    if old.default is not inspect.Parameter.empty:
        return word
    kind, about = get_args(old.annotation)
    return replace(word, parameter=old.replace(default=None, annotation=Annotated[kind | None, about]))


def _kind(annotation: Any) -> tuple[Any, Callable[[Any], Any], str | None]:
    """(type for Typer, how a word is read, its placeholder in the help)."""
    inner, _ = _without_none(annotation)
    origin = get_origin(inner)
    if inner in (str, int, float, bool) or origin is Literal:
        return inner, lambda value: value, None
    many = origin in (list, Sequence) or (origin is tuple and get_args(inner)[1:] == (...,))
    if many and get_args(inner)[0] in (str, int, float):
        return list[get_args(inner)[0]], list, None  # type: ignore[misc]
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if get_args(inner)[1] is str:
            return list[str], pairs, "KEY=VALUE"
        return list[str], nested, "KEY=VALUE"
    if isinstance(inner, type) and hasattr(inner, "model_fields"):
        return list[str], nested, "KEY=VALUE"
    return (str, _several, "A,B") if origin is tuple else (str, as_yaml, "YAML")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """A type without its annotations and without None, and whether None was one of it."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        if len(kinds) == 1:
            return _without_none(kinds[0])[0], len(kinds) < len(get_args(annotation))
    return annotation, False


def nested(texts: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` words with values as in YAML; ``a.b=1`` as ``{"a": {"b": 1}}``."""
    found: dict[str, Any] = {}
    for key, text in pairs(texts).items():
        *outer, last = key.split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = as_yaml(text)
    return found


def _several(text: str) -> Any:
    """``[0, 3]``, or ``0,3``."""
    value = as_yaml(text)
    return as_yaml(f"[{value}]") if isinstance(value, str) and "," in value else value


def as_yaml(text: str) -> Any:
    """A value as YAML has it. Raises ConfigError for a text that is no YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"expected a value as in YAML, such as 3, true or [1, 2], got {text!r}") from None


def _given(words: Sequence[Word], values: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, field by field."""
    given: dict[str, Any] = {}
    for word in words:
        value = values[word.parameter.name]
        if value is None or value == []:
            continue
        place = given
        for part in word.path[:-1]:
            place = place.setdefault(part, {})
        place[word.path[-1]] = word.read(value)
    return given


def _told(model: type[BaseModel]) -> dict[str, str]:
    """What a model's docstring says of its fields, under ``Args:``; and what each field says itself."""
    _, _, text = inspect.cleandoc(model.__doc__ or "").partition("Args:\n")
    found: dict[str, str] = {}
    for names, words in re.findall(r"^    (\w+(?:, \w+)*): (.*(?:\n {6,}.*)*)", text, re.MULTILINE):
        for name in names.split(", "):
            found[name] = _plain(words)
    return found | {n: f.description for n, f in model.model_fields.items() if f.description}


def _plain(text: str) -> str:
    """A docstring's words, as a sentence in a terminal."""
    words = " ".join(text.replace("``", "").split())
    return words[:1].upper() + words[1:]


def _allowed(value: str | None) -> str | None:
    """Told before a run, not after it."""
    if value is not None and not re.fullmatch(r"all|\d+|\d+(\.\d+)?%", value):
        raise typer.BadParameter(f"expected a number of images (10), a share (5%) or all, got {value!r}")
    return value


_PANEL = "Where and how it runs"
_ALLOW_FAILED = inspect.Parameter(
    "allow_failed",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        str | None,
        typer.Option(
            callback=_allowed,
            help="How many images may fail before the exit code is 3: a number, a share such as 5%, or all. By default any "
            "number, but not all of them, and no whole shard.",
            rich_help_panel=_PANEL,
        ),
    ],
)
_OF_ENGINES = Step(
    "", ENGINE, lambda: None, False, (), {}, {"kind": Flag("--engine"), "deadline_seconds": Flag("--deadline")}
)
