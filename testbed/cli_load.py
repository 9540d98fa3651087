"""`burstscale load`: replay traffic against a server that somebody else runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loadgen.errors import InputError
from testbed.cli_export import Exports, export_beside
from testbed.cli_run import OutFolder, console, show_run
from testbed.cli_selection import (
    LimitSeconds,
    MaxOutputTokens,
    MaxPromptTokens,
    RateFactor,
    RatePerSecond,
    ServiceName,
    Speed,
    StartSeconds,
)
from testbed.progress import TerminalProgress

if TYPE_CHECKING:
    from testbed.knee import KneeSearch
    from testbed.load import LoadSettings


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
    rate: RatePerSecond = None,
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
    sessions: Annotated[
        bool, typer.Option("--sessions", help="A turn waits for the end of the one before it, and its think time.")
    ] = False,
    users: Annotated[
        int | None, typer.Option(help="Closed loop of so many users, in place of the traffic's arrivals.")
    ] = None,
    think_s: Annotated[float | None, typer.Option(help="Of a closed loop: between an answer and the next.")] = None,
    duration_s: Annotated[
        float | None, typer.Option(help="Of a closed loop; default: as long as the traffic lasts.")
    ] = None,
    ramp: Annotated[
        str | None, typer.Option(help="FROM:TO:SECONDS, the traffic's requests at a rate that grows like this.")
    ] = None,
    retries: Annotated[
        int | None, typer.Option(help="Send again so often what the server turned away, within the deadline.")
    ] = None,
    warm_up_s: Annotated[float | None, typer.Option(help="What is due before counts for no figure.")] = None,
    warm_up_kv: Annotated[
        bool,
        typer.Option("--warm-up-kv", help="The same until the server's KV caches are used by 30 %, or 1000 s."),
    ] = False,
    extra_body: Annotated[str | None, typer.Option(help="JSON object added to each request's body.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="'Name: value', added to each request; repeatable.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of each request; default: the server's own.")] = None,
    free_lengths: Annotated[
        bool, typer.Option("--free-lengths", help="The model ends its answers, up to the recorded lengths.")
    ] = False,
    find_knee: Annotated[
        bool, typer.Option("--find-knee", help="Search the highest rate within the SLO, by runs of a constant rate.")
    ] = False,
    knee_attainment: Annotated[float, typer.Option(help="Share of the requests that must meet the SLO.")] = 0.9,
    knee_from: Annotated[float, typer.Option(help="Rate of the search's first step, in requests per second.")] = 1.0,
    knee_step_s: Annotated[float, typer.Option(help="Length of a step of the search.")] = 60.0,
    exports: Exports = None,
) -> None:
    """Replay a trace against any OpenAI-compatible server: open loop, if not told otherwise."""
    from loadgen.prompts.source import PromptSettings
    from loadgen.ramp import read_ramp
    from loadgen.selection import Selection, with_options
    from loadgen.strict_config import parse
    from testbed.knee import KneeSearch
    from testbed.load import LoadSettings, load_server
    from testbed.replay_settings import ReplaySettings

    options = {
        "start_s": start_s,
        "limit_s": limit_s,
        "service": service,
        "model_name": trace_model,
        "rate_factor": rate_factor,
        "rate_per_s": rate,
        "speed": speed,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
    }
    selection = with_options(Selection(), options)
    sending = {
        "actors": actors,
        "sessions": sessions,
        "users": users,
        "think_s": think_s,
        "duration_s": duration_s,
        "retries": retries,
        "warm_up_s": warm_up_s,
        "warm_up_kv": warm_up_kv,
        "extra_body": _read_body(extra_body),
        "headers": _read_headers(header or []),
        "temperature": temperature,
        "free_lengths": free_lengths,
    }
    given = {key: value for key, value in sending.items() if value is not None}
    texts = PromptSettings(source=prompts or "synthetic", tokenizer=tokenizer).from_folder(Path())
    settings = LoadSettings(
        url,
        model,
        deadline_s,
        ttft_s,
        tpot_s,
        selection,
        texts,
        parse(ReplaySettings, given, "burstscale load"),
        seed=seed,
        api_key_env=api_key_env,
        ramp=None if ramp is None else read_ramp(ramp),
        self_test=self_test,
        chunk_offsets=chunk_offsets,
        metrics_urls=None if metrics_url is None else tuple(metrics_url),
    )
    if find_knee:
        _show_knee(traffic, settings, KneeSearch(knee_attainment, knee_from, knee_step_s), out)
        return
    with TerminalProgress(console, "reading the trace") as progress:
        folder = load_server(traffic, settings, out, progress)
    show_run(folder)
    export_beside(folder, exports)


def _show_knee(traffic: Path, settings: "LoadSettings", search: "KneeSearch", out: Path) -> None:
    """Search the knee and print how it was found."""
    from testbed.knee import KNEE, find_knee, knee_table

    with TerminalProgress(console, "reading the trace") as progress:
        knee = find_knee(traffic, settings, search, out, progress)
    console.print(knee_table(knee))
    console.print(knee.sentence(), soft_wrap=True)
    console.print(f"steps: {out / KNEE}", soft_wrap=True)


def _read_body(text: str | None) -> dict[str, Any] | None:
    """The fields of `--extra-body`."""
    if text is None:
        return None
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise InputError(f"--extra-body: got '{text}', want a JSON object such as '{{\"top_p\": 0.9}}'") from error
    if not isinstance(fields, dict):
        raise InputError(f"--extra-body: got '{text}', want a JSON object such as '{{\"top_p\": 0.9}}'")
    return fields


def _read_headers(lines: list[str]) -> dict[str, str]:
    """The headers of `--header`, by name."""
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise InputError(f"--header: got '{line}', want 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
