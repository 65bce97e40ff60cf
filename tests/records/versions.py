"""Records as earlier kodas wrote them."""

from __future__ import annotations

import json

from koda.records import AuditRecord


def of_version_1(record: AuditRecord) -> str:
    """The same record as version 1 wrote it: shares in raw units, and the bandwidths that were tried."""
    raw = json.loads(record.to_json())
    raw["version"] = 1
    del raw["method"]["share_unit"]
    for side in ("lost", "gained"):
        method = raw["method"][side]
        del method["ties"], method["modality_ties"]
        method["sigma_tuning"] = [[0.25, 0.0123], [0.4, 0.0045]] if side == "lost" else []
    return json.dumps(raw)


def of_version_2(record: AuditRecord) -> str:
    """The same record as version 2 wrote it, without what there is to look at."""
    raw = json.loads(record.to_json())
    raw["version"] = 2
    for name in ("looks", "trend", "intended_use", "crosswalk"):
        del raw[name]
    del raw["data"]["n_repeated_captions"]
    for finding in raw["findings"]:
        for sample in [*finding["positive"]["samples"], *finding["negative"]["samples"]]:
            del sample["pick"]
    return json.dumps(raw)


def of_version_3(record: AuditRecord) -> str:
    """The same record as version 3 wrote it, whose confusions name no samples."""
    raw = json.loads(record.to_json())
    raw["version"] = 3
    for confusion in raw["looks"]["confusions"]:
        del confusion["places"]
    return json.dumps(raw, indent=2) + "\n"


def of_version_4(record: AuditRecord) -> str:
    """The same record as version 4 wrote it, which says neither who asked and was ranked nor what computed."""
    raw = json.loads(record.to_json())
    raw["version"] = 4
    del raw["metrics"]["asked"], raw["metrics"]["ranked"], raw["provenance"]["runner"], raw["provenance"]["workers"]
    return json.dumps(raw, indent=2) + "\n"
