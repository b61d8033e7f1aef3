"""The simulation of docs/scale.md: the real ledger under loss and stragglers comes to an end, and books everything once."""

from __future__ import annotations

import logging

import pytest

from benchmarks.scale.simulate import MILLION, WORKS, World, measure_memory, simulate, storage

PTI = next(work for work in WORKS if work.name == "PTI, dense")


@pytest.mark.parametrize("gpus", [1, 7, 64])
def test_every_unit_is_done_however_many_machines_are_lost(gpus: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "ganinv.pool")
    calm = simulate(PTI, 2000, gpus, World(losses_per_hour=0.0, stragglers=0.0))
    rough = simulate(PTI, 2000, gpus, World(losses_per_hour=5.0, stragglers=0.2))
    assert calm.units == rough.units == 125
    assert calm.lost_units == 0 < rough.lost_units
    assert calm.seconds >= 2000 * PTI.seconds / gpus * 0.95
    assert rough.seconds > calm.seconds
    assert 0 < rough.busy < calm.busy <= 1.05


def test_workers_that_list_pay_for_every_worker() -> None:
    own, shared = (World(workers_list=each) for each in (True, False))
    few = storage(PTI, MILLION, 1, 62_500, 64, shared)
    assert few.objects == 3 * 62_500 + 3 + MILLION
    assert storage(PTI, MILLION, 1, 62_500, 64, own).lists - few.lists == 64 * 1000


def test_memory_of_the_driver_is_measured_per_image() -> None:
    memory = measure_memory(images=2000)
    assert 200 < memory.image < 1000
    assert 0 < memory.unit < 200  # the ledger holds no state of units that wait
