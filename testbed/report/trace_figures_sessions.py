"""The charts of conversations, and of how long the recorded system took to answer."""

from collections.abc import Mapping

import numpy as np

from loadgen.statistics.conversations import Conversations
from loadgen.statistics.description import TraceDescription
from loadgen.statistics.elapsed import ElapsedDescription
from loadgen.statistics.spread import Histogram
from testbed.report import palette
from testbed.report.charts import (
    Absent,
    Axis,
    Chart,
    Layer,
    Mark,
    NumberTable,
    Section,
    length_axis,
    make_section,
    shares_per_step,
)
from testbed.report.number_text import NOTHING, latency, percent, quantity
from testbed.report.time_bins import length

LEVELS = ("p05", "p25", "p50", "p75", "p95", "p99")


def conversation_section(description: TraceDescription) -> Section:
    """Turns, the pauses between them, the growth of the prompt, and the time per token, by service."""
    talks = {
        label: traffic.conversations
        for label, traffic in description.services.items()
        if traffic.conversations is not None
    }
    elapsed = {label: traffic.elapsed for label, traffic in description.services.items() if traffic.elapsed is not None}
    return make_section(
        "Conversations",
        "Turns of one conversation share a beginning: a replica that keeps it in its KV cache has less to compute.",
        *_conversation_charts(talks),
        _elapsed_chart(elapsed),
        tables={"Turns and pauses": _conversation_table(talks), "Elapsed times": _elapsed_table(elapsed)},
    )


def _conversation_charts(talks: Mapping[str, Conversations]) -> list[Chart | Absent]:
    if not talks:
        return [
            Absent("Turns, pauses and growth of the prompt", "the trace does not say which requests belong together")
        ]
    return [_turn_chart(talks), _interval_chart(talks), _growth_chart(talks)]


def _turn_chart(talks: Mapping[str, Conversations]) -> Chart:
    said, layers = [], []
    for label, each in talks.items():
        # Counted from the longest back: how many sessions have so many turns or more.
        at_least = np.cumsum(each.sessions_by_turns[::-1])[::-1] / each.sessions
        layers.append(Layer(label, _colour(label), Mark.POINTS, each.turns.astype(np.float64), 100 * at_least))
        said.append(
            f"{percent(each.multi_turn_fraction)} of the {each.sessions:,} {label} sessions go beyond one request; the "
            f"mean is {quantity(each.mean_turns)} turns."
        )
    return Chart(
        key="turns",
        title="Turns per conversation",
        note="share of the sessions with at least so many",
        caption=" ".join(said),
        x=Axis("turns", is_log=True),
        y=Axis("% of the sessions", is_log=True, suffix=" %"),
        layers=tuple(layers),
    )


def _interval_chart(talks: Mapping[str, Conversations]) -> Chart | Absent:
    said = [
        f"Half of the next turns of {label} come within {length(each.interval_quantiles_s['p50'])}, 95 % within "
        f"{length(each.interval_quantiles_s['p95'])}: so long must a KV cache keep a conversation to be of use."
        for label, each in talks.items()
    ]
    return _time_chart(
        "intervals",
        "Time from turn to turn",
        "from one arrival to the next one of the session",
        " ".join(said),
        "time to the next turn",
        {label: each.intervals_s for label, each in talks.items()},
    )


def _growth_chart(talks: Mapping[str, Conversations]) -> Chart:
    said, layers = [], []
    for label, each in talks.items():
        prompts, change = each.mean_prompt_by_turn, each.prompt_change_tokens
        layers.append(Layer(label, _colour(label), Mark.MARKED_LINE, np.arange(1.0, len(prompts) + 1), prompts))
        said.append(
            f"From a turn of {label} to the next, the median change is {'+' if change > 0 else ''}{quantity(change)} "
            f"tokens, and {percent(each.growing_fraction)} of the prompts are longer than the one before."
        )
    return Chart(
        key="growth",
        title="Growth of the prompt",
        note="mean of the 1st, 2nd, ... turn, as far as ten sessions reach",
        caption=f"{' '.join(said)} Where the history is sent along, prompts grow with every turn.",
        x=Axis("turn", low=0.5, is_count=True),
        y=Axis("prompt tokens"),
        layers=tuple(layers),
    )


def _elapsed_chart(elapsed: Mapping[str, ElapsedDescription]) -> Chart | Absent:
    title = "Elapsed time per response token"
    if not elapsed:
        return Absent(title, "the trace does not say how long answers took")
    said = [
        f"{latency(each.per_output_token_quantiles_s['p50'])} in the middle of {label}, "
        f"{latency(each.per_output_token_quantiles_s['p95'])} or more for the slowest 5 %."
        for label, each in elapsed.items()
    ]
    return _time_chart(
        "elapsed",
        title,
        "of requests that did not fail",
        f"Submission to last token over the number of tokens: {' '.join(said)} Short answers look slow, since few "
        f"tokens "
        "share the wait for the first one.",
        "elapsed time / output tokens",
        {label: each.per_output_token_s for label, each in elapsed.items()},
    )


def _time_chart(
    key: str, title: str, note: str, caption: str, axis: str, histograms: Mapping[str, Histogram]
) -> Chart | Absent:
    """Distributions of times on a logarithmic axis."""
    spread = {label: histogram for label, histogram in histograms.items() if len(histogram.counts) > 1}
    if not spread:
        return Absent(title, "all of the times are alike")
    mark = Mark.AREA if len(spread) == 1 else Mark.STEP
    layers = []
    for label, histogram in spread.items():
        shares = shares_per_step(histogram)
        layers.append(Layer(label, _colour(label), mark, histogram.edges, np.append(shares, shares[-1])))
    low_s = min(float(layer.x[0]) for layer in layers)
    high_s = max(float(layer.x[-1]) for layer in layers)
    return Chart(
        key=key,
        title=title,
        note=f"{note}; share per 10 % of it",
        caption=caption,
        x=length_axis(axis, low_s, high_s),
        y=Axis("% of them", low=0.0, suffix=" %"),
        layers=tuple(layers),
    )


def _conversation_table(talks: Mapping[str, Conversations]) -> NumberTable:
    rows = []
    for label, each in talks.items():
        turns = (quantity(each.turn_quantiles[level]) for level in LEVELS)
        intervals = (length(each.interval_quantiles_s[level]) for level in LEVELS)
        rows.append((f"turns of {label}", quantity(each.mean_turns), *turns))
        rows.append(("time to the next turn", NOTHING, *intervals))
    return NumberTable(("", "mean", *LEVELS), tuple(rows))


def _elapsed_table(elapsed: Mapping[str, ElapsedDescription]) -> NumberTable:
    rows = []
    for label, each in elapsed.items():
        rows.append((f"answers to {label}", *(latency(each.quantiles_s[level]) for level in LEVELS)))
        rows.append(("per output token", *(latency(each.per_output_token_quantiles_s[level]) for level in LEVELS)))
    return NumberTable(("", *LEVELS), tuple(rows))


def _colour(label: str) -> str:
    return palette.SERVICES.get(label, palette.OFFERED)
