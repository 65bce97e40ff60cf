"""Policies through the command: verdicts, waivers, exit codes, JUnit, and what a second audit says of the first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.plan import EVALUATIONS, REPORTS, prepare
from koda.audit.publishing import publish
from koda.audit.runs import running
from koda.config import AuditConfig, load_config
from koda.errors import StoreError
from koda.records import AuditRecord
from koda.report import environment
from tests.flows.workplace import Workplace, make_workplace
from tests.policy.junit import check_junit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A workplace with one audit in it, so that another policy only makes record and report anew."""
    made = make_workplace(tmp_path_factory.mktemp("verdicts"))
    assert made.run("--set", "policy=[{figure: rejections.count, fail: 1000}]")[0] == 0
    yield made


def judged(place: Workplace, rule: str, *more: str, waivers: str = "[]") -> tuple[int, dict[str, Any]]:
    code, result, _ = place.run("--set", f"policy=[{rule}]", "--set", f"waivers={waivers}", *more)
    if "steps" in result:
        assert place.executed(result) in (["record", "render"], [])
    return code, result


def record_of(result: dict[str, Any]) -> AuditRecord:
    return AuditRecord.from_json(Path(result["paths"]["record"]).read_bytes())


def report_of(result: dict[str, Any]) -> str:
    return Path(result["paths"]["html"]).read_text(encoding="utf-8")


FAILS = "{figure: rejections.count, fail: -1}"


def waiver(expires: str) -> str:
    return f"[{{figure: rejections.count, person: Ada <b>, reason: known, expires: {expires}}}]"


@pytest.mark.parametrize(
    ("rule", "verdict", "code", "strict"),
    [
        ("{figure: rejections.count, fail: 5}", "pass", 0, 0),
        ("{figure: rejections.count, warn: -1}", "warn", 0, 0),
        (FAILS, "fail", 1, 1),
        ("{figure: zero_shot.drop, fail: 0.1}", "inconclusive", 0, 1),  # not recorded
        ("{figure: confirmed.count, fail: -1, direction: below}", "pass", 0, 0),
        ("{figure: confirmed.count, fail: 99, direction: below}", "fail", 1, 1),
        ("{figure: similarity.cka.image, warn: 1.5}", "warn", 0, 0),  # low is bad, and it is below 1.5
    ],
)
def test_each_verdict_has_its_exit_code(
    place: Workplace, tmp_path: Path, rule: str, verdict: str, code: int, strict: int
) -> None:
    found, result = judged(place, rule)
    assert (found, result["verdict"]) == (code, verdict)
    assert judged(place, rule, "--strict", "--junit", str(tmp_path / "koda.xml"))[0] == strict
    suite = check_junit((tmp_path / "koda.xml").read_bytes())
    assert (suite.get("failures"), suite.get("skipped")) == (str(strict), "0")  # as the exit code says
    told = json.loads(Path(result["paths"]["verdict"]).read_text(encoding="utf-8"))
    assert (told["id"], told["verdict"]) == (result["id"], verdict)
    assert len(told["rules"]) == 1


def test_a_figure_that_is_not_recorded_says_why(place: Workplace) -> None:
    _, result = judged(place, "{figure: zero_shot.drop, fail: 0.1}")
    assert result["reasons"] == [
        "zero_shot.drop could not be observed: the configuration has no zero_shot section, which names the classes."
    ]
    assert "could not be applied: the configuration has no zero_shot section" in report_of(result)


@pytest.fixture(scope="module")
def found(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A copy of the workplace in whose evaluation one finding alone is confirmed, with a stability of 0.4."""
    copy = Workplace(tmp_path_factory.mktemp("found") / "place")
    shutil.copytree(place.folder, copy.folder)
    plan = prepare(load_config(copy.config), copy.home)
    path = plan.artifacts.folder(EVALUATIONS, plan.evaluation_key) / "evaluation.json"
    note = json.loads(path.read_bytes())
    for other in note["findings"]:
        other["confirmed"] = False
    (first,) = (f for f in note["findings"] if (f["side"], f["direction"]) == ("lost", 1))
    first |= {
        "confirmed": True,
        "target_share": {"value": 0.004, "low": 0.0038, "high": 0.0042},
        "reference_share": {"value": 0.0005, "low": 0.0003, "high": 0.0007},
        "stability": {"jaccard": 0.4, "subspace": 0.5, "n_runs": 2},
    }
    path.write_text(json.dumps(note), encoding="utf-8")
    plan.artifacts.complete(EVALUATIONS, plan.evaluation_key)
    return copy


@pytest.mark.parametrize(
    ("rule", "verdict", "code"),
    [
        ("{figure: lost.max_share, warn: 0.005, fail: 0.006}", "pass", 0),
        ("{figure: lost.max_share, warn: 0.003, fail: 0.006}", "warn", 0),
        ("{figure: lost.max_share, warn: 0.001, fail: 0.002}", "fail", 1),
        ("{figure: lost.max_share, warn: 0.001, fail: 0.0041}", "inconclusive", 0),  # the interval holds the limit
        ("{figure: lost.max_share, fail: 0.002, min_stability: 0.3}", "fail", 1),
        ("{figure: lost.max_share, fail: 0.002, min_stability: 0.6}", "inconclusive", 0),
        ("{figure: lost.max_share, fail: 0.006, min_stability: 0.6}", "pass", 0),
        ("{figure: lost.max_share, fail: 0.002, max_reference_share: 0.0001}", "pass", 0),
        ("{figure: lost.max_share, fail: 0.006, direction: below}", "fail", 1),
        ("{figure: confirmed.count, fail: 0}", "fail", 1),
    ],
)
def test_rules_on_a_confirmed_finding(found: Workplace, tmp_path: Path, rule: str, verdict: str, code: int) -> None:
    exit_code, result = judged(found, rule, "--junit", str(tmp_path / "koda.xml"))
    assert (exit_code, result["verdict"]) == (code, verdict)
    assert judged(found, rule, "--strict")[0] == (code or int(verdict == "inconclusive"))
    suite = check_junit((tmp_path / "koda.xml").read_bytes())
    assert suite.get("failures") == str(int(verdict == "fail"))
    assert suite.get("skipped") == str(int(verdict == "inconclusive"))
    (judged_rule,) = record_of(result).verdict.rules
    if verdict == "inconclusive" and judged_rule.min_stability is not None:
        assert "has a stability of 0.4, under the min_stability of 0.6" in result["reasons"][0]
        assert ", but the finding that decides, lost 1, has a stability of 0.4" in report_of(result)


def test_an_interval_that_holds_the_limit_is_inconclusive(place: Workplace) -> None:
    _, result = judged(place, "{figure: retrieval.drop, fail: 10}")
    (rule,) = record_of(result).verdict.rules
    assert rule.observed is not None and rule.observed.low is not None and rule.observed.high is not None
    middle = (rule.observed.low + rule.observed.high) / 2
    code, result = judged(place, f"{{figure: retrieval.drop, fail: {middle}}}")
    assert (code, result["verdict"]) == (0, "inconclusive")


def test_a_waiver_in_force_passes_and_the_report_says_who_and_until_when(place: Workplace) -> None:
    code, result = judged(place, FAILS, waivers=waiver("2999-12-31"))
    assert (code, result["verdict"]) == (0, "pass")
    assert "Waived by Ada <b> until 2999-12-31: known." in result["reasons"][0]
    (rule,) = record_of(result).verdict.rules
    assert (rule.result, rule.waived) == ("waived", "fail")
    report = report_of(result)
    assert "○ waived" in report and "until 2999-12-31" in report
    assert "Ada &lt;b&gt;" in report and "Ada <b>" not in report


def test_an_expired_waiver_does_not_count_and_the_report_says_so(place: Workplace) -> None:
    code, result = judged(place, FAILS, waivers=waiver("2020-01-01"))
    assert (code, result["verdict"]) == (1, "fail")
    assert "expired on 2020-01-01" in result["reasons"][0]
    assert "waiver expired" in report_of(result)


def test_the_record_is_another_one_once_a_waiver_has_expired(place: Workplace) -> None:
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    settings |= {"policy": yaml.safe_load(f"[{FAILS}]"), "waivers": yaml.safe_load(waiver("2026-12-31"))}
    path = place.folder / "waived.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    plan = prepare(load_config(path), place.home)
    days = {day: replace(plan, today=date(*day)).record_key for day in ((2026, 6, 1), (2026, 12, 31), (2027, 1, 1))}
    assert days[2026, 6, 1] == days[2026, 12, 31] != days[2027, 1, 1]


@pytest.mark.parametrize(
    ("rule", "waivers", "words"),
    [
        ("{figure: retrieval.drops, fail: 1}", "[]", "Did you mean 'retrieval.drop'?"),
        ("{figure: rejections.count, fail: 1, min_stability: 0.5}", "[]", "min_stability has no meaning"),
        ("{figure: lost.max_share, fail: 1}", waiver("2999-12-31"), "no rule of the policy is on the figure"),
        ("{figure: rejections.count, warn: 2, fail: 1}", "[]", "could never warn"),
        ("{figure: rejections.count, fail: 1, max_reference_share: 0.1}", "[]", "max_reference_share has no meaning"),
        (FAILS, "[{figure: rejections.count, reason: r, expires: 2999-12-31}]", "'waivers.0.person' is missing"),
        (FAILS, "[{figure: rejections.count, person: ' ', reason: r, expires: 2999-12-31}]", "it is empty"),
        (FAILS, "[{figure: rejections.count, person: Ada, reason: r}]", "'waivers.0.expires' is missing"),
        (FAILS, "[{figure: rejections.count, person: Ada, expires: 2999-12-31}]", "'waivers.0.reason' is missing"),
        (FAILS, "[{figure: rejections.count, person: Ada, reason: r, expires: soon}]", "waivers.0.expires"),
    ],
)
def test_what_can_never_apply_exits_with_2(place: Workplace, rule: str, waivers: str, words: str) -> None:
    code, result = judged(place, rule, waivers=waivers)
    assert code == 2
    assert words in result["error"]


def test_junit_is_written_for_every_verdict_and_a_stale_one_does_not_stay(place: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "out" / "koda.xml"
    code, result = judged(place, FAILS, "--junit", str(file))
    assert code == 1
    assert result["paths"]["junit"] == str(file)
    suite = check_junit(file.read_bytes())
    assert (suite.get("name"), suite.get("failures")) == (result["id"], "1")
    judged(place, FAILS, "--junit", str(file), waivers=waiver("2999-12-31"))
    assert "waived by Ada <b>" in check_junit(file.read_bytes()).find("testcase/skipped").get("message", "")  # type: ignore[union-attr]
    assert judged(place, "{figure: nonsense, fail: 1}", "--junit", str(file))[0] == 2
    suite = check_junit(file.read_bytes())  # of this run, which has no verdict
    assert (suite.get("name"), suite.get("errors"), suite.get("failures")) == ("koda", "1", "0")
    code, result = judged(place, FAILS, "--junit", str(tmp_path))
    assert code == 2 and "is a folder" in result["error"]


def test_a_second_audit_says_what_changed_and_keeps_saying_it(place: Workplace) -> None:
    _, before = judged(place, "{figure: rejections.count, fail: 7}")
    _, after = judged(place, "{figure: rejections.count, fail: -7}", "--set", "report.title=Another")
    changes = record_of(after).changes
    assert changes is not None
    assert (changes.before, changes.verdict_before, changes.verdict_after) == (before["id"], "pass", "fail")
    assert not changes.comparable and "policies" in changes.not_comparable[0]
    assert len(changes.kept) == len(record_of(after).findings) and not changes.new and not changes.gone
    assert {"policy.rejections.count", "report.title"} <= {row.name for row in changes.config}
    report = report_of(after)
    assert report.index("What changed since the last audit</h2>") < report.index(" Policy</h2>")
    assert "Not comparable" in report
    judged(place, "{figure: rejections.count, fail: 8}")
    _, again = judged(place, "{figure: rejections.count, fail: -7}", "--set", "report.title=Another")
    assert again["steps_executed"] == 0
    assert record_of(again).changes == changes


def test_findings_name_the_nearest_of_the_last_audit(place: Workplace) -> None:
    _, result = judged(place, "{figure: rejections.count, fail: 9}")
    for finding in record_of(result).findings:
        assert finding.nearest_previous is not None
        assert (finding.nearest_previous.direction, finding.nearest_previous.overlap) == (finding.direction, 1.0)


def test_templates_that_change_during_an_audit_do_not_lose_its_report(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "templates"
    shutil.copytree(environment.template_folder(), templates)
    monkeypatch.setattr(environment, "template_folder", lambda: templates)
    plan = prepare(load_config(place.config), place.home)
    key = plan.report_key
    (templates / "report.css").write_text("changed", encoding="utf-8")
    assert plan.report_key == key
    assert prepare(load_config(place.config), place.home).report_key != key


def test_an_audit_without_its_report_is_not_published(place: Workplace) -> None:
    _, result = judged(place, "{figure: rejections.count, fail: 11}")
    plan = prepare(AuditConfig.model_validate(record_of(result).config), place.home)
    report = plan.artifacts.folder(REPORTS, plan.report_key) / "report.html"
    kept = report.read_bytes()
    report.unlink()
    with (
        pytest.raises(StoreError, match=r"report\.html cannot be read"),
        running(plan.home, plan.audit_id, plan.needs()) as run,
    ):
        publish(plan, run, [])
    assert (place.home / "audits" / result["id"] / "report.html").read_bytes() == kept  # the old folder stays


def run(place: Workplace, *arguments: str) -> Any:
    os.environ["KODA_HOME"] = str(place.home)
    return CliRunner().invoke(app, list(arguments))


def test_the_figures_are_listed(place: Workplace) -> None:
    told = json.loads(run(place, "figures", "--json").stdout)
    assert told["retrieval.recall"]["bad"] == "below" and told["lost.max_share"]["words"] == "largest share lost"
    assert [told[name]["unit"] for name in ("lost.max_share", "zero_shot.drop")] == ["percent", "points"]
    assert "slice.retrieval_drop" in run(place, "figures").stdout


def test_diff_takes_ids_beginnings_and_files(place: Workplace) -> None:
    _, one = judged(place, "{figure: rejections.count, fail: 5}")
    _, two = judged(place, FAILS)
    answer = run(place, "diff", one["id"], two["paths"]["record"], "--json")
    assert answer.exit_code == 0
    told = json.loads(answer.stdout)  # one object and nothing else
    assert (told["before"], told["after"], told["comparable"]) == (one["id"], two["id"], False)
    assert (told["verdict_before"], told["verdict_after"]) == ("pass", "fail")
    assert all(kept["overlap"] == 1 for kept in told["kept"])
    shown = run(place, "diff", one["id"].removeprefix("audit-"), two["paths"]["folder"]).stdout
    assert "not comparable" in shown and "✓ pass -> ✕ fail" in shown and "policy.rejections.count" in shown
    same = json.loads(run(place, "diff", one["id"], one["id"], "--json").stdout)
    assert same["comparable"] and not same["config"] and not same["software"]
    unknown = run(place, "diff", one["id"], "audit-zzz", "--json")
    assert (unknown.exit_code, json.loads(unknown.stdout)["exit_code"]) == (2, 2)
    assert "There is no audit 'audit-zzz'" in json.loads(unknown.stdout)["error"]
    assert "audits begin with 'audit-'" in run(place, "diff", one["id"], "audit-").stderr
    assert run(place, "diff", one["id"], str(place.folder / "no.json")).exit_code == 2


def test_a_record_without_its_slices_is_compared_by_the_samples_it_shows(place: Workplace, tmp_path: Path) -> None:
    _, one = judged(place, "{figure: rejections.count, fail: 5}")
    alone = tmp_path / "audit.json"
    shutil.copyfile(one["paths"]["record"], alone)
    told = json.loads(run(place, "diff", one["id"], str(alone), "--json").stdout)
    assert told["kept"] and all(kept["overlap"] == 1 for kept in told["kept"])


def test_audits_of_different_data_are_not_compared(place: Workplace) -> None:
    _, one = judged(place, "{figure: rejections.count, fail: 5}")
    _, other, _ = place.run("--set", "data.limit=80", "--set", "policy=[{figure: rejections.count, fail: 5}]")
    told = json.loads(run(place, "diff", one["id"], other["id"], "--json").stdout)
    assert (told["comparable"], told["findings_compared"], told["kept"]) == (False, False, [])
    assert "data are not the same" in told["not_comparable"][0]
    assert "n_compared" in [row["name"] for row in told["data"]]
    shown = run(place, "diff", one["id"], other["id"])
    assert shown.exit_code == 0 and "not compared, since the audits are of different data" in shown.stdout
    assert "figures  " not in shown.stdout and "results of the rules  " not in shown.stdout
    changes = record_of(other).changes
    assert changes is not None and not changes.comparable and not changes.findings_compared
    assert "Directions were not compared" in report_of(other)
