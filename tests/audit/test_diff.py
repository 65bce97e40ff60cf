"""Two audits compared: which findings are the same, and what else differs."""

from __future__ import annotations

from typing import Any

from koda.audit.diff import compare_audits, differences, dotted, matched, members_of, nearest
from koda.metrics.overlap import jaccard
from koda.records import AuditRecord
from tests.records.versions import of_version_1
from tests.report.factory import record


def keys(*numbers: int) -> frozenset[str]:
    return frozenset(map(str, numbers))


def compare(before: AuditRecord, after: AuditRecord) -> Any:
    return compare_audits(before, after, (members_of(before), members_of(after)))


def test_the_best_overlap_is_paired_first_and_each_finding_once() -> None:
    before = {("lost", 1): keys(1, 2, 3, 4), ("lost", 2): keys(5, 6, 7, 8), ("gained", 1): keys(1, 2, 3, 4)}
    after = {("lost", 1): keys(5, 6, 7), ("lost", 2): keys(1, 2, 3, 9), ("lost", 3): keys(1, 2, 3, 4)}
    assert matched(before, after) == [  # type: ignore[arg-type]
        (("lost", 1), ("lost", 3), 1.0),
        (("lost", 2), ("lost", 1), 0.75),
    ]
    found = nearest("audit-1", before, ("lost", 2), keys(1, 2, 3, 9))  # type: ignore[arg-type]
    assert found is not None and (found.side, found.direction, found.overlap) == ("lost", 1, 0.6)
    assert nearest("audit-1", before, ("lost", 2), keys(99)) is None  # type: ignore[arg-type]
    assert jaccard(keys(), keys()) == 0


def test_of_findings_with_one_slice_those_of_one_number_belong_together() -> None:
    same = {("lost", number): keys(1, 2, 3) for number in (1, 2, 3)}
    assert matched(same, same) == [(place, place, 1.0) for place in same]  # type: ignore[arg-type]
    for place in same:
        found = nearest("audit-1", same, place, keys(1, 2, 3))  # type: ignore[arg-type]
        assert found is not None and (found.side, found.direction) == place


def test_an_audit_does_not_differ_from_itself() -> None:
    one = record(map_points=0)
    changes = compare(one, one)
    assert changes.comparable and not changes.verdict_flipped
    assert len(changes.kept) == len(one.findings) and all(kept.overlap == 1 for kept in changes.kept)
    assert not any((changes.new, changes.gone, changes.metrics, changes.config, changes.data, changes.software))


def test_findings_new_and_gone_and_a_flip() -> None:
    old, new = record(n_findings=5, map_points=0), record(n_findings=4, map_points=0)
    new = new.model_copy(update={"verdict": new.verdict.model_copy(update={"status": "pass"})})
    changes = compare(old, new)
    assert [(f.side, f.direction) for f in changes.gone] == [("gained", 1)]
    assert (changes.new, len(changes.kept), changes.verdict_flipped) == ([], 4, True)
    assert [f.side for f in compare(new, old).new] == ["gained"]
    assert "gained.found" in [str(row.name) for row in changes.metrics]


def test_other_data_baseline_or_policy_is_not_comparable_and_says_why() -> None:
    one = record(map_points=0)
    other = one.model_copy(
        update={
            "data": one.data.model_copy(update={"digest": "0"}),
            "baseline": one.candidate,
            "verdict": one.verdict.model_copy(update={"policy_digest": "0"}),
        }
    )
    changes = compare(one, other)
    assert not changes.comparable and not changes.findings_compared
    assert (changes.kept, changes.new, changes.gone) == ([], [], [])
    told = " ".join(changes.not_comparable)
    assert "data are not the same" in told and "baselines" in told and "policies" in told
    assert "baseline.fingerprint" in [row.name for row in changes.models]


def test_members_come_from_the_slices_or_from_the_samples() -> None:
    one = record(n_findings=1, map_points=0)
    sizes = one.findings[0].positive.size, one.findings[0].negative.size
    rows = [
        ("lost,1,positive,1,a", True),
        (f"lost,1,positive,{sizes[0]},b", True),
        (f"lost,1,positive,{sizes[0] + 1},c", False),  # listed, but beyond the slice
        (f"lost,1,negative,{sizes[1] + 1},d", False),
        ("gained,1,positive,1,e", True),  # of no finding
    ]
    text = "side,direction,lobe,rank,key,in_slice\n" + "".join(f"{row},{inside}\n" for row, inside in rows)
    assert members_of(one, text.encode()) == {("lost", 1): frozenset("ab")}
    assert len(members_of(one)[("lost", 1)]) == 24


def test_settings_are_compared_by_dotted_keys_and_rules_by_their_figure() -> None:
    x, y = {"figure": "x", "fail": 1, "owner": "me"}, {"figure": "y", "warn": 1, "fail": None}
    a = {"policy": [x, y], "waivers": [], "seed": 0, "names": ["p", "q"], "data": [{"path": "d"}]}
    b = {
        "policy": [y, {"figure": "x", "fail": 2, "owner": "me"}, y],
        "waivers": [{"figure": "x", "person": "Ada"}],
        "seed": 0,
        "names": ["p"],
        "pdf": None,
        "data": [{"path": "e"}],
    }
    found = {row.name: (row.before, row.after) for row in differences(dotted(a), dotted(b))}
    assert found == {
        "policy.x": ({"fail": 1}, {"fail": 2}),
        "policy.y #2": (None, {"warn": 1}),
        "names": (["p", "q"], ["p"]),
        "data.0.path": ("d", "e"),
        "waivers.x": (None, {"person": "Ada"}),
    }


def test_other_kernels_or_another_test_are_not_comparable() -> None:
    one = record(map_points=0)
    other = one.model_copy(
        update={
            "method": one.method.model_copy(update={"materiality": 0.01}),
            "config": {**one.config, "discrepancy": {"sigma": 2.0}},
        }
    )
    told = compare(one, other).not_comparable
    assert len(told) == 2
    assert "sigma 2.0" in told[0] and "shares do not mean the same" in told[0]
    assert "materiality 0.01" in told[1] and "confirmed does not mean the same" in told[1]


def test_shares_in_other_units_are_not_comparable() -> None:
    one = record(map_points=0)
    old = AuditRecord.from_json(of_version_1(one))
    for before, after in ((old, one), (one, old)):
        changes = compare(before, after)
        assert not changes.comparable
        (told,) = changes.not_comparable
        assert "shares are in other units" in told and "raw units of its kernels (record version 1)" in told
    assert compare(old, old).comparable  # among themselves raw shares mean the same
    assert compare(one, one).comparable


def test_results_of_rules_and_figures_that_no_rule_is_on() -> None:
    one = record(map_points=0)
    passed = [rule.model_copy(update={"result": "pass"}) for rule in one.verdict.rules]
    data = one.data.model_copy(update={"n_rejected": one.data.n_rejected + 1})
    other = one.model_copy(
        update={"data": data, "verdict": one.verdict.model_copy(update={"rules": passed, "status": "pass"})}
    )
    changes = compare(one, other)
    assert [(row.before, row.after) for row in changes.rules] == [
        (rule.result, "pass") for rule in one.verdict.rules if rule.result != "pass"
    ]
    assert {str(row.name) for row in changes.metrics} == {"rejections.count", "rejections.share"}


def test_falls_by_metadata_value_are_compared_column_by_column() -> None:
    one = record(map_points=0)
    without = [item for item in one.metrics.by_value if item.value != "purple"]
    other = one.model_copy(update={"metrics": one.metrics.model_copy(update={"by_value": without})})
    rows = {str(row.name): (row.before, row.after) for row in compare(one, other).metrics}
    assert set(rows) == {"by.retrieval_drop", "by.colour.retrieval_drop"}
    assert rows["by.colour.retrieval_drop"] == (0.31, 0.0)


def test_a_finding_that_is_kept_says_whether_it_is_confirmed_still() -> None:
    one = record(n_findings=1, map_points=0)
    doubted = one.model_copy(update={"findings": [one.findings[0].model_copy(update={"confirmed": False})]})
    (kept,) = compare(one, doubted).kept
    assert (kept.confirmed_before, kept.confirmed_after) == (True, False)


def test_what_models_and_data_say_is_not_said_again_of_the_configuration() -> None:
    one = record(map_points=0)
    named = {**one.config, "candidate": {"name": "other", "label": "l"}}
    candidate = one.candidate.model_copy(update={"name": "other"})
    changes = compare(one, one.model_copy(update={"config": named, "candidate": candidate}))
    assert "candidate.name" in [row.name for row in changes.models]
    assert "candidate.name" not in [row.name for row in changes.config]


def test_a_near_miss_in_a_gallery_is_no_member_of_the_slice() -> None:
    one = record(n_findings=1, gallery=2, map_points=0)
    finding = one.findings[0]
    first, second = finding.positive.samples
    missed = finding.positive.model_copy(update={"samples": [first, second.model_copy(update={"pick": "near miss"})]})
    one = one.model_copy(update={"findings": [finding.model_copy(update={"positive": missed})]})
    assert members_of(one)[finding.side, 1] == {first.key, *(sample.key for sample in finding.negative.samples)}
