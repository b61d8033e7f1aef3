"""How a bulk inversion scales: the pool's own ledger on simulated time, with spot loss, stragglers and a driver that can be busy.

    python -m benchmarks.scale.simulate --to docs/scale.svg      # the tables of docs/scale.md, and its plot; some minutes

``tasks.pool.ledger.Ledger`` decides what runs where, exactly as in a run: units of the size that ``plan_invert`` cuts, one at
work and one behind it in each slot, a slot per GPU. Simulated are the seconds: an image's cost (of
``compute-budget.md``: what 25 % of an H200's floor gives at 1024 pixels), slots that are slow, machines that are taken away
and come back, the start of a worker, and the driver, which handles one report at a time. What is in memory is
measured on plans of 20,000 images, not simulated. Prices are the options; they are assumptions, not offers.
"""

from __future__ import annotations

import argparse
import heapq
import logging
import math
import random
import time
import tracemalloc
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from ganinv.data.source import SourceRef
from ganinv.stages.method import method_config
from ganinv.store import Plan, Unit
from tasks.pool import UnitReport
from tasks.pool.ledger import Ledger
from tasks.pool.progress import format_duration
from tasks.pool.slot import Order, Outcome
from tasks.steps.invert import shard_size

KEYS_PER_LIST = 1000  # of S3
MILLION = 1_000_000
COLUMNS = (
    "GPUs", "time", "computing", "$ GPUs", "units", "lost", "driver busy", "ledger", "objects", "lists", "stored", "driver"
)  # fmt: skip


@dataclass(frozen=True)
class Work:
    """A method at 1024 pixels on one GPU: ``seconds`` and bytes per image; ``bytes`` of its row, ``extras`` of its own object."""

    name: str
    method: str
    seconds: float
    bytes: float
    extras: float = 0.0
    share: int = MILLION
    """Images of a collection, where there are more."""


WORKS = (
    Work("e4e, encode and render", "e4e", 0.0015, 0.84 * 18 * 512 * 4, share=10 * MILLION),
    Work("low-rank tuning from e4e", "pti", 0.67, 0.84 * 18 * 512 * 4, 0.96e6),
    Work("PTI, dense", "pti-paper", 2.0, 0.84 * 18 * 512 * 4, 56.5e6),
)


@dataclass(frozen=True)
class World:
    """What happens to machines. Rates are per GPU and hour, times in seconds.

    Args:
        driver_seconds: that the driver needs for one report: a call and a wait of Ray beside the ledger.
        decode_seconds, cores: reading, decoding and hashing a JPEG of 1024 pixels on one core (measured on two busy cores),
            and the cores that each GPU has.
        keep_for_all: no slot gets a second unit when there is no more than one for each.
        workers_list: every worker lists the data set, as it once was.
    """

    losses_per_hour: float = 0.05
    replace_seconds: float = 180.0
    detect_seconds: float = 5.0
    start_seconds: float = 30.0
    list_seconds: float = 0.15
    stragglers: float = 0.02
    straggler_factor: float = 3.0
    spread: float = 0.1
    driver_seconds: float = 0.002
    decode_seconds: float = 0.030
    cores: int = 16
    keep_for_all: bool = True
    workers_list: bool = False
    seed: int = 0


@dataclass
class Slot:
    """A GPU's worker."""

    pace: float
    orders: deque[Order] = field(default_factory=deque)
    life: int = 0  # grows when the machine is lost: what was to come of it does not
    up: bool = False


@dataclass(frozen=True)
class Result:
    """Of one collection."""

    seconds: float
    gpu_seconds: float
    busy: float
    units: int
    lost_units: int
    driver_busy: float
    ledger_seconds: float


def simulate(work: Work, images: int, gpus: int, world: World, unit_size: int | None = None) -> Result:
    """Run one collection to its end."""
    size = unit_size or shard_size(method_config(work.method), images)
    units = -(-images // size)
    last = images - (units - 1) * size
    rng, order_of_events = random.Random(world.seed), count()
    ledger = Ledger([Unit.model_construct(index=i, ids=()) for i in range(units)], in_order=gpus == 1)
    slots = [Slot(world.straggler_factor if rng.random() < world.stragglers else 1.0) for _ in range(min(gpus, units))]
    per_image = max(work.seconds, world.decode_seconds / world.cores)
    begin = world.start_seconds + world.workers_list * world.list_seconds * images / KEYS_PER_LIST
    depth = 2 if len(slots) > 1 else 1
    events: list[tuple[float, int, str, Slot, int]] = []
    now = driver_free = driver = ledger_seconds = 0.0
    lost = 0

    def at(when: float, what: str, slot: Slot) -> None:
        heapq.heappush(events, (when, next(order_of_events), what, slot, slot.life))

    def start(slot: Slot, when: float) -> None:
        images_in = last if slot.orders[0].unit.index == units - 1 else size
        at(when + images_in * per_image * slot.pace * rng.lognormvariate(0.0, world.spread), "done", slot)

    def send(to: Sequence[Slot], when: float) -> None:
        """All get their first unit before one gets its second, as in the engine."""
        for level in range(1, depth + 1):
            if level == 2 and ledger.waiting <= len(slots) * world.keep_for_all:
                break
            for slot in to:
                if slot.up and len(slot.orders) < level and (order := ledger.take(when)) is not None:
                    slot.orders.append(order)
                    if len(slot.orders) == 1:
                        start(slot, when)

    def lose(slot: Slot) -> None:
        """The machine goes; the driver notices, and looks again when the unit's pause is over."""
        slot.life, slot.up = slot.life + 1, False
        orders, slot.orders = slot.orders, deque()
        for order in list(orders)[1:]:
            ledger.put_back(order)
        if orders:
            ledger.record(orders[0], Outcome("lost"), now + world.detect_seconds)
        at(now + world.replace_seconds + begin, "up", slot)
        at(now + world.replace_seconds + rng.expovariate(world.losses_per_hour / 3600), "loss", slot)
        for pause in (1.0, 35.0):
            at(now + world.detect_seconds + pause, "look", slot)

    for slot in slots:
        at(begin, "up", slot)
        if world.losses_per_hour:
            at(rng.expovariate(world.losses_per_hour / 3600), "loss", slot)
    while not ledger.finished:
        now, _, what, slot, life = heapq.heappop(events)
        if life != slot.life and what != "look":
            continue
        if what == "loss":
            lost += bool(slot.orders)
            lose(slot)
            continue
        handled = max(now, driver_free)
        began = time.process_time()
        if what == "done":
            order = slot.orders.popleft()
            if slot.orders:
                start(slot, now)
            driver_free = handled + world.driver_seconds
            driver += world.driver_seconds
            ledger.record(order, Outcome("done", UnitReport(order.unit.index, 1, 0, 0.0)), handled)
        elif what == "up":
            slot.up = True
        send(slots if what == "look" else [slot], max(handled, driver_free))
        ledger_seconds += time.process_time() - began
    ended = max(now, driver_free)
    busy = images * per_image / (ended * len(slots))
    return Result(ended, ended * gpus, busy, units, lost, driver / ended, ledger_seconds)


@dataclass(frozen=True)
class Memory:
    """What the driver holds: bytes per image (sources, plan) and per unit (ledger); plan.json per image; seconds to plan one."""

    image: float
    unit: float
    json: float
    seconds: float


def measure_memory(images: int = 20_000, unit_size: int = 16) -> Memory:
    """Measured on a plan of ids such as a data set of a million files has."""
    tracemalloc.start()
    sources = {}
    for k in range(images):
        path = f"bucket/faces/shard-{k // 1000:05d}/{k:09d}.png"
        sources[path[13:-4]] = SourceRef(f"s3://{path}", path, length=k)
    began = time.process_time()
    plan = Plan.of("invert", {}, {}, list(sources), unit_size)
    held = tracemalloc.get_traced_memory()[0]
    ledger = Ledger(plan.units, in_order=False)
    ledger_bytes = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()
    size = len(plan.to_json())
    seconds = time.process_time() - began
    assert not ledger.finished
    return Memory(held / images, ledger_bytes / len(plan.units), size / images, seconds / images)


@dataclass(frozen=True)
class Storage:
    """Objects, calls and bytes of a whole job."""

    objects: float
    lists: float
    bytes: float


def storage(work: Work, images: int, collections: int, units: int, gpus: int, world: World) -> Storage:
    """``units``: of all collections. Lists: the data set by the driver (and by each worker, where they do), the folder of the
    collection when it begins and when it is finished, and once for ``ganinv status``."""
    objects = 3 * units + 3 * collections + images * bool(work.extras)
    listings = (1 + gpus * world.workers_list) * math.ceil(images / KEYS_PER_LIST)
    listings += 3 * max(collections, math.ceil(3 * units / KEYS_PER_LIST))
    return Storage(objects, listings, images * (work.bytes + work.extras))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64, 512])
    parser.add_argument("--images", type=int, nargs="+", default=[70_000, 100 * MILLION])
    parser.add_argument("--share", type=int, help="images of a collection, where there are more")
    parser.add_argument("--one-collection", action="store_true", help="do not cut a large data set into shares")
    parser.add_argument("--workers-list", action="store_true", help="every worker lists the data set, as it once was")
    parser.add_argument("--gpu-dollars", type=float, default=2.5, help="per GPU and hour")
    parser.add_argument("--queue-to-the-end", action="store_true", help="second units to the last, as it once was")
    parser.add_argument("--losses", type=float, default=World.losses_per_hour, help="per GPU and hour")
    parser.add_argument("--stragglers", type=float, default=World.stragglers, help="share of slots three times as slow")
    parser.add_argument("--works", nargs="+", default=[work.method for work in WORKS])
    parser.add_argument("--to", type=Path, help="where to write the plot, an SVG")
    args = parser.parse_args()
    world = World(losses_per_hour=args.losses, stragglers=args.stragglers, workers_list=args.workers_list)
    world = replace(world, keep_for_all=not args.queue_to_the_end)
    logging.getLogger("ganinv.pool").setLevel(logging.ERROR)  # a line for each unit that is lost
    memory = measure_memory()
    print(
        f"Driver: {memory.image:.0f} B per image, {memory.unit:.0f} B per unit; plan.json {memory.json:.0f} B per image; "
        f"planning {memory.seconds * MILLION:.0f} s of processor time per million images.\n"
    )
    lines: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
    for images in args.images:
        for work in (each for each in WORKS if each.method in args.works):
            share = images if args.one_collection else min(images, args.share or work.share)
            print(f"### {work.name}, {images:,} images, {images // share} x {share:,}\n")
            print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
            for gpus in args.gpus:
                one, times = simulate(work, share, gpus, world), images / share
                whole = storage(work, images, round(times), round(one.units * times), gpus, world)
                seconds, driver_bytes = one.seconds * times, memory.image * share + memory.unit * one.units
                cells = [
                    f"{gpus}", format_duration(seconds) if seconds < 172800 else f"{seconds / 86400:.1f} d", f"{one.busy:.0%}",
                    f"{one.gpu_seconds * times / 3600 * args.gpu_dollars:,.2f}", f"{one.units * times:,.0f}",
                    f"{one.lost_units * times:,.0f}", f"{one.driver_busy:.1%}", f"{one.ledger_seconds * times:,.1f} s",
                    short(whole.objects), short(whole.lists), f"{short(whole.bytes)}B", f"{short(driver_bytes)}B",
                ]  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)
                lines.setdefault((work.name, images), []).append((gpus, seconds, one.busy))
            print()
    if args.to:
        plot(lines, args.to)


def short(value: float) -> str:
    """``12.3 k``, ``4.50 M``."""
    for unit in ("", "k", "M", "G", "T"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} P"


def plot(lines: dict[tuple[str, int], list[tuple[int, float, float]]], to: Path) -> None:
    """Time, and the share of it that GPUs compute, over the number of GPUs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    tones = dict(zip(dict.fromkeys(name for name, _ in lines), ("#2a6fbb", "#c4622d", "#3f8f4f"), strict=False))
    styles = dict(zip(sorted({images for _, images in lines}), ("--", "-"), strict=False))
    for (name, images), points in lines.items():
        gpus, seconds, busy = zip(*points, strict=True)
        look: dict[str, Any] = {"color": tones[name], "linestyle": styles[images], "marker": "o", "markersize": 4}
        left.plot(gpus, [each / 3600 for each in seconds], label=f"{name}, {images:,}", **look)
        right.plot(gpus, [100 * each for each in busy], **look)
    for axes, title in ((left, "Hours"), (right, "Percent of GPU time that computes")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(gpus, [str(each) for each in gpus])
        axes.set_xlabel("GPUs")
        axes.set_title(title, loc="left")
        axes.grid(alpha=0.3)
    left.set_yscale("log")
    right.set_ylim(0, 103)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
