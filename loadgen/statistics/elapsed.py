"""How long the recorded system took for its answers."""

from dataclasses import dataclass

import numpy as np

from loadgen.statistics.spread import Histogram, log_histogram, quantiles
from loadgen.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class ElapsedDescription:
    """Elapsed time, submission to last token, of the requests that did not fail and for which it is known.

    Attributes:
        requests: how many.
        quantiles_s: elapsed time by level ('p50').
        per_output_token_quantiles_s: elapsed time / output tokens, by level; the wait for the first token is in it.
        per_output_token_s: the same as a histogram in seconds; times of 0 s are left out.
    """

    requests: int
    quantiles_s: dict[str, float]
    per_output_token_quantiles_s: dict[str, float]
    per_output_token_s: Histogram


def describe_elapsed(trace: Trace) -> ElapsedDescription | None:
    """Describe the elapsed times; None where none is known."""
    if trace.elapsed_s is None:
        return None
    is_known = ~np.isnan(trace.elapsed_s) & (trace.output_tokens > 0)
    if trace.output_is_limit is not None:
        is_known &= ~trace.output_is_limit
    if not is_known.any():
        return None
    elapsed_s = trace.elapsed_s[is_known]
    per_token_s = elapsed_s / trace.output_tokens[is_known]
    return ElapsedDescription(
        requests=len(elapsed_s),
        quantiles_s=quantiles(elapsed_s),
        per_output_token_quantiles_s=quantiles(per_token_s),
        per_output_token_s=log_histogram(per_token_s),
    )
