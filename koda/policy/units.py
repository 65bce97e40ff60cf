"""The unit in which a figure of an audit is written: that of the policy's figure, wherever it is shown."""

from __future__ import annotations

from koda.policy.figures import FIGURES
from koda.records import FigureName
from koda.units import Unit

_ENDINGS: dict[str, Unit] = {"share": "percent", "difference": "percent", "drop": "points"}


def unit_of(figure: str | FigureName) -> Unit:
    """Return the unit of a figure; one that another version of koda has goes by the end of its name.

    >>> unit_of("zero_shot.drop"), unit_of("lost.max_share"), unit_of("lost.confirmed")
    ('points', 'percent', 'number')
    """
    if isinstance(figure, FigureName):
        if figure.policy is None:
            return "percent" if figure.task is not None else "number"
        figure = figure.policy
    if figure in FIGURES:
        return FIGURES[figure].unit
    return next((unit for end, unit in _ENDINGS.items() if figure.endswith(end)), "number")
