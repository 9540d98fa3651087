"""How much of the prompts the engines' prefix caches had."""

from typing import Any

import pandas as pd


def summarise_prefix_cache(engine: pd.DataFrame) -> dict[str, Any] | None:
    """Tokens that admitted requests had, and those of them that were found; None where no engine had a prefix cache.

    A preempted request is admitted again, and looks up what it had produced as well.
    """
    if engine.empty or engine["looked_up_tokens"].isna().all():
        return None
    looked_up, found = (int(engine[column].sum()) for column in ("looked_up_tokens", "found_tokens"))
    return {
        "looked_up_tokens": looked_up,
        "found_tokens": found,
        "found_fraction": found / looked_up if looked_up else None,
    }
