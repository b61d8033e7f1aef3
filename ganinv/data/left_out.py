"""Files of a data set that a run does not use, counted by reason, so that nothing is skipped silently."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ganinv.errors import printable


@dataclass
class LeftOut:
    """Files and folders that are not images of a run.

    Args:
        counts: (what, why) -> how many; ``what`` is a suffix such as ``.txt``, or a word such as ``hidden``.
        examples: (what, why) -> the first of them.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, what: str, why: str, example: str, count: int = 1) -> None:
        self.counts[what, why] += count
        self.examples.setdefault((what, why), example)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def as_dict(self) -> dict[str, dict[str, int]]:
        """why -> what -> how many, for JSON."""
        found: dict[str, dict[str, int]] = {}
        for (what, why), count in sorted(self.counts.items()):
            found.setdefault(why, {})[what] = count
        return found

    def by_reason(self) -> dict[str, int]:
        """``why: what`` -> how many, for a summary."""
        return {f"{why}: {what}": count for (what, why), count in sorted(self.counts.items())}

    def line(self) -> str:
        """One line for people; empty if nothing was left out."""
        if not self.counts:
            return ""
        reasons = []
        for why, kinds in self.as_dict().items():
            some = sorted(kinds.items(), key=lambda each: (-each[1], each[0]))
            told = ", ".join(f"{count} {printable(what)}" for what, count in some[:6])
            more = f" and {sum(count for _, count in some[6:])} more" if len(some) > 6 else ""
            reasons.append(f"{told}{more} ({why}; such as {printable(self.examples[some[0][0], why])})")
        return f"left out {len(self)} that are not images of this run: {'; '.join(reasons)}"
