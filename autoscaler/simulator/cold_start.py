"""How long a replica takes to start: phases one after the other, and measured presets of them."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

# Where only a median is known: starts on the same machine spread by about a fifth.
USUAL_SIGMA = 0.2


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a start, lognormal.

    Attributes:
        name: for the tables; '' = the start is not told apart into phases.
        sigma: standard deviation of the logarithm; 0 = always the median.
    """

    name: str
    median_s: float
    sigma: float = USUAL_SIGMA


@dataclass(frozen=True, slots=True)
class ColdStart:
    """From asking for a replica to a ready one, phase after phase."""

    phases: tuple[Phase, ...]

    @property
    def median_s(self) -> float:
        """What is planned with: the sum of the phases' medians.

        The median of the sum lies a little above: by at most exp(sigma^2 / 2), 2 % for a sigma of 0.2.
        """
        return sum(phase.median_s for phase in self.phases)

    def draw(self, rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
        """The phases of one start: (name, seconds)."""
        return tuple((phase.name, phase.median_s * _factor(phase.sigma, rng)) for phase in self.phases)


def plain_start(median_s: float, sigma: float = 0.0) -> ColdStart:
    """A start that is one number."""
    return ColdStart((Phase("", median_s, sigma),))


def _factor(sigma: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(0.0, sigma))) if sigma > 0 else 1.0


# Llama-3.1-8B in vLLM on one L40S, nothing cached (294 s in all): process, imports and engine 94; download 61 and
# loading 33; Dynamo 10 and compiling 42; CUDA graphs 54. Source: Tensorfuse's published start times.
_COLD = (Phase("image", 94.0), Phase("weights", 94.0), Phase("compile", 52.0), Phase("warm-up", 54.0))
# The same with all caches on a volume takes 82 s (34 + 18 + 23 + 7), another model of 3.4 GiB 59 s (vLLM issue 20264);
# 70 s lies between, in the proportions of the first.
_WARM = (Phase("image", 29.0), Phase("weights", 15.4), Phase("compile", 19.6), Phase("warm-up", 6.0))

PRESETS = MappingProxyType(
    {
        # A process that vLLM's sleep mode has put to sleep wakes up. Source: vLLM's roadmap, issue 48193 (0.59 s).
        "sleeping": ColdStart((Phase("wake", 0.6),)),
        "warm": ColdStart(
            (Phase("image", 29.0), Phase("weights", 15.4), Phase("compile", 19.6), Phase("warm-up", 6.0))
        ),
        "cold": ColdStart(_COLD),
        # A node comes first. Source: BLIS inference-sim, its example of a provisioning delay (120 s).
        "cold-with-node": ColdStart((Phase("node", 120.0), *_COLD)),
    }
)
