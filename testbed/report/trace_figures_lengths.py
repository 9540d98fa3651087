"""The charts of prompt and response lengths: distributions, fits, and how the two go together."""

from collections.abc import Mapping

import numpy as np

from loadgen.statistics.description import TraceDescription, TrafficDescription
from loadgen.statistics.spread import Histogram
from loadgen.statistics.token_lengths import LengthDescription, LengthRelation, ZipfDescription
from testbed.report import palette
from testbed.report.charts import (
    Absent,
    Axis,
    Chart,
    HeatMap,
    Layer,
    Mark,
    NumberTable,
    Section,
    make_section,
    shares_per_step,
)
from testbed.report.number_text import NOTHING, percent, quantity
from testbed.report.panels import Floats

LEVELS = ("p05", "p25", "p50", "p75", "p95", "p99")
FIT_POINTS = 60
# Fewer lengths show no humps, whatever they are.
LEAST_LENGTHS = 30
# Above: the sum over all lengths is taken as an integral, which is right to a millionth there.
MOST_TERMS = 100_000
# The KS distance from which lengths are said not to be Zipf.
CLEARLY_NOT = 0.1


def length_section(description: TraceDescription) -> Section:
    """Requests, responses, and the one against the other."""
    parts = description.services
    return make_section(
        "Lengths",
        "Prompts cost computation before the first token, responses hold memory and decode steps for as long as "
        "they last.",
        _prompt_chart(parts),
        _output_chart(parts),
        _relation_chart(description.all.relation),
        tables={
            "Request lengths (tokens)": _quantile_table(parts, of_prompt=True),
            "Response lengths (tokens, of requests that did not fail)": _quantile_table(parts, of_prompt=False),
        },
    )


def _prompt_chart(parts: Mapping[str, TrafficDescription]) -> Chart | Absent:
    title = "Request lengths"
    layers: list[Layer] = []
    said = []
    for label, traffic in parts.items():
        lengths = traffic.prompt_lengths
        if not lengths.requests:
            continue
        colour = palette.SERVICES.get(label, palette.OFFERED)
        layers.append(Layer(label, colour, Mark.POINTS, *_density(lengths.histogram)))
        if lengths.zipf is not None:
            layers.append(Layer(f"Zipf fit, {label}", colour, Mark.DASHES, *zipf_density(lengths.zipf)))
            fits = "does not describe" if lengths.zipf.ks_distance > CLEARLY_NOT else "describes"
            said.append(
                f"a Zipf law with theta = {quantity(lengths.zipf.theta)} {fits} the lengths of {label} (KS distance "
                f"{lengths.zipf.ks_distance:.2f})"
            )
    if not layers:
        return Absent(title, "no request has prompt tokens")
    caption = "A straight line on these axes is a power law. "
    return Chart(
        key="prompt-lengths",
        title=title,
        note="share of the requests per token of length",
        caption=caption
        + (("; ".join(said) + ".")[0].upper() + ("; ".join(said) + ".")[1:] if said else "All are alike."),
        x=Axis("prompt tokens", is_log=True),
        y=Axis("density", is_log=True, low=min(_lowest(layer.y) for layer in layers if layer.mark is Mark.POINTS)),
        layers=tuple(layers),
    )


def _output_chart(parts: Mapping[str, TrafficDescription]) -> Chart | Absent:
    title = "Response lengths"
    layers: list[Layer] = []
    said, alike = [], []
    for label, traffic in parts.items():
        lengths = traffic.output_lengths
        if len(lengths.histogram.counts) < 2:
            alike.append(f"all of {label} are alike" if lengths.requests else f"{label} has none")
            continue
        colour = palette.SERVICES.get(label, palette.OFFERED)
        shares = shares_per_step(lengths.histogram)
        edges = lengths.histogram.edges
        mark = Mark.AREA if len(parts) == 1 else Mark.STEP
        layers.append(Layer(label, colour, mark, edges, np.append(shares, shares[-1])))
        said.append(f"{label} {_humps(lengths)}")
    if not layers:
        return Absent(title, f"of the lengths that are known, {' and '.join(alike) or 'there are none'}")
    sentence = "; ".join(said)
    return Chart(
        key="output-lengths",
        title=title,
        note="share of the responses per 10 % of length; without failures",
        caption=f"{sentence[0].upper()}{sentence[1:]}.",
        x=Axis("output tokens", is_log=True),
        y=Axis("% of them", low=0.0, suffix=" %"),
        layers=tuple(layers),
    )


def _humps(lengths: LengthDescription) -> str:
    if lengths.requests < LEAST_LENGTHS:
        return "has too few answers to speak of a shape"
    tops = [f"{mode.tokens:,.0f}" for mode in lengths.modes]
    if len(tops) < 2:
        return f"has one hump, at {tops[0]} tokens" if tops else "has no hump"
    return (
        f"has {len(tops)} humps, at {', '.join(tops[:-1])} and {tops[-1]} tokens: its mean of "
        f"{quantity(lengths.mean_tokens)} stands for few of its answers"
    )


def _relation_chart(relation: LengthRelation) -> Chart | Absent:
    title = "Response against request length"
    if not relation.requests:
        return Absent(title, "no request has both a prompt and a response of known length")
    correlation = relation.spearman
    if correlation is None:
        meaning = "There is no correlation to speak of: one of them does not vary."
    elif abs(correlation) < 0.2:
        meaning = "Hardly related: the length of a prompt does not tell how long its answer will be."
    else:
        more = "longer" if correlation > 0 else "shorter"
        strength = "Strongly" if abs(correlation) > 0.6 else "Weakly"
        meaning = f"{strength} related: longer prompts get {more} answers."
    numbers = (
        f"Rank correlation {_number(correlation)}, correlation of the logarithms {_number(relation.pearson_of_logs)}."
    )
    return Chart(
        key="relation",
        title=title,
        note=f"{relation.requests:,} requests; darker = more, on a logarithmic scale",
        caption=f"{meaning} {numbers}",
        x=Axis("prompt tokens", is_log=True),
        y=Axis("output tokens", is_log=True),
        heat_map=HeatMap(
            palette.SERVED, relation.prompt_edges, relation.output_edges, relation.counts.T.astype(np.float64)
        ),
        height_pixels=380,
    )


def _quantile_table(parts: Mapping[str, TrafficDescription], *, of_prompt: bool) -> NumberTable:
    rows = []
    for label, traffic in parts.items():
        lengths = traffic.prompt_lengths if of_prompt else traffic.output_lengths
        levels = [f"{lengths.quantiles[level]:,.0f}" if level in lengths.quantiles else NOTHING for level in LEVELS]
        if of_prompt:
            zipf = lengths.zipf
            shape = (NOTHING, NOTHING) if zipf is None else (quantity(zipf.theta), quantity(zipf.ks_distance))
        else:
            shape = (_number(lengths.sarle_coefficient), percent(lengths.valley_depth))
        rows.append((label, quantity(lengths.mean_tokens), *levels, *shape))
    columns = ("Zipf theta", "its KS distance") if of_prompt else ("Sarle's coefficient", "depth of the valley")
    return NumberTable(("", "mean", *LEVELS, *columns), tuple(rows))


def _density(histogram: Histogram) -> tuple[Floats, Floats]:
    """Share of the values per token at the middle of each bin that holds any."""
    edges, counts = histogram.edges, histogram.counts
    # A bin [a, b) holds the whole lengths a .. b - 1: its middle is that of those.
    middles = np.sqrt(edges[:-1] * np.maximum(edges[1:] - 1, edges[:-1]))
    density = counts / np.diff(edges) / counts.sum()
    return middles[counts > 0], density[counts > 0]


def zipf_density(zipf: ZipfDescription) -> tuple[Floats, Floats]:
    """The fitted share per token."""
    lengths = np.geomspace(zipf.low_tokens, zipf.high_tokens, FIT_POINTS)
    terms = np.arange(zipf.low_tokens, min(zipf.high_tokens, zipf.low_tokens + MOST_TERMS) + 1, dtype=np.float64)
    total = float((terms**-zipf.theta).sum())
    if zipf.high_tokens > terms[-1]:
        tail = np.geomspace(terms[-1] + 0.5, zipf.high_tokens + 0.5, 1000)
        total += float(np.trapezoid(tail**-zipf.theta, tail))
    return lengths, lengths**-zipf.theta / total


def _lowest(values: Floats) -> float:
    return float(values[values > 0].min()) if (values > 0).any() else 1e-6


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"
