"""JSON as the standard has it: without the words NaN and Infinity, which other programs refuse."""

from __future__ import annotations

import json
import math
from typing import Any


def strict_json(value: Any) -> str:
    """Return a value as indented JSON; a number that is not finite is null."""
    return json.dumps(_finite(value), indent=1, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value
