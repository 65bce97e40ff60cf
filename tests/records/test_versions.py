"""Records of an earlier version are read: their shares are labelled as raw, for they mean something else."""

from __future__ import annotations

import json

import pytest

from koda.errors import DataError
from koda.records import AuditRecord, IntendedUse, Looks
from tests.records.versions import of_version_1, of_version_2, of_version_3
from tests.report import factory, factory_looks


@pytest.fixture(scope="module")
def record() -> AuditRecord:
    return factory.record(n_findings=2, map_points=0)


def test_a_record_is_of_version_4_and_says_that_its_shares_are_in_ties(record: AuditRecord) -> None:
    raw = json.loads(record.to_json())
    assert raw["version"] == 4
    assert raw["method"]["share_unit"] == "ties"
    assert AuditRecord.from_json(json.dumps(raw)) == record


def test_a_record_of_version_1_is_read_with_raw_shares_and_without_what_bandwidths_were_tried(
    record: AuditRecord,
) -> None:
    old = AuditRecord.from_json(of_version_1(record))
    assert old.method.share_unit == "raw"
    assert old.method.lost.ties == old.method.gained.ties == old.method.lost.modality_ties == {}
    assert not hasattr(old.method.lost, "sigma_tuning")
    assert [f.target_share for f in old.findings] == [f.target_share for f in record.findings]
    again = AuditRecord.from_json(old.to_json())  # written again it is still known for what it is
    assert again == old


def test_the_unit_of_a_record_of_version_1_is_raw_whatever_it_says(record: AuditRecord) -> None:
    raw = json.loads(of_version_1(record))
    raw["method"]["share_unit"] = "ties"
    assert AuditRecord.from_json(json.dumps(raw)).method.share_unit == "raw"


@pytest.mark.parametrize("broken", ["method", "lost", "null"])
def test_a_record_of_version_1_that_lacks_its_method_is_refused_in_words(record: AuditRecord, broken: str) -> None:
    raw = json.loads(of_version_1(record))
    if broken == "null":
        raw["method"] = None
    elif broken == "lost":
        del raw["method"]["lost"]
    else:
        del raw["method"]
    with pytest.raises(DataError, match=r"old\.json is not a valid audit record: it lacks what"):
        AuditRecord.from_json(json.dumps(raw), "old.json")


def test_what_was_tried_is_no_field_of_later_versions(record: AuditRecord) -> None:
    raw = json.loads(record.to_json())
    raw["method"]["lost"]["sigma_tuning"] = [[0.25, 0.0123]]
    with pytest.raises(DataError, match="sigma_tuning"):
        AuditRecord.from_json(json.dumps(raw))


def test_a_record_of_version_2_has_nothing_to_look_at(record: AuditRecord) -> None:
    old = AuditRecord.from_json(of_version_2(record))
    assert (old.looks, old.trend, old.crosswalk, old.intended_use) == (Looks(), None, None, IntendedUse())
    assert {sample.pick for finding in old.findings for sample in finding.positive.samples} == {"top"}
    assert old.findings == record.findings


def test_a_record_of_version_3_has_confusions_that_name_no_samples() -> None:
    record = factory_looks.record(1, map_points=0)
    old = AuditRecord.from_json(of_version_3(record))
    assert any(confusion.places for confusion in record.looks.confusions)
    assert [confusion.places for confusion in old.looks.confusions] == [{}, {}]
    assert (old.version, old.findings, AuditRecord.from_json(old.to_json())) == (3, record.findings, old)


def test_a_record_of_a_newer_koda_is_refused_in_words(record: AuditRecord) -> None:
    raw = json.loads(record.to_json()) | {"version": 5}
    with pytest.raises(DataError, match=r"record version 5; this koda reads versions up to 4"):
        AuditRecord.from_json(json.dumps(raw))
