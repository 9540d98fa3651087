"""One colour per concept, the same in every panel; all hold up on white and on black and for colour-blind readers."""

from loadgen.records import Cause

OFFERED = "#8a9099"
SERVED = "#2f81c7"
WANTED = "#c23b7a"
READY = "#159a80"
STARTING = "#dd9a20"
DRAINING = "#9d97b5"
FILLING, POOLED = "#c7ad4f", "#6b8f3a"
FORECAST = "#8a5fd0"
P50, P90, P99 = "#3f9fb8", "#5b6fd6", "#c23b7a"
RUNNING, WAITING, QUEUED = SERVED, STARTING, "#d9541e"
KV_CACHE = "#3f9fb8"
KV_CACHE_MOST = "#d9541e"
# What is drawn to compare with: a fit, a limit, a diagonal.
REFERENCE = "#8a9099"
SERVICES: dict[str, str] = {"conversation": SERVED, "api": "#d9541e"}
# Models that share a cluster, in the order of the experiment.
MODELS = ("#2f81c7", "#dd9a20", "#159a80", "#8a5fd0", "#d9541e", "#96704f", "#3f9fb8", "#9d97b5")
PROMPT, OUTPUT = "#3f9fb8", "#8a5fd0"
ONSET, FAILED = "#159a80", "#c23b7a"
# Why an answered request missed its SLO.
LATE, SLOW = "#dd9a20", "#8a5fd0"
# What is shaded behind the rows of a figure.
BURST, WARM_UP, FAULT = "#e8b93c", "#8a9099", "#c23b7a"

CAUSES: dict[str, str] = {
    Cause.NO_READY_REPLICA: "#d9541e",
    Cause.DEADLINE_IN_QUEUE: "#e3a63c",
    Cause.DEADLINE_IN_ENGINE: "#8a5fd0",
    Cause.QUEUE_FULL: "#c23b7a",
    Cause.REPLICA_LOST: "#2f81c7",
    Cause.STREAM_CUT: "#3f9fb8",
    Cause.CONNECTION: "#96704f",
    Cause.BAD_STATUS: "#6b8f3a",
    Cause.EMPTY_ANSWER: "#b5893d",
    Cause.TOO_LONG: "#9aa0a6",
    Cause.GIVEN_UP: "#9d97b5",
    Cause.RUN_ENDED: "#6f7682",
    Cause.CLIENT_LOST: "#c7ad4f",
    Cause.SENT_LATE: "#d8b4a0",
}


def colour_of_cause(cause: str) -> str:
    """The colour of a cause of failure; grey for one that is not in the vocabulary."""
    return CAUSES.get(cause, OFFERED)


def translucent(colour: str, opacity: float) -> str:
    """A '#rrggbb' colour with an opacity, as CSS and Plotly take it."""
    red, green, blue = (int(colour[index : index + 2], 16) for index in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
