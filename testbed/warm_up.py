"""Until when a run warms up by its servers' KV caches: what is scheduled before counts for no figure."""

import pandas as pd

# The fleet is warm once its KV caches hold what they hold in steady state: 30 to 40 % of them, but at most 1000 s are
# waited for it. Source: arXiv 2401.17644 (BurstGPT), evaluation of serving systems.
WARM_KV_FRACTION = 0.3
LONGEST_WARM_UP_S = 1000.0


def find_warm_up_end(engine: pd.DataFrame, run_s: float) -> tuple[float, str | None]:
    """When the KV caches of all engines together first were in use by 30 %, and what is to be said of it.

    Args:
        engine: samples with the columns of `ENGINE_SCHEMA`.
        run_s: how long requests were sent.
    """
    running = engine[(engine["time_s"] >= 0) & (engine["time_s"] < LONGEST_WARM_UP_S)]
    use = running.groupby(running["time_s"].round())["kv_cache_fraction"].mean()
    is_warm = use >= WARM_KV_FRACTION
    if is_warm.any():
        return float(use.index[is_warm.to_numpy()][0]), None
    most = f"{100 * use.max():.0f} %" if len(use) else "not known"
    never = f"The KV caches did not come to {100 * WARM_KV_FRACTION:.0f} % of use (highest: {most})"
    if run_s > LONGEST_WARM_UP_S:
        return LONGEST_WARM_UP_S, f"{never} within {LONGEST_WARM_UP_S:g} s: the warm-up ended then."
    return 0.0, f"{never}: the whole run counts, without a warm-up."
