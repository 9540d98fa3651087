"""The charts of conversations, and of how long the recorded system took to answer."""

import numpy as np

from loadgen.statistics.conversations import Conversations
from loadgen.statistics.description import TraceDescription, TrafficDescription
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
from testbed.report.number_text import latency, percent, quantity
from testbed.report.time_bins import length

LEVELS = ("p05", "p25", "p50", "p75", "p95", "p99")


def conversation_section(description: TraceDescription) -> Section:
    """Turns, the pauses between them, the growth of the prompt, and the time per token."""
    traffic = description.all
    talks, elapsed = traffic.conversations, traffic.elapsed
    tables = {}
    if talks is not None:
        tables["Conversations"] = _conversation_table(talks)
    if elapsed is not None:
        tables["Elapsed times"] = _elapsed_table(elapsed)
    return make_section(
        "Conversations",
        "Turns of one conversation share a beginning: a replica that keeps it in its KV cache has less to compute.",
        *_conversation_charts(talks),
        _elapsed_chart(traffic),
        tables=tables,
    )


def _conversation_charts(talks: Conversations | None) -> list[Chart | Absent]:
    if talks is None:
        return [
            Absent("Turns, pauses and growth of the prompt", "the trace does not say which requests belong together")
        ]
    return [_turn_chart(talks), _interval_chart(talks), _growth_chart(talks)]


def _turn_chart(talks: Conversations) -> Chart:
    # Counted from the longest back: how many sessions have so many turns or more.
    at_least = np.cumsum(talks.sessions_by_turns[::-1])[::-1] / talks.sessions
    return Chart(
        key="turns",
        title="Turns per conversation",
        note=f"share of {talks.sessions:,} sessions with at least so many",
        caption=f"{percent(talks.multi_turn_fraction)} of the sessions go beyond one request; the mean is "
        f"{quantity(talks.mean_turns)} turns.",
        x=Axis("turns", is_log=True),
        y=Axis("% of the sessions", is_log=True, suffix=" %"),
        layers=(Layer("", palette.SERVED, Mark.POINTS, talks.turns.astype(np.float64), 100 * at_least),),
    )


def _interval_chart(talks: Conversations) -> Chart | Absent:
    title = "Time from turn to turn"
    if len(talks.intervals_s.counts) < 2:
        return Absent(title, "all of them are alike")
    quantiles = talks.interval_quantiles_s
    return _time_chart(
        "intervals",
        title,
        "from one arrival to the next one of the session",
        f"Half of them come within {length(quantiles['p50'])}, 95 % within {length(quantiles['p95'])}: so long must "
        "a KV cache keep a conversation to be of use.",
        "time to the next turn",
        talks.intervals_s,
    )


def _growth_chart(talks: Conversations) -> Chart:
    prompts = talks.mean_prompt_by_turn
    change = talks.prompt_change_tokens
    said = f"The median change from a turn to the next is {'+' if change > 0 else ''}{quantity(change)} tokens"
    return Chart(
        key="growth",
        title="Growth of the prompt",
        note="mean prompt tokens of the 1st, 2nd, ... turn, as far as ten sessions reach",
        caption=f"{said}; {percent(talks.growing_fraction)} of the next turns have a longer prompt. Where the "
        "history is sent along, prompts grow with every turn.",
        x=Axis("turn", low=0.5),
        y=Axis("prompt tokens"),
        layers=(Layer("", palette.PROMPT, Mark.MARKED_LINE, np.arange(1.0, len(prompts) + 1), prompts),),
    )


def _elapsed_chart(traffic: TrafficDescription) -> Chart | Absent:
    title = "Elapsed time per response token"
    elapsed = traffic.elapsed
    if elapsed is None:
        return Absent(title, "the trace does not say how long answers took")
    if len(elapsed.per_output_token_s.counts) < 2:
        return Absent(title, "all of them are alike")
    quantiles = elapsed.per_output_token_quantiles_s
    return _time_chart(
        "elapsed",
        title,
        f"{elapsed.requests:,} requests that did not fail",
        "Submission to last token over the number of tokens, the wait for the first one included: "
        f"{latency(quantiles['p50'])} in the middle, {latency(quantiles['p95'])} for the slowest 5 %. Short answers "
        "look slow, since the wait is shared by few.",
        "elapsed time / output tokens",
        elapsed.per_output_token_s,
    )


def _time_chart(key: str, title: str, note: str, caption: str, axis: str, histogram: Histogram) -> Chart:
    """A distribution of times on a logarithmic axis."""
    shares = shares_per_step(histogram)
    edges = histogram.edges
    return Chart(
        key=key,
        title=title,
        note=f"{note}; share per 10 % of it",
        caption=caption,
        x=length_axis(axis, float(edges[0]), float(edges[-1])),
        y=Axis("% of them", low=0.0, suffix=" %"),
        layers=(Layer("", palette.SERVED, Mark.AREA, edges, np.append(shares, shares[-1])),),
    )


def _conversation_table(talks: Conversations) -> NumberTable:
    rows = (
        ("turns", quantity(talks.mean_turns), *(quantity(talks.turn_quantiles[level]) for level in LEVELS)),
        ("time to the next turn", "", *(length(talks.interval_quantiles_s[level]) for level in LEVELS)),
    )
    return NumberTable(("", "mean", *LEVELS), rows)


def _elapsed_table(elapsed: ElapsedDescription) -> NumberTable:
    per_token = elapsed.per_output_token_quantiles_s
    rows = (
        ("elapsed time", *(latency(elapsed.quantiles_s[level]) for level in LEVELS)),
        ("per output token", *(latency(per_token[level]) for level in LEVELS)),
    )
    return NumberTable(("", *LEVELS), rows)
