"""Alignment: a model is fine-tuned on what an audit found, until it sees the slices as the other model does."""

from __future__ import annotations

from koda.alignment.plan import KIND, AlignmentPlan, plan_alignment
from koda.alignment.step import align
from koda.alignment.summary import recoveries, score_table
from koda.records import AlignmentRecord, read_alignment

__all__ = [
    "KIND",
    "AlignmentPlan",
    "AlignmentRecord",
    "align",
    "plan_alignment",
    "read_alignment",
    "recoveries",
    "score_table",
]
