"""Flags are made from job models: none is missing, values become what fields want, and listing commands loads nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, Literal, get_args

import pytest
import typer
from pydantic import Field

from flows.cli.flags import ENGINE, STEPS, Flag, Said, Step, load, step
from flows.cli.options import AsJson
from ganinv.config import StrictModel
from ganinv.errors import ConfigError

IDS = [each.name for each in STEPS]


def options_of(each: Step) -> dict[str, list[str]]:
    """Parameter -> its flags; of a word without a flag, none."""
    return {
        parameter.name: [o for o in (*parameter.opts, *parameter.secondary_opts) if o.startswith("-")]
        for parameter in each.command().params
        if parameter.name
    }


def fields_of(each: Step) -> dict[str, str]:
    """Every field of the model that ought to be a parameter -> the parameter's name; fields of flat models one by one."""
    found = {}
    for name, field in load(each.model).model_fields.items():
        if name in each.flat:
            inner = next(t for t in (field.annotation, *get_args(field.annotation)) if hasattr(t, "model_fields"))
            found |= {f"{name}.{n}": f"{name}_{n}" for n in inner.model_fields}
        elif name not in each.made:
            found[name] = name
    return found


@pytest.mark.parametrize("each", STEPS, ids=IDS)
def test_every_field_of_the_job_is_a_flag(each: Step) -> None:
    options, fields = options_of(each), fields_of(each)
    missing = {field for field, parameter in fields.items() if parameter not in options}
    assert missing == set()
    flags = {flag for some in options.values() for flag in some}
    for field, stand_ins in each.made.items():
        assert field in load(each.model).model_fields
        assert set(stand_ins) <= flags, f"{field} is said to be made of {stand_ins}"
    assert set(each.flags) <= set(fields), "a flag is described whose field is gone"
    assert set(each.flat) <= set(load(each.model).model_fields)


@pytest.mark.parametrize("each", STEPS, ids=IDS)
def test_every_command_that_computes_has_all_options_of_the_engine(each: Step) -> None:
    options = options_of(each)
    there = {f"engine_{name}" for name in load(ENGINE).model_fields} <= options.keys()
    assert there == each.engine == ("allow_failed" in options)
    assert each.engine == (each.name != "report"), "a report is written by this process"
    if each.engine:
        said = {"--engine", "--slots", "--cpus-per-slot", "--gpus-per-slot", "--deadline", "--retry-failed", "--quiet"}
        assert said == {flag for name, some in options.items() if name.startswith("engine_") for flag in some}


def test_every_step_that_can_be_a_flow_is_a_command() -> None:
    import flows.steps

    jobs = {
        next(iter(inspect.signature(flow, eval_str=True).parameters.values())).annotation
        for name, flow in vars(flows.steps).items()
        if name.startswith("_") and inspect.isfunction(flow)
    }
    assert len(jobs) >= 9
    assert jobs <= {load(each.model) for each in STEPS}


def test_submit_has_the_flags_of_invert_and_where_to() -> None:
    invert, submit = (options_of(next(s for s in STEPS if s.name == name)) for name in ("invert", "submit"))
    assert invert.pop("dry_run") == ["--dry-run"]
    assert submit.pop("to") == ["--to"]
    assert invert.pop("dataset_url") == ["--dataset"]
    assert submit.pop("dataset_url") == []  # the word after the command
    assert invert == submit


def test_a_chain_takes_from_the_command_line_what_its_steps_share() -> None:
    from flows.chain import STEPS as OF_CHAIN
    from flows.chain import ChainJob

    options = options_of(next(each for each in STEPS if each.name == "run"))
    shared = ChainJob.model_fields.keys() - set(OF_CHAIN)
    assert shared == {"store", "dataset", "generator", "engine"}
    assert {"store", "generator", "url", "engine_kind"} <= options.keys()


class Inner(StrictModel):
    deep: int = 1
    list_of: tuple[float, ...] = ()


class Images(StrictModel):
    url: str
    part: str | None = None


class ExampleJob(StrictModel):
    """A job.

    Args:
        count: how ``many``,
            of what.
        mode, other: one of two.
    """

    store: str
    images: Images | None = None
    count: int = Field(3, ge=1)
    mode: Literal["a", "b"] = "a"
    other: Literal["a", "b"] | None = None
    on: bool = True
    off: bool = False
    names: tuple[str, ...] = ()
    where: Mapping[str, str] = Field(default_factory=dict)
    more: Mapping[str, Any] = Field(default_factory=dict)
    inner: Inner = Inner()
    rows: tuple[int, int] | None = None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A command with the flags of ``ExampleJob``: arguments -> (job, what it was given)."""
    found: list[Said] = []
    app = typer.Typer()
    monkeypatch.setattr("flows.cli.flags.STEPS", [])
    name = f"{__name__}:ExampleJob"
    monkeypatch.setitem(sys.modules, __name__, sys.modules[ExampleJob.__module__])

    @step(app, name, engine=False, flat=("images",), flags={"mode": Flag("--how")})
    def example(job: Said, as_json: AsJson = False) -> None:
        """Do it."""
        found.append(job)

    @app.command()
    def another() -> None:
        """Typer makes no group of one command."""

    def run(*arguments: str) -> tuple[ExampleJob, dict[str, Any]] | None:
        app(["example", *arguments], standalone_mode=False)
        return (found[-1].make(), found[-1].given) if found else None

    return run


def test_values_become_what_fields_want(said: Any) -> None:
    job, given = said("--store=s")
    assert given == {"store": "s"}  # what is not said is not there, so that a recipe can say it
    assert job == ExampleJob(store="s")
    job, _ = said(
        *("--store=s", "--images=u", "--part=p", "--count=7", "--how=b", "--other=a", "--no-on", "--off"),
        *("--names=x", "--names=y=z", "--where=split=test", "--where=n=1", "--more=n=1", "--more=l=[a, 2]"),
        *("--inner=deep=5", "--inner=list_of=[1, 2.5]", "--rows=[0, 3]"),
    )
    assert job == ExampleJob(
        store="s",
        images=Images(url="u", part="p"),
        count=7,
        mode="b",
        other="a",
        on=False,
        off=True,
        names=("x", "y=z"),
        where={"split": "test", "n": "1"},
        more={"n": 1, "l": ["a", 2]},
        inner=Inner(deep=5, list_of=(1, 2.5)),
        rows=(0, 3),
    )
    assert said("--store=s", "--rows=0,3")[0].rows == (0, 3)
    assert said("--store=s", "--more=stages.0.steps=2")[0].more == {"stages": {"0": {"steps": 2}}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--count=0"], "--count: .*greater than or equal to 1"),
        (["--where=split"], "expected key=value, got 'split'"),
        (["--more=a=[1"], r"expected a value as in YAML, .*got '\[1'"),
        (["--inner=depe=1"], "unknown key 'inner.depe', did you mean 'deep'"),
        (["--part=p"], "--images: Field required"),
        (["--rows=1"], "--rows: Input should be a valid tuple"),
    ],
)
def test_what_a_field_refuses_is_named(said: Any, arguments: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        said("--store=s", *arguments)


def test_help_says_what_the_model_says(said: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("--help") is None
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "How many, of what." in text
    assert text.count("One of two.") == 2
    assert "Root of the store" in text
    assert "Do it." in text


def test_listing_the_commands_loads_no_model() -> None:
    code = (
        "import sys; from flows.cli import main; sys.argv = ['ganinv', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'ray', 'prefect', 'pyarrow', 'tasks.steps.invert') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "invert" in out
    assert out.strip().endswith("[]")
