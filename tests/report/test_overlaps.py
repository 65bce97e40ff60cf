"""The overlap of the findings of a side: several directions may be one difference."""

from __future__ import annotations

from pathlib import Path

from koda.records import AuditRecord, Looks, Overlap, Subset
from koda.report.found_subset import overlaps, stops
from tests.report import factory
from tests.report.page import page_of


def _overlapping() -> AuditRecord:
    pairs = [(1, 2, 23, 0.156), (2, 3, 9, 0.056)]
    shared = [Overlap(first=Subset("lost", a), second=Subset("lost", b), shared=n, jaccard=j) for a, b, n, j in pairs]
    return factory.record(6, gallery=1, map_points=0, looks=Looks(overlaps=shared))


def test_the_matrix_is_symmetric_and_leaves_out_who_shares_nothing() -> None:
    (matrix,) = overlaps(_overlapping())
    assert matrix.side == "lost" and matrix.names == ["Lost 1", "Lost 2", "Lost 3"]
    cells = [[(value, share.replace("\u00a0", " ")) for value, share in row] for _, _, row in matrix.rows]
    assert cells[0] == [("–", ""), ("23", "16 %"), ("0", "")]
    assert cells == [list(column) for column in zip(*cells, strict=True)]
    assert matrix.rows[0][1] == 46 + 39
    assert overlaps(factory.record(6, gallery=1, map_points=0)) == []


def test_it_stands_beside_the_findings_with_where_the_search_stopped(tmp_path: Path) -> None:
    record = _overlapping()
    status = "4 directions, each within 1e-6 of its optimum; the search stopped at 4 directions"
    lost = record.method.lost.model_copy(update={"status": status})
    record = record.model_copy(update={"method": record.method.model_copy(update={"lost": lost})})
    text = page_of(record, tmp_path)[0].text.replace("\u00a0", " ")
    assert "Lost 1 , 85 – 23 16 % 0" in text
    assert "Lost: the search stopped at 4 directions." in text
    assert stops(factory.record(0)) == []
