"""The charts of bursts and doublings: how many, how long, how large."""

from collections.abc import Mapping

import numpy as np

from loadgen.statistics.bursts import BurstCount
from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.doublings import DoublingCount
from testbed.report import palette
from testbed.report.charts import Absent, Axis, Chart, Layer, Mark, NumberTable, Section, length_axis, make_section
from testbed.report.number_text import NOTHING, percent, quantity
from testbed.report.time_bins import length, moment

LARGEST = 5


def burst_section(description: TraceDescription) -> Section:
    """Bursts and doublings: how long, how many, and how the requests are shared among the hours."""
    return make_section(
        "Bursts",
        "A burst by the hour begins where an hour has more than twice the requests of the hour before and more than "
        "the mean hour, and lasts while hours stay above the mean; by the minute, it stands out from the ten "
        "minutes before.",
        _length_chart(description),
        _doubling_chart(description),
        tables={"Bursts in numbers": _burst_table(description), "Largest bursts": _largest_table(description)},
    )


def _length_chart(description: TraceDescription) -> Chart | Absent:
    title = "How long bursts last"
    layers = []
    for label, traffic in description.services.items():
        bursts = main_bursts(traffic)
        if bursts is not None and bursts.onsets:
            lengths_s = np.sort(bursts.lengths_s)
            exceeding = 1 - np.arange(len(lengths_s)) / len(lengths_s)
            layers.append(
                Layer(label, palette.SERVICES.get(label, palette.OFFERED), Mark.STEP, lengths_s, 100 * exceeding)
            )
    if not layers:
        return Absent(title, "there is no burst")
    low = min(float(layer.x[0]) for layer in layers)
    high = max(float(layer.x[-1]) for layer in layers)
    if low == high:
        return Absent(title, f"each of them lasts {length(low)}")
    return Chart(
        key="burst-lengths",
        title=title,
        note="share of the bursts that last at least so long",
        caption="A burst that is shorter than a cold start is over before a replica that is asked for at its onset "
        "is ready: it takes replicas in reserve, or a forecast.",
        x=length_axis("length of the burst", low, high),
        y=Axis("% of the bursts", low=0.0, high=100.0, suffix=" %"),
        layers=tuple(layers),
    )


def main_bursts(traffic: TrafficDescription) -> BurstCount | None:
    """By the hour where there is a day or more to look at, by the minute in a shorter trace."""
    return traffic.bursts.by_hour if traffic.bursts.hours >= 24 else traffic.bursts.by_minute


def _doubling_chart(description: TraceDescription) -> Chart | Absent:
    title = "Doublings"
    counts = {
        f"{label}<br>{length(count.bin_s)}": count
        for label, traffic in description.services.items()
        for count in (traffic.doublings.within_5_min, traffic.doublings.within_10_min)
    }
    if not any(count.pairs for count in counts.values()):
        return Absent(title, "it takes ten minutes or more")
    if not any(count.doublings for count in counts.values()):
        return Absent(title, "the requests never double from 5 minutes to the next 5, or from 10 to the next 10")
    per_day = all(count.per_workday is not None for count in counts.values())
    workdays = description.all.doublings.workdays
    places = np.arange(len(counts), dtype=np.float64)
    seen = [count.per_workday if per_day else count.doublings for count in counts.values()]
    beyond = [count.beyond_chance_per_workday if per_day else count.beyond_chance for count in counts.values()]
    ticks = tuple(zip(places.tolist(), counts, strict=True))
    return Chart(
        key="doublings",
        title=title,
        note=f"mean of {workdays:,} workdays" if per_day else "in the whole recording",
        caption="How often 5 (or 10) minutes bring at least twice the requests of the 5 (or 10) before. Small "
        "numbers double by chance; the coloured bars are doublings beyond that.",
        x=Axis("", ticks=ticks, low=-0.6, high=len(counts) - 0.4),
        y=Axis("doublings per workday" if per_day else "doublings", is_count=True),
        layers=(
            Layer("all", palette.OFFERED, Mark.BARS, places, np.array(seen, dtype=np.float64)),
            Layer("beyond chance", palette.ONSET, Mark.BARS, places, np.array(beyond, dtype=np.float64)),
        ),
        table=_doubling_table(counts),
    )


def _doubling_table(counts: Mapping[str, DoublingCount]) -> NumberTable:
    rows = tuple(
        (
            name.replace("<br>", ", "),
            f"{count.pairs:,}",
            f"{count.doublings:,}",
            quantity(count.per_workday),
            f"{count.beyond_chance:,}",
            quantity(count.beyond_chance_per_workday),
        )
        for name, count in counts.items()
    )
    return NumberTable(("", "pairs compared", "doublings", "per workday", "beyond chance", "per workday"), rows)


def _burst_table(description: TraceDescription) -> NumberTable:
    rows = []
    for label, traffic in description.services.items():
        bursts = traffic.bursts
        for name, count in (("by the hour", bursts.by_hour), ("by the minute", bursts.by_minute)):
            if count is None:
                continue
            rows.append(
                (
                    f"{label}, {name}",
                    f"{count.onsets:,}",
                    f"{count.onsets_above_5x:,}",
                    quantity(count.per_day),
                    NOTHING if count.length_s is None else length(count.length_s.median),
                    NOTHING if count.length_s is None else length(count.length_s.high),
                    percent(count.requests_fraction),
                )
            )
    columns = ("", "bursts", "5x or more", "per day", "median length", "longest", "of all requests")
    return NumberTable(columns, tuple(rows))


def _largest_table(description: TraceDescription) -> NumberTable:
    rows = []
    for label, traffic in description.services.items():
        bursts = main_bursts(traffic)
        for burst in () if bursts is None else sorted(bursts.largest, key=lambda each: -each.requests)[:LARGEST]:
            growth = "from nothing" if burst.growth is None else f"{quantity(burst.growth)}x"
            rows.append(
                (
                    label,
                    moment(burst.start_s, traffic.duration_s),
                    length(burst.length_s),
                    f"{burst.requests:,}",
                    growth,
                )
            )
    return NumberTable(("", "begins", "lasts", "requests", "growth at its onset"), tuple(rows))
