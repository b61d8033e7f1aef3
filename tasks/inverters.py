"""The inverters that a job's methods call by name, from where the job says they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ganinv.config import validate
from ganinv.generators.stylegan2 import Generator
from ganinv.methods.base import Inverter
from ganinv.methods.files import open_inverter
from ganinv.stages.method import Method, MethodConfig, open_method
from ganinv.store import Collection, open_store


class OpensInverters(Protocol):
    """A job that says where its inverters are."""

    @property
    def store(self) -> str: ...

    @property
    def encoders(self) -> Mapping[str, str]: ...

    @property
    def needed(self) -> Mapping[str, str]: ...


def open_named(job: OpensInverters, name: str, generator: Generator) -> Inverter:
    """The inverter that a method calls ``name``, from where the job says it is. Raises as ``open_inverter``."""
    uri = job.encoders.get(name, name)
    return open_inverter(uri, generator=generator, store=open_store(job.store), needed=job.needed)


def method_of(latents: Collection, job: OpensInverters, generator: Generator) -> Method:
    """The method that made some latents, as their plan has it.

    Raises:
        WeightsRefused, GeneratorMismatch: one of its inverters is not there, or is of another generator.
    """
    planned = latents.plan().config
    cfg = validate(MethodConfig, planned["method"], f"{latents.name}/plan.json")
    return open_method(
        cfg, generator, open_inverter=lambda name: open_named(job, name, generator), seed=planned["seed"]
    )
