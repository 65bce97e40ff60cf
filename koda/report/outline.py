"""The contents of the HTML report beside its text: sections in a line each, and the findings with their state."""

from __future__ import annotations

from koda.records import AuditRecord
from koda.report import text

# sections that are looked up rather than read
FOLDED = frozenset(("scope", "models", "data", "method", "controls", "samples", "rejections", "configuration"))


def in_a_line(record: AuditRecord) -> dict[str, str]:
    """Say of each section that is folded away at first what is in it."""
    data, method = record.data, record.method
    left_out = f", {text.number(data.n_rejected)} left out" if data.n_rejected else ""
    shown = sum(len(lobe.samples) for f in record.findings for lobe in (f.positive, f.negative))
    return {
        "scope": "Purpose, readers and limits of this audit",
        "models": f"{text.shorten(record.candidate.architecture, 60)} against "
        f"{text.shorten(record.baseline.architecture, 60)}: weights, preprocessing, precision, licence",
        "data": f"{text.shorten(data.name, 60)}: {text.plural(data.n_compared, 'sample')} compared{left_out}, "
        f"{text.number(data.n_confirmation)} of them held out",
        "method": f"{method.modality.capitalize()} {method.kernel} kernel, "
        f"materiality {text.limit(method.materiality)}, α{text.NBSP}={text.NBSP}{method.alpha:g}: "
        "kernels, bandwidths, search, test",
        "controls": "Controls and trials with planted differences",
        "samples": f"{text.plural(shown, 'place')} in galleries, by key and score",
        "rejections": f"{text.plural(data.n_rejected, 'sample')} that could not be used, and why",
        "configuration": "The audit file as it was run, with its defaults",
    }
