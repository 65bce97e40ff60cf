"""Calibration of a policy: models held for equal are audited against each other, and set the limits."""

from __future__ import annotations

from koda.calibration.models import equal_models
from koda.calibration.plan import CalibrationPlan, EqualsPlan, needs_of, prepare_calibration
from koda.calibration.publishing import publish_calibration

__all__ = ["CalibrationPlan", "EqualsPlan", "equal_models", "needs_of", "prepare_calibration", "publish_calibration"]
