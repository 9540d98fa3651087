"""The options of `burstscale load`, by the heading under which its help lists them."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli_selection import TRAFFIC

SENDING, CLIENT, REQUESTS = "When requests are sent", "What clients do about failures", "What requests hold"
PROMISE, KNEE, OUTPUT = "What is promised, and what counts", "The search for the knee", "What is measured and written"

TraceModel = Annotated[
    str | None,
    typer.Option("--trace-model", help="Only the requests for this model of the trace.", rich_help_panel=TRAFFIC),
]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of prompts, pauses, and a model's draws.", rich_help_panel=TRAFFIC)
]

Sessions = Annotated[
    bool,
    typer.Option(
        "--sessions",
        help="A turn waits for the end of the one before it, and its think time.",
        rich_help_panel=SENDING,
    ),
]
Users = Annotated[
    int | None,
    typer.Option(help="Closed loop of so many users, in place of the traffic's arrivals.", rich_help_panel=SENDING),
]
ThinkSeconds = Annotated[
    float | None, typer.Option(help="Of a closed loop: between an answer and the next.", rich_help_panel=SENDING)
]
DurationSeconds = Annotated[
    float | None,
    typer.Option(help="Of a closed loop; default: as long as the traffic lasts.", rich_help_panel=SENDING),
]
RampText = Annotated[
    str | None,
    typer.Option(
        "--ramp",
        help="FROM:TO:SECONDS, the traffic's requests at a rate that grows like this.",
        rich_help_panel=SENDING,
    ),
]
Actors = Annotated[int, typer.Option(min=1, help="Ray actors that share the trace.", rich_help_panel=SENDING)]
Spread = Annotated[
    bool,
    typer.Option(
        "--spread", help="Deal them out to the machines of the Ray cluster, in turn.", rich_help_panel=SENDING
    ),
]

TimeoutSeconds = Annotated[
    float | None,
    typer.Option(help="Give an attempt up after so long; default: at the deadline.", rich_help_panel=CLIENT),
]
MaxAttempts = Annotated[
    int | None,
    typer.Option(help="Sendings of one request. Default: 1; with another of these options 3.", rich_help_panel=CLIENT),
]
BackoffSeconds = Annotated[
    float | None,
    typer.Option(help="Pause before the second attempt, doubled with each; default: 0.5.", rich_help_panel=CLIENT),
]
MaxBackoffSeconds = Annotated[
    float | None, typer.Option(help="The longest such pause; default: 8.", rich_help_panel=CLIENT)
]
JitterFraction = Annotated[
    float | None,
    typer.Option(help="Shorten pauses by up to this share, at random; default: 0.25.", rich_help_panel=CLIENT),
]
HonoursRetryAfter = Annotated[
    bool | None,
    typer.Option(help="Stay away for as long as the server says; default: yes.", rich_help_panel=CLIENT),
]

Texts = Annotated[
    Path | None,
    typer.Option("--prompts", help="Texts to send: a file of conversations, as ShareGPT's.", rich_help_panel=REQUESTS),
]
TokenizerName = Annotated[
    str | None,
    typer.Option("--tokenizer", help="The served model's: its folder or hub name.", rich_help_panel=REQUESTS),
]
FreeLengths = Annotated[
    bool,
    typer.Option(
        "--free-lengths", help="The model ends its answers, up to the recorded lengths.", rich_help_panel=REQUESTS
    ),
]
Temperature = Annotated[
    float | None, typer.Option(help="Of each request; default: the server's own.", rich_help_panel=REQUESTS)
]
ExtraBody = Annotated[
    str | None, typer.Option(help="JSON object added to each request's body.", rich_help_panel=REQUESTS)
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--header", help="'Name: value', added to each request; repeatable.", rich_help_panel=REQUESTS),
]
ApiKeyVariable = Annotated[
    str | None, typer.Option(help="Environment variable that holds the API key.", rich_help_panel=REQUESTS)
]

DeadlineSeconds = Annotated[
    float, typer.Option(help="A request that is not done so long after its time failed.", rich_help_panel=PROMISE)
]
TtftSeconds = Annotated[
    float, typer.Option(help="Promised time to the first token, for the SLO attainment.", rich_help_panel=PROMISE)
]
TpotSeconds = Annotated[float, typer.Option(help="Promised time per further token.", rich_help_panel=PROMISE)]
WarmUpSeconds = Annotated[
    float | None, typer.Option(help="What is due before counts for no figure.", rich_help_panel=PROMISE)
]
WarmUpKv = Annotated[
    bool,
    typer.Option(
        "--warm-up-kv",
        help="The same until the server's KV caches are used by 30 %, or 1000 s.",
        rich_help_panel=PROMISE,
    ),
]

FindKnee = Annotated[
    bool,
    typer.Option(
        "--find-knee", help="Search the highest rate within the SLO, by runs of a constant rate.", rich_help_panel=KNEE
    ),
]
KneeAttainment = Annotated[
    float, typer.Option(help="Share of the requests that must meet the SLO.", rich_help_panel=KNEE)
]
KneeFrom = Annotated[float, typer.Option(help="Rate of the first step, in requests per second.", rich_help_panel=KNEE)]
KneeStepSeconds = Annotated[float, typer.Option(help="Length of a step.", rich_help_panel=KNEE)]

SelfTest = Annotated[
    bool, typer.Option(help="First measure what this client can send in time.", rich_help_panel=OUTPUT)
]
SettleSeconds = Annotated[
    float,
    typer.Option(
        min=0, help="Watch a burstscale fleet for so long after the traffic, to see it shrink.", rich_help_panel=OUTPUT
    ),
]
WindowSeconds = Annotated[
    float | None,
    typer.Option(
        min=1, help="Windows of the figures over time; default: 5 s, 60 s or 1 h by length.", rich_help_panel=OUTPUT
    ),
]
ChunkOffsets = Annotated[
    bool,
    typer.Option(help="Record when each chunk came, for the time between tokens.", rich_help_panel=OUTPUT),
]
ChunkTokens = Annotated[
    bool,
    typer.Option(
        "--chunk-tokens",
        help="Ask the server how many tokens each chunk carries (continuous_usage_stats: vLLM and SGLang know it). A "
        "fleet of burstscale's is always asked.",
        rich_help_panel=OUTPUT,
    ),
]
MetricsUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics-url",
        help="Metrics page to read while it runs; repeatable. Default: the server's own /metrics. A fleet of "
        "burstscale's tells more, and none is read.",
        rich_help_panel=OUTPUT,
    ),
]
