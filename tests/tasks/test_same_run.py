"""A run that an older version began goes on where today's settings mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from ganinv.config import StrictModel, reread
from ganinv.errors import RunConflict
from ganinv.stages.method import MethodConfig
from ganinv.store import Plan, open_store
from tasks.same_run import comparable
from tasks.steps.edit import EditJob
from tasks.steps.fit import FitJob
from tasks.steps.train import TrainJob

OLD = (Path(__file__).parent / "plan-before-precision.json").read_bytes()
"""Of the demo, from before methods had a precision; its data set's URL was made relative."""


def today(**method: Any) -> Plan:
    """What this version plans for the same job."""
    there = Plan.from_json(OLD, "")
    read = MethodConfig.model_validate(there.config["method"] | method).model_dump(mode="json")
    dataset = {**there.config["dataset"], "limit": 11}
    return Plan.of(there.stage, {**there.config, "method": read, "dataset": dataset}, there.provenance, there.ids, 4)


def test_a_plan_from_before_a_key_with_a_default_goes_on(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.objects.put("latents/e4e/plan.json", OLD)
    with pytest.raises(RunConflict, match=r"method\.precision is new \('float32'\)"):
        store.latents["e4e"].start(today())
    assert store.latents["e4e"].start(today(), reread=comparable) == Plan.from_json(OLD, "")
    assert store.objects.read("latents/e4e/plan.json") == OLD
    with pytest.raises(RunConflict, match=r"other settings: method\.precision is 'float32' there, 'bfloat16' now\. "):
        store.latents["e4e"].start(today(precision="bfloat16"), reread=comparable)
    with pytest.raises(RunConflict, match=r"other settings: method\.batch_size is 64 there, 32 now\. "):
        store.latents["e4e"].start(today(batch_size=32), reread=comparable)


def test_what_is_said_of_a_method_may_be_said_better(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.objects.put("latents/e4e/plan.json", OLD)
    assert store.latents["e4e"].start(today(summary="in other words"), reread=comparable) == Plan.from_json(OLD, "")


def test_another_method_is_named_before_what_follows_from_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.latents["x"].start(
        Plan.of("invert", {"encoders": {"e4e": "c1" * 32}, "method": {"name": "e4e"}}, {}, ["a"], 1)
    )
    now = Plan.of("invert", {"encoders": {"psp": "e4" * 32}, "method": {"name": "psp"}}, {}, ["a"], 1)
    with pytest.raises(RunConflict) as error:
        store.latents["x"].start(now)
    assert (
        "with other settings: method.name is 'e4e' there, 'psp' now; encoders.e4e is missing ('c1c1c1c1c1c1...' there); "
        "encoders.psp is new ('e4e4e4e4e4e4...'). "
    ) in str(error.value)


def test_a_key_that_is_gone_is_named(tmp_path: Path) -> None:
    there = Plan.from_json(OLD, "")
    config = {**there.config, "method": {**there.config["method"], "flips": True}}
    store = open_store(str(tmp_path))
    store.latents["e4e"].start(Plan.of(there.stage, config, there.provenance, there.ids, 12))
    with pytest.raises(RunConflict, match=r"method\.flips is missing \(True there\)"):
        store.latents["e4e"].start(today(), reread=comparable)


class Inner(StrictModel):
    old: int = 1
    new: tuple[float, ...] = (0.5,)


class Job(StrictModel):
    store: str
    inner: Inner = Inner()
    form: Literal["a", "b"] = "a"


def test_an_older_configuration_gets_todays_defaults_at_any_depth() -> None:
    assert reread(Job, {"inner": {"old": 2}}) == {"inner": {"old": 2, "new": [0.5]}, "form": "a"}
    strange = {"inner": {"older": 3}, "form": "c", "latents_digest": "f00"}
    assert reread(Job, strange) == strange


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (EditJob, {"store": "s", "latents": "a", "edits": [{"name": "x", "directions": {"smile": "1sd", "age": 2}}]}),
        (FitJob, {"store": "s", "methods": [{"method": "interfacegan", "layers": {"glasses": [0, 4]}}]}),
        (TrainJob, {"store": "s", "recipe": "portraits-64-e4e", "dataset": {"url": "x", "limit": 3}}),
    ],
)
def test_what_this_version_plans_is_read_as_it_is(model: type[StrictModel], fields: dict[str, Any]) -> None:
    config = model.model_validate(fields).model_dump(mode="json")
    assert reread(model, config) == config
