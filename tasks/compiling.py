"""Whether a run's steps of optimisation and tuning are compiled: where that pays within the run. Its plan has the answer."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable

from ganinv.config import validate
from ganinv.stages.method import MethodConfig
from ganinv.store import Plan
from tasks.engine import Engine, gpus_expected
from tasks.estimate import Estimate

SECONDS = 300.0
"""What a worker needs at most: 152 to 215 for ``pti`` (``benchmarks.generator.fast_path --cold``); 260 if two share two cores."""
SAVED = 0.08
"""Share of a step's time that compiling saves (``benchmarks.generator.fast_path``: 0.08 to 0.10 of a whole method)."""

_log = logging.getLogger("ganinv.tasks")


def decide(plan: Plan, cost: Callable[[], Estimate], engine: Engine) -> Plan:
    """The plan of a run that begins, with ``compiled`` of its method set if nobody has.

    Steps are compiled if each worker saves more than it takes to compile them, as far as that is known: of a cluster whose
    size is not given it is not. On a GPU, where nobody has measured it, they are not, nor where ``GANINV_FAST`` decides. Compiled
    batches are filled up with idle images, which counts against it where units are not made of whole batches.
    """
    method = validate(MethodConfig, plan.config["method"], "plan")
    if method.compiled is not None or method.single_pass:
        return plan
    pays = False
    if (
        compiler()
        and not os.environ.get("GANINV_FAST")
        and not (os.environ.get("RAY_ADDRESS") and engine.slots is None)
    ):
        saved = (cost().seconds or 0.0) * (1 - (1 - SAVED) / _filled(plan, method.lanes))
        pays = saved > SECONDS and not gpus_expected(engine)
        if pays:
            _log.info("steps are compiled: that takes a worker up to %.0f s and saves it about %.0f s", SECONDS, saved)
    return plan.model_copy(update={"config": {**plan.config, "method": {**plan.config["method"], "compiled": pays}}})


def _filled(plan: Plan, lanes: int) -> float:
    """Share of the places in batches of ``lanes`` that have an image."""
    sizes = [len(unit.ids) for unit in plan.units]
    return sum(sizes) / sum(-(-size // lanes) * lanes for size in sizes)


def compiler() -> str | None:
    """The C++ compiler that ``torch.compile`` would call on this machine."""
    return next(
        (path for name in (os.environ.get("CXX"), "c++", "g++", "clang++") if name and (path := shutil.which(name))),
        None,
    )
