"""Types that many modules share: arrays, modalities, roles and sides of an audit, directions of retrieval."""

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
RetrievalDirection = Literal["image_to_text", "text_to_image"]
RETRIEVAL_DIRECTIONS: tuple[RetrievalDirection, ...] = ("image_to_text", "text_to_image")


def other_role(role: Role) -> Role:
    """Return the role of the other model."""
    return "baseline" if role == "candidate" else "candidate"


def roles_of(side: Side) -> tuple[Role, Role]:
    """Return (target, reference): what was lost is structure of the baseline that the candidate lacks."""
    return ("baseline", "candidate") if side == "lost" else ("candidate", "baseline")
