"""The options that choose a part of a trace and scale it, the same for every command (`loadgen.selection`)."""

from typing import Annotated

import typer

StartSeconds = Annotated[float | None, typer.Option("--start-s", help="Begin so late in the trace, in its own time.")]
LimitSeconds = Annotated[
    float | None, typer.Option("--limit-s", help="Use only so much of the trace, in its own time.")
]
ServiceName = Annotated[str | None, typer.Option("--service", help="Only this service: conversation or api.")]
ModelName = Annotated[str | None, typer.Option("--model", help="Only the requests for this model of the trace.")]
RateFactor = Annotated[
    float | None, typer.Option("--rate-factor", help="The traffic of so many times as many users, in the same shape.")
]
Speed = Annotated[float | None, typer.Option("--speed", help="Play the trace so many times faster.")]
MaxPromptTokens = Annotated[int | None, typer.Option("--max-prompt-tokens", help="Cut longer prompts to this.")]
MaxOutputTokens = Annotated[int | None, typer.Option("--max-output-tokens", help="Cut longer outputs to this.")]
RatePerSecond = Annotated[
    float | None, typer.Option("--rate", help="Scale the traffic to so many requests a second on average.")
]
