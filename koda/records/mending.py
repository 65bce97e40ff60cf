"""What an alignment mended: its findings, by the held-out test before and after, and one sentence of that."""

from __future__ import annotations

from dataclasses import dataclass

from koda.records.alignment import AlignmentRecord, Retest


@dataclass(frozen=True)
class Mending:
    """The findings that were learnt from, by what the test on held-out samples says of the aligned model.

    Args:
        mended: confirmed before, and no longer.
        still_confirmed: after the alignment too.
        untested: too few samples are held out to test them again.
        not_confirmed: neither before nor after.
    """

    mended: tuple[Retest, ...]
    still_confirmed: tuple[Retest, ...]
    untested: tuple[Retest, ...]
    not_confirmed: tuple[Retest, ...]

    @property
    def sentence(self) -> str:
        """What came of the findings, that nothing was mended first of all."""
        mended, still, untested = map(len, (self.mended, self.still_confirmed, self.untested))
        n = mended + still + untested
        if not n:
            return "nothing mended: no finding was confirmed on held-out samples, before or after"
        if untested == n:
            what = f"0 of {n} finding{'s' * (n != 1)} could be tested again"
            return f"not shown to be mended: {what}, since too few samples are held out"
        if not mended:
            text = f"nothing mended: {_of(still, n)} still confirmed on held-out samples"
        else:
            text = f"{_of(mended, n)} no longer confirmed on held-out samples"
            text += f"; {still} still {'is' if still == 1 else 'are'}" if still else ""
        return text + (f"; {untested} could not be tested again" if untested else "")


def _of(k: int, n: int) -> str:
    return f"{k} of {n} finding{'s' * (n != 1)} {'is' if k == 1 else 'are'}"


def mending_of(run: AlignmentRecord, alpha: float) -> Mending:
    """Sort the findings that were learnt from by their tests before and after.

    Args:
        run: the record of the alignment.
        alpha: the level of the tests, where the record does not state it.
    """
    level = run.alpha if run.alpha is not None else alpha
    parts: dict[str, list[Retest]] = {"mended": [], "still_confirmed": [], "untested": [], "not_confirmed": []}
    for retest in run.retests:
        if retest.p_after is None:
            part = "untested"
        elif retest.p_after < level:
            part = "still_confirmed"
        else:
            part = "mended" if retest.p_before is not None and retest.p_before < level else "not_confirmed"
        parts[part].append(retest)
    return Mending(**{name: tuple(retests) for name, retests in parts.items()})
