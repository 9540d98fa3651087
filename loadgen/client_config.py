"""What clients do with a request that is not answered: the one rule for simulated clients and for those that send."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """When an attempt is given up, and when it is followed by another. The deadline counts from the first instant.

    An attempt that was refused, given up, cut or lost with its replica is followed by another one, if that is to begin
    before the deadline; a request that is wrong, such as one too long for the model, is not. What an attempt brought
    that was not the last is void.

    Defaults are those of OpenAI's Python client but for the timeout (600 s there); that client does not ask again for
    an answer that had begun, and people do.
    Source: openai-python, src/openai/_constants.py, _base_client.py (_should_retry, _calculate_retry_timeout).

    Attributes:
        timeout_s: an attempt is given up after so long, and its connection closed; infinity = only at the deadline.
        max_attempts: of one request, the first included.
        backoff_s, max_backoff_s: pause before the second attempt; it doubles with each, up to the most.
        jitter_fraction: a pause is shortened by up to this share of it, at random, so that those who were refused
            together do not come back together.
        honours_retry_after: a pause is at least as long as the server says.
    """

    timeout_s: float = inf
    max_attempts: int = 3
    backoff_s: float = 0.5
    max_backoff_s: float = 8.0
    jitter_fraction: float = 0.25
    honours_retry_after: bool = True


SEND_ONCE = ClientConfig(max_attempts=1)
"""Clients that send each request once and wait for it up to its deadline."""


def pause_s(
    backoff_s: float,
    max_backoff_s: float,
    jitter_fraction: float,
    retry_after_s: float,
    attempts: int,
    chance: float,
) -> float:
    """How long a client waits after so many attempts; plain numbers, as compiled code calls it too.

    Args:
        backoff_s, max_backoff_s, jitter_fraction: as in `ClientConfig`.
        retry_after_s: what the server said; 0 = nothing.
        attempts: made so far, 1 or more.
        chance: uniform in [0, 1).
    """
    longest_s = min(backoff_s * 2.0 ** (attempts - 1), max_backoff_s)
    return max(longest_s * (1.0 - jitter_fraction * chance), retry_after_s)
