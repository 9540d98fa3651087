"""How often the request volume doubles within minutes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoublingCount:
    """How often one bin holds at least twice the requests of the bin before it, which holds at least one.

    Attributes:
        bin_s: the recording is cut into bins of this length from its start; only complete bins count.
        pairs: neighbouring bins compared.
        doublings: of them, in the whole recording.
        per_workday: mean over the workdays; None = not one complete day.
        beyond_chance: doublings that a steady rate would show in fewer than one of 1000 pairs of as many requests.
        beyond_chance_per_workday: their mean over the workdays; None = not one complete day.
    """

    bin_s: float
    pairs: int
    doublings: int
    per_workday: float | None
    beyond_chance: int
    beyond_chance_per_workday: float | None


@dataclass(frozen=True, slots=True)
class Doublings:
    """Doublings from 5 minutes to the next 5 and from 10 to the next 10.

    Attributes:
        workdays: complete days that count as workdays.
        weekend_known: a trace knows no calendar: the weekend is the two neighbouring days of the week with the fewest
            requests. It takes two complete weeks to see it; with less, every complete day counts as a workday.
        within_5_min, within_10_min: the counts.
    """

    workdays: int
    weekend_known: bool
    within_5_min: DoublingCount
    within_10_min: DoublingCount
