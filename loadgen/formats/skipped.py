"""Rows of a trace file that could not be read: where they are, and what is wrong with them."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class BadRow:
    """What is wrong with one row.

    Attributes:
        reason: the same for all rows with the same fault, to count them by.
        problem: the fault with the row's own value, and what was wanted.
    """

    reason: str
    problem: str


@dataclass(slots=True)
class SkippedRows:
    """All rows that were left out, counted by reason, with the first few of them in full.

    Attributes:
        counts: rows by reason.
        examples: 'file line N: problem' of the first rows.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        """The number of rows that were left out."""
        return self.counts.total()

    @classmethod
    def joined(cls, parts: Iterable["SkippedRows"]) -> Self:
        """Those of several files as one."""
        whole = cls()
        for part in parts:
            whole.counts.update(part.counts)
            whole.examples.extend(part.examples[: _EXAMPLES - len(whole.examples)])
        return whole

    def add(self, where: str, row: BadRow) -> None:
        """Count one more row."""
        self.counts[row.reason] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{where}: {row.problem}")
