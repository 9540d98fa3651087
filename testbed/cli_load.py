"""`burstscale load`: replay traffic against a server that somebody else runs."""

from pathlib import Path
from typing import Annotated

import typer

from testbed.cli_export import Exports, export_beside
from testbed.cli_run import OutFolder, console, show_run
from testbed.cli_selection import (
    LimitSeconds,
    MaxOutputTokens,
    MaxPromptTokens,
    RateFactor,
    ServiceName,
    Speed,
    StartSeconds,
)
from testbed.progress import TerminalProgress


def load_command(
    traffic: Annotated[Path, typer.Argument(help="A trace, or a workload model (a YAML, a shipped name).")],
    url: Annotated[str, typer.Option(help="Server with an OpenAI-compatible API, such as http://127.0.0.1:8000.")],
    model: Annotated[str, typer.Option(help="Model to ask for.")],
    out: OutFolder,
    start_s: StartSeconds = None,
    limit_s: LimitSeconds = None,
    service: ServiceName = None,
    trace_model: Annotated[str | None, typer.Option(help="Only the requests for this model of the trace.")] = None,
    rate_factor: RateFactor = None,
    speed: Speed = None,
    max_prompt_tokens: MaxPromptTokens = None,
    max_output_tokens: MaxOutputTokens = None,
    deadline_s: Annotated[float, typer.Option(help="A request that is not done so long after its time failed.")] = 30.0,
    ttft_s: Annotated[float, typer.Option(help="Promised time to the first token, for the SLO attainment.")] = 2.0,
    tpot_s: Annotated[float, typer.Option(help="Promised time per further token.")] = 0.2,
    actors: Annotated[int, typer.Option(min=1, help="Ray actors that share the trace.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the prompts, and of a model's draws.")] = 0,
    api_key_env: Annotated[str | None, typer.Option(help="Environment variable that holds the API key.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Texts to send: a file of conversations, as ShareGPT's.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="The served model's: its folder or hub name.")] = None,
    self_test: Annotated[bool, typer.Option(help="First measure what this client can send in time.")] = True,
    chunk_offsets: Annotated[bool, typer.Option(help="Record when each chunk came, for the time between them.")] = True,
    metrics_url: Annotated[
        list[str] | None,
        typer.Option(help="Metrics page to read while it runs; repeatable. Default: the server's own /metrics."),
    ] = None,
    exports: Exports = None,
) -> None:
    """Replay a trace, open loop, against any OpenAI-compatible server."""
    from loadgen.prompts.source import PromptSettings
    from loadgen.selection import Selection, with_options
    from testbed.load import LoadSettings, load_server

    options = {
        "start_s": start_s,
        "limit_s": limit_s,
        "service": service,
        "model_name": trace_model,
        "rate_factor": rate_factor,
        "speed": speed,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
    }
    selection = with_options(Selection(), options)
    texts = PromptSettings(source=prompts or "synthetic", tokenizer=tokenizer).from_folder(Path())
    settings = LoadSettings(
        url,
        model,
        deadline_s,
        ttft_s,
        tpot_s,
        selection,
        texts,
        actors=actors,
        seed=seed,
        api_key_env=api_key_env,
        self_test=self_test,
        chunk_offsets=chunk_offsets,
        metrics_urls=None if metrics_url is None else tuple(metrics_url),
    )
    with TerminalProgress(console, "reading the trace") as progress:
        folder = load_server(traffic, settings, out, progress)
    show_run(folder)
    export_beside(folder, exports)
