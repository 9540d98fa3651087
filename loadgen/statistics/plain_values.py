"""What was measured as plain values and as JSON text."""

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(value: Any, without: frozenset[str] = frozenset()) -> Any:
    """Dataclasses as dictionaries (without those fields), arrays and tuples as lists, NaN and infinity as None."""
    if is_dataclass(value):
        names = [field.name for field in fields(value) if field.name not in without]
        return {name: plain(getattr(value, name), without) for name in names}
    if isinstance(value, dict):
        return {key: plain(entry, without) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry, without) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_text(value: Any, indent: str = "") -> str:
    """JSON with a line for each value, a list being one value."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value, allow_nan=False)
    inner = indent + "  "
    lines = [f"{inner}{json.dumps(key)}: {json_text(entry, inner)}" for key, entry in value.items()]
    return "\n".join(["{", ",\n".join(lines), indent + "}"])
