"""One engine of the fleet's arrays as the Python objects that checks read."""

from autoscaler.simulator.engine_state import Engine, EngineState, Slot
from autoscaler.simulator.fleet_state import FleetArrays
from autoscaler.simulator.prefix_cache import KvBlock, PrefixCache


def engine_as_objects(fleet: FleetArrays, row: int) -> Engine:
    """A copy of one row's engine as Python objects, for `check_engine`."""
    cache = None
    if fleet.caches is not None:
        blocks, tables, by_hash, text_first, text_hashes, text_block_tokens = fleet.caches
        cache = PrefixCache(
            [KvBlock(*block.item()) for block in blocks[row]],
            list(tables[row]),
            by_hash[row].tolist(),
            text_first.tolist(),
            text_hashes.tolist(),
            text_block_tokens,
        )
    return Engine(
        EngineState(*fleet.states[row].item()),
        [Slot(*slot.item()) for slot in fleet.slots[row]],
        fleet.running_slots[row].tolist(),
        fleet.waiting_slots[row].tolist(),
        fleet.spare_slots[row].tolist(),
        fleet.delivered_slots[row].tolist(),
        cache,
    )
