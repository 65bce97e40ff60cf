"""Checkpoints that training leaves: found when they stand still, opened, entered in a ledger, and promoted."""

from __future__ import annotations

from koda.checkpoints.looking import Checkpoint, Happened, Look, look_around
from koda.checkpoints.opening import watched
from koda.checkpoints.promotion import check_program, promote

__all__ = ["Checkpoint", "Happened", "Look", "check_program", "look_around", "promote", "watched"]
