"""Figures of a comparison in their own units."""

from __future__ import annotations

import pytest

from koda.records import FigureName
from koda.report.figures import changed


@pytest.mark.parametrize(
    ("figure", "before", "after", "written"),
    [
        ("lost.max_share", 0.003286, 0.002936, ("largest share lost", "0.33 %", "0.29 %")),
        ("lost.found", 5, 3, ("number of directions lost", "5", "3")),
        ("baseline T2I R@1", 0.474, None, ("baseline text to image, R@1", "47.4 %", "–")),
        ("similarity.cka.image", 0.9381, 0.9, ("CKA of the image embeddings", "0.938", "0.900")),
    ],
)
def test_a_figure_that_changed_is_written_in_its_own_unit(
    figure: str, before: float, after: float | None, written: tuple[str, str, str]
) -> None:
    assert tuple(part.replace("\u00a0", " ") for part in changed(FigureName.parse(figure), before, after)) == written
