"""The options that choose a part of a trace and scale it, the same for every command (`loadgen.selection`)."""

from typing import Annotated

import typer

TRAFFIC = "Which traffic"

StartSeconds = Annotated[
    float | None,
    typer.Option("--start-s", help="Begin so late in the trace, in its own time.", rich_help_panel=TRAFFIC),
]
LimitSeconds = Annotated[
    float | None,
    typer.Option("--limit-s", help="Use only so much of the trace, in its own time.", rich_help_panel=TRAFFIC),
]
ServiceName = Annotated[
    str | None, typer.Option("--service", help="Only this service: conversation or api.", rich_help_panel=TRAFFIC)
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Only the requests for this model of the trace.", rich_help_panel=TRAFFIC)
]
RateFactor = Annotated[
    float | None,
    typer.Option(
        "--rate-factor", help="The traffic of so many times as many users, in the same shape.", rich_help_panel=TRAFFIC
    ),
]
Speed = Annotated[
    float | None, typer.Option("--speed", help="Play the trace so many times faster.", rich_help_panel=TRAFFIC)
]
MaxPromptTokens = Annotated[
    int | None, typer.Option("--max-prompt-tokens", help="Cut longer prompts to this.", rich_help_panel=TRAFFIC)
]
MaxOutputTokens = Annotated[
    int | None, typer.Option("--max-output-tokens", help="Cut longer outputs to this.", rich_help_panel=TRAFFIC)
]
RatePerSecond = Annotated[
    float | None,
    typer.Option("--rate", help="Scale the traffic to so many requests a second on average.", rich_help_panel=TRAFFIC),
]
