"""How long the recorded system took for its answers."""

from dataclasses import dataclass

from loadgen.statistics.spread import Histogram


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
