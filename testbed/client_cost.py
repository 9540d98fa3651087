"""What sending cost the load generator's processes, and how long they stood still: a busy client measures itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from loadgen.standstill import Standstill, worst_standstill


@dataclass(frozen=True, slots=True)
class ClientCost:
    """Processor time of a run's senders.

    Attributes:
        cpu_s: of all of them, from the start to the end.
        cpu_ms_per_request: by the requests that were sent; None = none was.
        busiest_fraction: of one processor, which the busiest of them took over the run; near 1 it was late itself.
    """

    cpu_s: float
    cpu_ms_per_request: float | None
    busiest_fraction: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for summary.json."""
        return asdict(self)


def client_cost(environment: Mapping[str, Any], records: pd.DataFrame, duration_s: float) -> ClientCost | None:
    """From what environment.json says of the senders; None where nothing was sent from anywhere (simulated).

    Args:
        records: of the whole run, its warm-up included.
        duration_s: from instant 0 to the end of the last request.
    """
    used_s = [float(cpu_s) for sender in environment.get("senders") or () for cpu_s in sender.get("cpu_s") or ()]
    if not used_s:
        return None
    sent = int(records["sent_s"].notna().sum())
    return ClientCost(sum(used_s), 1e3 * sum(used_s) / sent if sent else None, max(used_s) / duration_s)


def senders_standstill(environment: Mapping[str, Any]) -> Standstill | None:
    """The longest of what the senders told, from environment.json; None where they told nothing."""
    told = [each for sender in environment.get("senders") or () for each in sender.get("standstills") or ()]
    return worst_standstill(Standstill(**each) for each in told) if told else None
