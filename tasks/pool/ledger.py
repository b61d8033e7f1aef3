"""``Ledger``: decides which order comes next, and what an outcome means for its unit. The same for every engine."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ganinv.store import RowError, Unit
from tasks.pool.contract import PoolError, RunSummary, UnitReport
from tasks.pool.slot import Order, Outcome, cut

_log = logging.getLogger("ganinv.pool")

CRASHES = 3
"""Tries of a unit whose worker dies or passes its deadline, before the images to blame are searched for. What raises is
searched for at once: the same code on the same images would raise again."""
STORE_TRIES = 4
"""Tries of a unit whose part cannot be written, before the run stops."""
AWAY_TRIES = 10
"""The same for storage that does not answer: with the pauses, and the store's own patience, some five minutes."""
LOST_TRIES = 20
"""Tries of a unit whose node went away, before it counts as a crash."""
HOPELESS_UNITS = 3
"""Number of units in which every image raises before the run stops, if no image of any unit succeeded."""
LONGEST_PAUSE = 30.0  # seconds
MACHINES = ("died", "late", "lost", "memory")
"""Outcomes that may be caused by the machine or by another process on it."""


@dataclass
class _State:
    """A unit that is not committed."""

    unit: Unit
    failures: dict[str, RowError] = field(default_factory=dict)
    pieces: int = 1
    tries: int = 0  # all that failed
    lost: int = 0
    crashes: int = 0  # since the last search
    store_tries: int = 0
    searches: int = 0  # that found nothing
    suspects: list[tuple[str, ...]] = field(default_factory=list)
    strikes: int = 0  # crashes of the single image under suspicion
    found: bool = False  # the current search has found an image
    due: float = 0.0
    why: str = ""
    """Of the last try that failed."""

    @property
    def alive(self) -> tuple[str, ...]:
        return tuple(i for i in self.unit.ids if i not in self.failures)


class Ledger:
    """Hands out orders and books their outcomes. A unit is in at most one order at a time.

    Args:
        units: those that are left; what is committed already is the caller's to leave out.
        in_order: a unit that pauses holds up those after it. For a single slot, whose caller may count on the order.
    """

    def __init__(self, units: Sequence[Unit], *, in_order: bool) -> None:
        self._in_order = in_order
        # A hundred thousand units wait for days: as they came, and at the front of what is cheap to take from.
        self._fresh = deque(units)
        self._again: deque[_State] = deque()  # tried, or given back
        self._out: dict[int, _State] = {}
        self._held: list[_State] = []  # every image raised: not committed before some image of the run goes well
        self._size = len(units)
        self.retries: Counter[str] = Counter()
        """Tries that failed, by the kind of their outcome."""
        self._ok = self._failed = self._committed = 0
        if len({unit.index for unit in units}) != self._size:
            raise ValueError("units must have different indexes")

    @property
    def finished(self) -> bool:
        return self._committed == self._size

    @property
    def waiting(self) -> int:
        """Number of units that are not with a slot."""
        return len(self._fresh) + len(self._again) + len(self._held)

    @property
    def running(self) -> int:
        """Units that are with a slot: at work, or next."""
        return len(self._out)

    def take(self, now: float) -> Order | None:
        """The next order that is due, None when all are out or pause. ``now`` in seconds of a monotonic clock."""
        if self._held and self.waiting == len(self._held) and not self._out:
            self._release()  # too few to tell a bug from bad images: the rows say what happened
        state = self._next(now)
        if state is None:
            return None
        self._out[state.unit.index] = state
        check = state.suspects[-1] if state.suspects else None
        return Order(state.unit, tuple(state.failures.values()), state.pieces, check)

    def _next(self, now: float) -> _State | None:
        for position, state in enumerate(self._again):
            if state.due <= now:
                del self._again[position]
                return state
            if self._in_order:
                return None
        return _State(self._fresh.popleft()) if self._fresh else None

    def put_back(self, order: Order) -> None:
        """Take back an order that was never begun; this does not count as an attempt."""
        self._again.appendleft(self._out.pop(order.unit.index))

    def record(self, order: Order, outcome: Outcome, now: float) -> UnitReport | None:
        """Book an outcome; the report when the unit is committed.

        Raises:
            PoolError, GaninvError: the run is to stop.
        """
        state = self._out.pop(order.unit.index)
        if outcome.kind == "done":
            assert outcome.report is not None
            return self._commit(outcome.report)
        if outcome.kind == "checked":
            state.suspects.pop()
            state.strikes = 0
            self._settle(state)
            return None
        stop_if_fatal(outcome)
        self.retries[outcome.kind] += 1
        state.tries += 1
        why = outcome.message or outcome.kind
        # The search for an image that fails would say the same of each half.
        level = logging.DEBUG if order.check is not None and why == state.why else logging.WARNING
        state.why = why
        _log.log(level, "unit %d: %s (try %d)", state.unit.index, why, state.tries)
        if outcome.kind in ("store", "unavailable"):
            self._store_failed(state, outcome, now)
        elif outcome.kind == "lost" and state.lost < LOST_TRIES:
            state.lost += 1
            state.due = now + pause(state.lost)
            self._again.appendleft(state)
        elif outcome.kind == "memory" and state.pieces < len(order.check or state.alive):
            state.pieces *= 2
            self._again.appendleft(state)
        elif order.check is not None:
            self._check_failed(state, outcome)
        else:
            self._try_failed(state, outcome, now)
        return None

    def summary(self, seconds: float, replaced_workers: int = 0) -> RunSummary:
        return RunSummary(self._committed, self._ok, self._failed, seconds, self.retries.total(), replaced_workers)

    def _commit(self, report: UnitReport) -> UnitReport:
        self._committed += 1
        self._ok += report.ok
        self._failed += report.failed
        if self._ok:
            self._release()
        return report

    def _release(self) -> None:
        self._again += self._held
        self._held.clear()

    def _store_failed(self, state: _State, outcome: Outcome, now: float) -> None:
        state.store_tries += 1
        if state.store_tries >= (STORE_TRIES if outcome.kind == "store" else AWAY_TRIES):
            raise outcome.exception() or PoolError(f"unit {state.unit.index} cannot be written: {outcome.message}")
        state.due = now + pause(state.store_tries)
        self._again.appendleft(state)

    def _try_failed(self, state: _State, outcome: Outcome, now: float) -> None:
        raised = outcome.kind not in MACHINES
        if not raised:
            state.crashes += 1
            state.due = now + pause(state.crashes)
        if raised or state.crashes >= CRASHES:
            if state.searches or (raised and len(state.alive) == 1):
                # Once already each image went well alone, or there is but one: nothing is left to search for.
                self._quarantine(state, state.alive, outcome)
            state.crashes = 0
            state.found = False
            state.suspects = cut(state.alive, 2)[::-1]
        self._settle(state)

    def _check_failed(self, state: _State, outcome: Outcome) -> None:
        group = state.suspects[-1]
        if len(group) > 1:
            state.suspects[-1:] = cut(group, 2)[::-1]
        elif outcome.kind in MACHINES and state.strikes == 0:
            state.strikes = 1  # a machine may fail just then
        else:
            state.suspects.pop()
            self._quarantine(state, group, outcome)
        self._settle(state)

    def _quarantine(self, state: _State, ids: Sequence[str], outcome: Outcome) -> None:
        state.found = True
        state.strikes = 0
        for image_id in ids:
            state.failures[image_id] = RowError(image_id, outcome.code, outcome.message, state.tries)

    def _settle(self, state: _State) -> None:
        """Put a unit back in line, or aside when all of it failed and nothing else went well so far."""
        if not state.suspects and not state.found and not state.crashes:
            state.searches += 1
            state.pieces = max(
                1, len(state.alive)
            )  # each went well alone, so together they may have been too many for memory
        if state.alive or self._ok:
            self._again.appendleft(state)
            return
        self._held.append(state)
        if len(self._held) >= HOPELESS_UNITS:
            last = list(state.failures.values())[-1]
            raise PoolError(
                f"every image of the first {len(self._held)} units failed, the last one with {last.message!r}. "
                "Nothing of these units was written: mend the cause and run again"
            )


def stop_if_fatal(outcome: Outcome) -> None:
    """Raise what concerns the whole run."""
    if outcome.kind == "fatal":
        raise outcome.exception() or PoolError(outcome.message)


def pause(times: int) -> float:
    """Seconds to wait after the n-th failure in a row: 0.5, 1, 2, ... 30."""
    return min(LONGEST_PAUSE, 0.5 * 2 ** (times - 1))
