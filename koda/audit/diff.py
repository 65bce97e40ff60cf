"""Differences of two audits: findings that are new, gone or kept, and everything that could be the reason.

A finding is kept when its slice overlaps with one of the other audit. Keys mean the same samples only in the same
data, so findings are compared only where both audits are over the same data digest. Whether the shares and the
*verdicts* can be compared is another question: for that the baseline, the kernels, the held-out test and the policy
have to be the same too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from koda.config import PolicyRule
from koda.metrics.overlap import jaccard
from koda.policy import FIGURES, AuditFacts, observe
from koda.records import (
    ALL,
    AuditRecord,
    Changes,
    Difference,
    Estimate,
    FigureDifference,
    FigureName,
    Finding,
    FindingKept,
    FindingSeen,
    ModelRecord,
    NearestPrevious,
)
from koda.records.figure_names import Task
from koda.slicing.export import original, table_rows
from koda.typing import SIDES, Role, Side
from koda.wording import printable

Name = TypeVar("Name")

LEAST_OVERLAP = 0.3  # of two slices that are of one finding
Place = tuple[Side, int]
Members = Mapping[Place, frozenset[str]]
_OF_THE_MODEL = ("fingerprint", "name", "pretrained", "precision", "weights_digest", "config_digest")
_OF_EACH_MODEL = (  # which the figures of both models say
    "retrieval.recall",
    "retrieval.image_to_text.drop",
    "retrieval.text_to_image.drop",
    "zero_shot.accuracy",
)
_OF_THE_DATA = ("name", "path", "digest", "n_source", "n_compared", "n_rejected")
_OF_THE_MACHINE = ("koda_version", "code_digest", "python", "platform", "device", "cpu", "threads", "commit", "dirty")


def compare_audits(before: AuditRecord, after: AuditRecord, slices: tuple[Members, Members]) -> Changes:
    """Say what changed from one audit to another.

    Args:
        before: the earlier audit.
        after: the later one.
        slices: the members of the slices of both, as :func:`members_of` gives them.
    """
    reasons = _why_not_comparable(before, after)
    same_data = before.data.digest == after.data.digest
    pairs = matched(*slices) if same_data else []
    was, now = ({(f.side, f.direction): f for f in record.findings} for record in (before, after))
    kept = [
        FindingKept(
            side=old[0],
            before=old[1],
            after=new[1],
            overlap=overlap,
            name=now[new].name,
            words=now[new].words,
            share_before=was[old].target_share.value,
            share_after=now[new].target_share.value,
            confirmed_before=was[old].confirmed,
            confirmed_after=now[new].confirmed,
        )
        for old, new, overlap in pairs
        if old in was and new in now
    ]
    models = differences(_models(before), _models(after))
    data = differences(_data(before, after), _data(after, before))
    said = {row.name for row in models} | {f"data.{row.name}" for row in data}
    config = differences(dotted(before.config), dotted(after.config))
    old_kept, new_kept = {(k.side, k.before) for k in kept}, {(k.side, k.after) for k in kept}
    return Changes(
        before=before.id,
        before_ended=before.ended,
        after=after.id,
        comparable=not reasons,
        not_comparable=reasons,
        verdict_before=before.verdict.status,
        verdict_after=after.verdict.status,
        rules=differences(_results(before), _results(after)),
        findings_compared=same_data,
        new=[_seen(f) for place, f in now.items() if same_data and place not in new_kept],
        gone=[_seen(f) for place, f in was.items() if same_data and place not in old_kept],
        kept=sorted(kept, key=lambda k: (k.side == "gained", k.after)),
        metrics=[
            FigureDifference(name=name, before=was, after=now)
            for name, was, now in _unequal(_metrics(before), _metrics(after))
        ],
        config=[row for row in config if row.name not in said],
        data=data,
        models=models,
        software=differences(_software(before), _software(after)),
    )


def members_of(record: AuditRecord, slices_csv: bytes | None = None) -> dict[Place, frozenset[str]]:
    """Return the keys of the slice of every finding, both lobes together.

    Args:
        record: the audit.
        slices_csv: its `slices.csv`; without it the samples in the record stand for the slice.
    """
    if slices_csv is not None:
        rows = table_rows(slices_csv)
        sizes: dict[tuple[str, str, str], int] = {
            (f.side, str(f.direction), lobe.sign): lobe.size
            for f in record.findings
            for lobe in (f.positive, f.negative)
        }
        return members_of_rows(
            {**row, "key": original(row["key"])}
            for row in rows
            if int(row["rank"]) <= sizes.get((row["side"], row["direction"], row["lobe"]), 0)
        )
    return {
        (f.side, f.direction): frozenset(
            s.key for lobe in (f.positive, f.negative) for s in lobe.samples if s.pick != "near miss"
        )
        for f in record.findings
    }


def members_of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[Place, frozenset[str]]:
    """Return the keys of every slice, as `slices.csv` spells them, from rows with `side`, `direction` and `key`."""
    members: dict[Place, set[str]] = {}
    for row in rows:
        members.setdefault((row["side"], int(row["direction"])), set()).add(printable(str(row["key"])))
    return {place: frozenset(keys) for place, keys in members.items()}


def matched(before: Members, after: Members) -> list[tuple[Place, Place, float]]:
    """Pair the findings of one side whose slices overlap, the best overlap first; each finding once.

    Of findings with one slice those are paired whose numbers are nearest.
    """
    overlaps = [
        (jaccard(keys, others), old, new)
        for old, keys in before.items()
        for new, others in after.items()
        if old[0] == new[0]
    ]
    pairs: list[tuple[Place, Place, float]] = []
    taken: set[tuple[str, Place]] = set()
    for share, old, new in sorted(overlaps, key=lambda item: (-item[0], abs(item[1][1] - item[2][1]), *item[1:])):
        if share >= LEAST_OVERLAP and not taken & {("old", old), ("new", new)}:
            taken |= {("old", old), ("new", new)}
            pairs.append((old, new, share))
    return pairs


def nearest(audit: str, before: Members, place: Place, keys: frozenset[str]) -> NearestPrevious | None:
    """Return the finding of an earlier audit whose slice overlaps most with one; None where none does at all.

    Of findings with one slice it is the one whose number is nearest.
    """
    overlaps = [(jaccard(others, keys), old) for old, others in before.items() if old[0] == place[0]]
    share, (side, direction) = max(
        overlaps, key=lambda item: (item[0], -abs(item[1][1] - place[1]), -item[1][1]), default=(0.0, place)
    )
    return NearestPrevious(audit=audit, side=side, direction=direction, overlap=share) if share > 0 else None


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Return the entries of two mappings that are not equal; one that a mapping lacks is None in it.

    Of two entries that are mappings themselves only what differs is returned.
    """
    rows = []
    for name, was, now in _unequal(before, after):
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            was, now = _without_common(was, now), _without_common(now, was)
        rows.append(Difference(name=name, before=was, after=now))
    return rows


def _unequal(before: Mapping[Name, Any], after: Mapping[Name, Any]) -> Iterator[tuple[Name, Any, Any]]:
    """Yield (name, entry of the first, entry of the second) where they are not equal."""
    for name in dict.fromkeys([*before, *after]):
        was, now = before.get(name), after.get(name)
        if was != now:
            yield name, was, now


def _without_common(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a mapping that another one has not, or has otherwise."""
    return {key: value for key, value in own.items() if key not in other or other[key] != value}


def dotted(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: `discrepancy.seed` -> 0. Rules and waivers go by their figure, so that their order is
    no difference: `policy.lost.max_share` -> {fail: 0.002}. Lists of plain values stay as they are.
    """
    if isinstance(settings, Mapping):
        inner: Iterable[tuple[Any, Any]] = settings.items()
    elif settings == []:  # without items there is nothing to name, whatever they would be
        return {}
    elif isinstance(settings, list) and any(isinstance(item, Mapping) for item in settings):
        if all(isinstance(item, Mapping) and "figure" in item for item in settings):
            return {f"{prefix}.{name}": rule for name, rule in _by_figure(settings).items()}
        inner = enumerate(settings)
    else:
        return {prefix: settings}
    flat: dict[str, Any] = {}
    for key, value in inner:
        flat |= dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _by_figure(rules: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each rule on a figure, or each waiver of one, says beside the figure."""
    by_name: dict[str, dict[str, Any]] = {}
    for rule in rules:
        settings = {name: value for name, value in rule.items() if name != "figure" and value is not None}
        by_name[_nth(rule["figure"], by_name)] = settings
    return by_name


def _nth(figure: str, names: Mapping[str, Any]) -> str:
    """Name a figure among names, where it may be the second of its kind."""
    again = itertools.chain([figure], (f"{figure} #{number}" for number in itertools.count(2)))
    return next(name for name in again if name not in names)


def _why_not_comparable(before: AuditRecord, after: AuditRecord) -> list[str]:
    reasons = []
    if before.data.digest != after.data.digest:
        reasons.append("the data are not the same: findings cannot be matched, and shares are of other samples")
    if before.baseline.weights_digest == after.baseline.weights_digest:
        if before.baseline.fingerprint != after.baseline.fingerprint:
            reasons.append(
                f"the baseline {after.baseline.label} has the same weights, but not all else that decides an "
                "embedding: precision, preprocessing, tokenizer, libraries, or what a fingerprint holds"
            )
    elif before.baseline.fingerprint != after.baseline.fingerprint:
        reasons.append(f"the baselines are not the same model: {before.baseline.label} and {after.baseline.label}")
    if (was := _kernel(before)) != (now := _kernel(after)):
        reasons.append(f"the kernels are not the same ({was}; {now}), so that the shares do not mean the same")
    if before.method.share_unit != after.method.share_unit:
        reasons.append(
            "the shares are in other units: in one audit in raw units of its kernels (record version 1), in the "
            "other in typical ties"
        )
    if (was := _test(before)) != (now := _test(after)):
        reasons.append(f"the held-out tests are not the same ({was}; {now}): confirmed does not mean the same")
    if (was := before.metrics.queries) != (now := after.metrics.queries):
        reasons.append(
            f"retrieval, zero-shot and similarity are of other samples ({was}; {now}), since a model was aligned"
        )
    if before.verdict.policy_digest != after.verdict.policy_digest:
        reasons.append("the policies are not the same, so that the verdicts do not mean the same")
    return reasons


def _kernel(record: AuditRecord) -> str:
    search = record.config.get("discrepancy") or {}
    sigma = f", sigma {search['sigma']}" if record.method.kernel == "gaussian" and "sigma" in search else ""
    return f"{record.method.modality}, {record.method.kernel}{sigma}"


def _test(record: AuditRecord) -> str:
    return f"materiality {record.method.materiality:g}, alpha {record.method.alpha:g}"


def _results(record: AuditRecord) -> dict[str, str]:
    """The results of the rules by figure."""
    by_name: dict[str, str] = {}
    for rule in record.verdict.rules:
        by_name[_nth(rule.figure, by_name)] = rule.result
    return by_name


def _seen(finding: Finding) -> FindingSeen:
    return FindingSeen(
        side=finding.side,
        direction=finding.direction,
        name=finding.name,
        words=finding.words,
        target_share=finding.target_share.value,
        confirmed=finding.confirmed,
    )


def _metrics(record: AuditRecord) -> dict[FigureName, float]:
    """The figures that mean the same in two audits, whatever their policies: those of rules, and of the whole set."""
    facts = AuditFacts(record.findings, record.data, record.metrics, record.controls, record.themes)
    figures: dict[FigureName, float] = {}
    by_column = [f"by.{column}.{task}_drop" for column in _columns(record) for task in ("retrieval", "zero_shot")]
    for name in (*FIGURES, *by_column):
        observations = observe(name, facts, PolicyRule(figure=name, warn=0))
        if observations and name not in _OF_EACH_MODEL:
            figures[FigureName(policy=name)] = observations[0].estimate.value
    for side in SIDES:
        figures[FigureName(side=side)] = sum(f.side == side for f in record.findings)
    for recall in record.metrics.retrieval:
        if recall.subset == ALL and recall.role is not None:
            figures |= _at_depths(recall.role, "I2T", recall.image_to_text)
            figures |= _at_depths(recall.role, "T2I", recall.text_to_image)
    for accuracy in record.metrics.zero_shot.accuracies if record.metrics.zero_shot else ():
        if accuracy.subset == ALL:
            figures |= _at_depths(accuracy.role, "zero-shot", accuracy.top)
    return figures


def _columns(record: AuditRecord) -> list[str]:
    """The metadata columns by whose values the audit measured."""
    return list(dict.fromkeys(item.column for item in record.metrics.by_value))


def _at_depths(role: Role, task: Task, estimates: Mapping[str, Estimate]) -> dict[FigureName, float]:
    return {FigureName(role=role, task=task, depth=depth): estimate.value for depth, estimate in estimates.items()}


def _data(record: AuditRecord, other: AuditRecord) -> dict[str, Any]:
    """What a record says of its data that another says in the same sense.

    Records without a ledger counted as `n_source` the samples asked for, not the rows of the source.
    """
    alike = (record.data.ledger is None) == (other.data.ledger is None)
    return record.data.model_dump(mode="json", include=set(_OF_THE_DATA) - (set() if alike else {"n_source"}))


def _models(record: AuditRecord) -> dict[str, Any]:
    def facts(role: str, model: ModelRecord) -> dict[str, Any]:
        return {f"{role}.{name}": getattr(model, name) for name in _OF_THE_MODEL}

    return facts("baseline", record.baseline) | facts("candidate", record.candidate)


def _software(record: AuditRecord) -> dict[str, Any]:
    made_by = record.provenance.model_dump(mode="json")
    packages = {f"packages.{name}": version for name, version in record.provenance.packages.items()}
    return {name: made_by[name] for name in _OF_THE_MACHINE} | packages
