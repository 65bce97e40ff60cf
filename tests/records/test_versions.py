"""Records of an earlier version are read: their shares are labelled as raw, for they mean something else."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from koda.errors import DataError
from koda.records import AuditRecord, IntendedUse, Looks
from koda.records.audit import RECORD_VERSION
from koda.records.base import Part
from koda.storage import digest_json
from tests.records.versions import of_version_1, of_version_2, of_version_3, of_version_4
from tests.report import factory, factory_looks


@pytest.fixture(scope="module")
def record() -> AuditRecord:
    return factory.record(n_findings=2, map_points=0)


def test_a_record_is_of_version_5_and_says_that_its_shares_are_in_ties(record: AuditRecord) -> None:
    raw = json.loads(record.to_json())
    assert raw["version"] == 5
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


def test_a_record_of_version_4_says_neither_who_asked_nor_what_computed(record: AuditRecord) -> None:
    metrics = record.metrics.model_copy(update={"asked": 2048, "ranked": 50_000})
    provenance = record.provenance.model_copy(update={"runner": "dask", "workers": 2})
    record = record.model_copy(update={"metrics": metrics, "provenance": provenance})
    old = AuditRecord.from_json(of_version_4(record))
    assert (old.metrics.asked, old.metrics.ranked) == (None, None)
    assert (old.provenance.runner, old.provenance.workers) == ("threads", None)
    assert (old.version, old.findings, AuditRecord.from_json(old.to_json())) == (4, record.findings, old)


def test_a_field_that_comes_or_goes_needs_a_new_version() -> None:
    """Where this fails, RECORD_VERSION goes up, versions.py writes the record as it was, and the digest follows."""
    fields: dict[str, list[str]] = {}
    rest: list[Any] = [AuditRecord]
    while rest:
        each = rest.pop()
        rest += get_args(each)
        if isinstance(each, type) and issubclass(each, Part) and each.__name__ not in fields:
            fields[each.__name__] = sorted(each.model_fields)
            rest += [field.annotation for field in each.model_fields.values()]
    assert {"AuditRecord", "Estimate", "Provenance", "SampleNeighbours"} <= fields.keys()
    assert (RECORD_VERSION, digest_json(fields)[:16]) == (5, "3d45f95fce707abb")


def test_a_record_of_a_newer_koda_is_refused_in_words(record: AuditRecord) -> None:
    raw = json.loads(record.to_json()) | {"version": 6}
    with pytest.raises(DataError, match=r"record version 6; this koda reads versions up to 5"):
        AuditRecord.from_json(json.dumps(raw))
