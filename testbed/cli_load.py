"""`burstscale load`: replay traffic against a server that somebody else runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loadgen.errors import InputError
from testbed import cli_load_options as options
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
    from pydantic import BaseModel

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
    model_name: options.TraceModel = None,
    rate_factor: RateFactor = None,
    rate_per_s: RatePerSecond = None,
    speed: Speed = None,
    max_prompt_tokens: MaxPromptTokens = None,
    max_output_tokens: MaxOutputTokens = None,
    seed: options.Seed = 0,
    sessions: options.Sessions = False,
    users: options.Users = None,
    think_s: options.ThinkSeconds = None,
    duration_s: options.DurationSeconds = None,
    ramp: options.RampText = None,
    actors: options.Actors = 1,
    spread: options.Spread = False,
    timeout_s: options.TimeoutSeconds = None,
    max_attempts: options.MaxAttempts = None,
    backoff_s: options.BackoffSeconds = None,
    max_backoff_s: options.MaxBackoffSeconds = None,
    jitter_fraction: options.JitterFraction = None,
    honours_retry_after: options.HonoursRetryAfter = None,
    prompts: options.Texts = None,
    tokenizer: options.TokenizerName = None,
    free_lengths: options.FreeLengths = False,
    temperature: options.Temperature = None,
    extra_body: options.ExtraBody = None,
    headers: options.Headers = None,
    api_key_env: options.ApiKeyVariable = None,
    deadline_s: options.DeadlineSeconds = 30.0,
    ttft_s: options.TtftSeconds = 2.0,
    tpot_s: options.TpotSeconds = 0.2,
    warm_up_s: options.WarmUpSeconds = None,
    warm_up_kv: options.WarmUpKv = False,
    find_knee: options.FindKnee = False,
    knee_attainment: options.KneeAttainment = 0.9,
    knee_from: options.KneeFrom = 1.0,
    knee_step_s: options.KneeStepSeconds = 60.0,
    self_test: options.SelfTest = True,
    settle_s: options.SettleSeconds = 0.0,
    window_s: options.WindowSeconds = None,
    chunk_offsets: options.ChunkOffsets = True,
    chunk_tokens: options.ChunkTokens = False,
    metrics_urls: options.MetricsUrls = None,
    exports: Exports = None,
) -> None:
    """Replay a trace against any OpenAI-compatible server: open loop, if not told otherwise."""
    given = {name: value for name, value in locals().items() if value is not None}
    from loadgen.prompts.source import PromptSettings
    from loadgen.ramp import read_ramp
    from loadgen.selection import Selection, with_options
    from loadgen.strict_config import parse
    from testbed.client_settings import ClientSettings
    from testbed.knee import KneeSearch
    from testbed.load import LoadSettings, load_server
    from testbed.replay_settings import ReplaySettings

    read = {"extra_body": _read_body(extra_body), "headers": _read_headers(headers or [])}
    replay = parse(ReplaySettings, _of(ReplaySettings, given) | read, "burstscale load")
    asking = _of(ClientSettings, given)
    texts = PromptSettings(source=prompts or "synthetic", tokenizer=tokenizer).from_folder(Path())
    settings = LoadSettings(
        url,
        model,
        deadline_s,
        ttft_s,
        tpot_s,
        with_options(Selection(), _of(Selection, given)),
        texts,
        replay,
        seed=seed,
        api_key_env=api_key_env,
        client=parse(ClientSettings, asking, "burstscale load") if asking else None,
        ramp=None if ramp is None else read_ramp(ramp),
        self_test=self_test,
        chunk_offsets=chunk_offsets,
        chunk_tokens=chunk_tokens,
        settle_s=settle_s,
        window_s=window_s,
        metrics_urls=None if metrics_urls is None else tuple(metrics_urls),
    )
    if find_knee:
        _show_knee(traffic, settings, KneeSearch(knee_attainment, knee_from, knee_step_s), out)
        return
    with TerminalProgress(console, "reading the trace") as progress:
        folder = load_server(traffic, settings, out, progress)
    show_run(folder)
    export_beside(folder, exports)


def _of(settings: "type[BaseModel]", given: dict[str, Any]) -> dict[str, Any]:
    """The options that settings have a field for: these are of the same name."""
    return {name: given[name] for name in settings.model_fields if name in given}


def _show_knee(traffic: Path, settings: "LoadSettings", search: "KneeSearch", out: Path) -> None:
    """Search the knee and print how it was found."""
    from testbed.knee import KNEE, find_knee, knee_table

    with TerminalProgress(console, "reading the trace") as progress:
        knee = find_knee(traffic, settings, search, out, progress)
    console.print(knee_table(knee))
    console.print(knee.sentence(), soft_wrap=True)
    console.print(f"steps: {out / KNEE}", soft_wrap=True)


def _read_body(text: str | None) -> dict[str, Any]:
    """The fields of `--extra-body`."""
    if text is None:
        return {}
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
