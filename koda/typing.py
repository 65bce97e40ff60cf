"""Types that many modules share: arrays, modalities, and the roles and sides of an audit."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]
IntArray = np.ndarray[Any, np.dtype[np.int64]]
BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

MODALITIES = ("image", "text")
Role = Literal["baseline", "candidate"]
ROLES: tuple[Role, ...] = ("baseline", "candidate")
Side = Literal["lost", "gained"]
SIDES: tuple[Side, ...] = ("lost", "gained")
