"""Where in an engine a request is, by number: compiled code knows no words."""

from typing import TYPE_CHECKING

from loadgen.records import Phase

if TYPE_CHECKING:
    from autoscaler.simulator.engine_state import Slot

PHASES: tuple[Phase | None, ...] = (None, *Phase)
"""What each number stands for."""

ROUTER_QUEUE, COLD_START = PHASES.index(Phase.ROUTER_QUEUE), PHASES.index(Phase.COLD_START)
ENGINE_QUEUE, PREFILL = PHASES.index(Phase.ENGINE_QUEUE), PHASES.index(Phase.PREFILL)
DECODE, PREEMPTION = PHASES.index(Phase.DECODE), PHASES.index(Phase.PREEMPTION)
REPLICA_LOST, DRAINED = PHASES.index(Phase.REPLICA_LOST), PHASES.index(Phase.DRAINED)


def phase_in_engine(slot: "Slot") -> int:
    """The phase of a request that an engine holds, between steps or while one is under way."""
    if slot.blocks == 0:  # only running requests hold blocks, and each of them does
        return PREEMPTION if slot.prefill_tokens > 0 else ENGINE_QUEUE
    return PREFILL if slot.computed_tokens < slot.prefill_tokens else DECODE
