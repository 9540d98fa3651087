"""What is shaded in the rows of the figure: the warm-up, the bursts, and what the experiment let go wrong."""

from testbed.report import palette
from testbed.report.facts import RunFacts
from testbed.report.panels import Band


def time_bands(facts: RunFacts) -> tuple[Band, ...]:
    """All that is shaded, each kind in order of time."""
    return (*_warm_up(facts), *_bursts(facts), *_faults(facts))


def _warm_up(facts: RunFacts) -> tuple[Band, ...]:
    warm_up = facts.summary.get("warm_up")
    if not warm_up:
        return ()
    return (Band("warm-up, not counted", palette.WARM_UP, 0.0, float(warm_up["until_s"]), opacity=0.22),)


def _bursts(facts: RunFacts) -> tuple[Band, ...]:
    """The bursts of the report's table."""
    summaries = [model.summary for model in facts.models.values()] or [facts.summary]
    found = sum((summary.get("bursts") or {"bursts": 0})["bursts"] for summary in summaries)
    shown = facts.bursts
    label = "burst" if found == len(shown) else f"burst (the {len(shown)} worst of {found:,})"
    return tuple(
        Band(label, palette.BURST, float(burst["onset_s"]), float(burst["onset_s"] + burst["length_s"]), opacity=0.2)
        for burst in shown
    )


def _faults(facts: RunFacts) -> tuple[Band, ...]:
    """The faults of the report's table, by their numbers there."""
    return tuple(
        Band(
            label="fault (numbered as in their table)",
            colour=palette.FAULT,
            start_s=float(fault.get("at_s", fault.get("start_s", 0.0))),
            end_s=min(float(fault.get("at_s", fault.get("end_s", facts.duration_s))), facts.duration_s),
            opacity=0.12,
            number=str(number),
        )
        for number, (_, fault) in enumerate(facts.faults, start=1)
    )
