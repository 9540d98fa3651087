"""The knee of a server: the highest rate at which it keeps its promises, found by short runs at ever closer rates."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from loadgen.errors import InputError
from testbed.load import (
    ClientCheck,
    LoadSettings,
    at_rate,
    checked_client,
    describe_config,
    make_ready,
    read_traffic,
    send_load,
)
from testbed.progress import TerminalProgress
from testbed.results import create_results_folder, write_config
from testbed.run_lock import run_lock

KNEE = "knee.json"
# Of each step, where the settings do not say how long it warms up: the server still holds the step before.
_WARM_UP_FRACTION = 0.2
# A rate so far below the first one is not looked for.
_LEAST_OF_FIRST = 1 / 64


@dataclass(frozen=True, slots=True)
class KneeSearch:
    """How the knee is looked for.

    Attributes:
        attainment_fraction: share of the offered requests that must meet their SLO.
        first_per_s: the rate of the first step.
        step_s: length of a step, its warm-up included.
        precision_fraction: the search is over when the lowest rate that failed is so close to the knee.
        most_steps: or after so many.
    """

    attainment_fraction: float = 0.9
    first_per_s: float = 1.0
    step_s: float = 60.0
    precision_fraction: float = 0.1
    most_steps: int = 14

    def check(self) -> None:
        """Raise InputError where a number is out of its range."""
        if not 0 < self.attainment_fraction <= 1:
            raise InputError(f"--knee-attainment: got {self.attainment_fraction:g}, want more than 0 and at most 1")
        for option, value in (("--knee-from", self.first_per_s), ("--knee-step-s", self.step_s)):
            if not 0 < value < math.inf:
                raise InputError(f"{option}: got {value:g}, want a positive number")


@dataclass(frozen=True, slots=True)
class KneeStep:
    """One run at one rate; `invalid` = why it says nothing of the server, `folder` = where its results are."""

    rate_per_s: float
    requests: int
    attainment_fraction: float
    failure_fraction: float
    ttft_p99_s: float | None
    invalid: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Knee:
    """What the search found.

    Attributes:
        rate_per_s: the highest rate that was kept; None = none was.
        failed_per_s: the lowest rate above it that was not kept; None = none was measured.
        client_limit_per_s: the lowest rate that this client could not send as planned, twice; None = it could all.
    """

    rate_per_s: float | None
    failed_per_s: float | None
    client_limit_per_s: float | None
    search: KneeSearch
    steps: tuple[KneeStep, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for knee.json."""
        return {"sentence": self.sentence(), **asdict(self)}

    def sentence(self) -> str:
        """The same for a person."""
        share = f"{100 * self.search.attainment_fraction:g} % of the requests"
        discarded = sum(bool(step.invalid) for step in self.steps)
        aside = f"; {discarded} of {len(self.steps)} steps were not valid and were discarded" if discarded else ""
        if self.rate_per_s is None:
            lowest = min(step.rate_per_s for step in self.steps)
            return f"no knee was found: not even at {lowest:.3g} requests/s did {share} meet their SLO{aside}"
        found = f"{share} or more meet their SLO up to {self.rate_per_s:.3g} requests/s"
        if self.failed_per_s is not None:
            return f"{found}, and not at {self.failed_per_s:.3g}{aside}"
        if self.client_limit_per_s is not None:
            limit = f"this client could not send {self.client_limit_per_s:.3g} as planned"
            return f"{found}; whether at more is not known, since {limit}{aside}"
        return f"{found}; whether at more is not known: the search ended after {len(self.steps)} steps{aside}"


def search_knee(search: KneeSearch, measure: Callable[[float], KneeStep]) -> Knee:
    """Double the rate until a step misses the target, then halve the interval (by ratio) until it is close enough.

    A step that is not valid is taken once more; not valid again, its rate bounds the search as one that this client
    cannot send. Attainment is taken to fall as the rate grows: one run may miss by chance near the knee.
    """
    steps: list[KneeStep] = []
    kept: float | None = None
    failed = limit = math.inf
    rate, is_again = search.first_per_s, False
    while len(steps) < search.most_steps:
        step = measure(rate)
        steps.append(step)
        if step.invalid and not is_again:
            is_again = True
            continue
        is_again = False
        if step.invalid:
            limit = rate
        elif step.attainment_fraction >= search.attainment_fraction:
            kept = rate
        else:
            failed = rate
        top = min(failed, limit)
        if kept is None:
            rate = top / 2
            if rate < search.first_per_s * _LEAST_OF_FIRST:
                break
        elif math.isinf(top):
            rate = kept * 2
        elif top <= kept * (1 + search.precision_fraction):
            break
        else:
            rate = math.sqrt(kept * top)
    failed_per_s = failed if failed < limit else None
    return Knee(kept, failed_per_s, None if math.isinf(limit) else limit, search, tuple(steps))


def find_knee(traffic: Path, settings: LoadSettings, search: KneeSearch, out: Path, progress: TerminalProgress) -> Knee:
    """Search the knee of a server with the requests of `traffic`; each step has a results folder in `out`.

    Raises:
        InputError: the input is wrong, nobody answers at the url, or the folder is not new.
    """
    search.check()
    if settings.ramp is not None:
        raise InputError("--find-knee: chooses the rates itself; leave --ramp out")
    if settings.replay.sessions or settings.replay.users is not None:
        raise InputError("--find-knee: gives each request its instant; leave --sessions and --users out")
    if not settings.replay.warm_up_kv and not settings.replay.warm_up_s:
        warm_up = settings.replay.model_copy(update={"warm_up_s": _WARM_UP_FRACTION * search.step_s})
        settings = replace(settings, replay=warm_up)
    read_traffic(traffic, at_rate(settings, search.first_per_s, search.step_s))
    ready = make_ready(settings, progress)
    folder = create_results_folder(out)

    def measure(client: ClientCheck, rate_per_s: float) -> KneeStep:
        step_settings = at_rate(settings, rate_per_s, search.step_s)
        number = len(list(folder.glob("step-*"))) + 1
        name = f"step-{number:02d}"
        progress.within(f"step {number}, {rate_per_s:.3g} requests/s")
        step_folder = create_results_folder(folder / name)
        write_config(step_folder, describe_config(traffic, step_settings, ready.fleet))
        trace = read_traffic(traffic, step_settings)
        with run_lock(step_folder):
            results = send_load(trace, ready, step_settings, step_folder, client, progress)
        summary = results.summary or {}
        if summary.get("cut_short"):
            raise KeyboardInterrupt
        step = read_step(rate_per_s, name, summary)
        progress.say(describe_step(step))
        return step

    with checked_client(settings, search.first_per_s, progress) as client:
        knee = search_knee(search, partial(measure, client))
    (folder / KNEE).write_text(json.dumps(knee.as_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return knee


def read_step(rate_per_s: float, name: str, summary: dict[str, Any]) -> KneeStep:
    """What the summary of a step's run says; a step in which no request counts is not valid."""
    total = summary["requests"]["total"]
    reasons = tuple(summary["validity"]["reasons"])
    if not total["offered"]:
        reasons = (*reasons, "no request came after the warm-up")
    return KneeStep(
        rate_per_s,
        total["offered"],
        total["attainment_fraction"] or 0.0,
        total["failure_fraction"] or 0.0,
        total["ttft"]["p99_s"],
        reasons,
        name,
    )


def describe_step(step: KneeStep) -> str:
    """One step in a line."""
    said = (
        f"{step.rate_per_s:.3g} requests/s: {100 * step.attainment_fraction:.1f} % of {step.requests:,} met their SLO"
    )
    return f"{said}; discarded: {step.invalid[0]}" if step.invalid else said


def knee_table(knee: Knee) -> Table:
    """The steps by rate, to print."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("requests/s", "requests", "met SLO", "failed", "TTFT p99", "verdict", "results"):
        table.add_column(column, justify="left" if column in ("verdict", "results") else "right")
    for step in sorted(knee.steps, key=lambda step: step.rate_per_s):
        is_kept = step.attainment_fraction >= knee.search.attainment_fraction
        table.add_row(
            f"{step.rate_per_s:.3g}",
            f"{step.requests:,}",
            f"{100 * step.attainment_fraction:.1f} %",
            f"{100 * step.failure_fraction:.1f} %",
            "-" if step.ttft_p99_s is None else f"{1000 * step.ttft_p99_s:,.0f} ms",
            "discarded" if step.invalid else ("kept" if is_kept else "missed"),
            step.folder,
        )
    return table
