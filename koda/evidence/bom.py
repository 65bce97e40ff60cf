"""A bill of materials of an audit, in CycloneDX: both models, the data and the software, as the record states them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from koda._version import __version__
from koda.audit.folders import SIGNED
from koda.errors import DataError, reason_of
from koda.evidence.keys import lacking
from koda.evidence.result import Evidence
from koda.records import AuditRecord, ModelRecord
from koda.records.metrics import Estimate
from koda.typing import ROLES, Role

BOM = f"{SIGNED}/bom.cdx.json"
_LIBRARY = "cyclonedx-python-lib"
_AUDIT, _DATA = "audit", "data"


def check_bom(folder: Path, data: bytes, record: AuditRecord) -> Evidence:
    """Make the bill of materials again from the record, and compare it with the one that is there.

    Args:
        folder: of the audit.
        data: bytes of its `audit.json`.
        record: what they hold.
    """
    what, path = "made again from the record", folder / BOM
    if not path.is_file():
        why = "there is none: the audit is not signed, an older koda signed it, or the record gives none"
        return Evidence(BOM, what, "not verified", why)
    if (lacks := lacking("cyclonedx")) is not None:
        return Evidence(BOM, what, "not verified", lacks)
    try:
        wanted = bom_of(data, record)
    except DataError as error:
        return Evidence(BOM, what, "FAILED", error.message)
    try:
        there = path.read_bytes()
    except OSError as error:
        return Evidence(BOM, what, "FAILED", f"it cannot be read: {reason_of(error)}")
    if there == wanted:
        return Evidence(BOM, what, "verified", "byte for byte the same")
    if (writer := _writer(there)) not in (None, _tools()):
        why = f"{writer} wrote it, which may write it otherwise than {_tools()}, which is installed"
        return Evidence(BOM, what, "not verified", why)
    return Evidence(BOM, what, "FAILED", "it is not the one that the record gives; one of the two was changed")


def bom_of(data: bytes, record: AuditRecord) -> bytes:
    """Return the bill of materials of a record: the same bytes for the same record, koda and library.

    Args:
        data: bytes of `audit.json`.
        record: what they hold.

    Raises:
        DataError: a record of which the format takes something not, such as a package without a name.
    """
    from cyclonedx.exception import CycloneDxException

    try:
        return _bom_of(data, record)
    except (ValueError, TypeError, CycloneDxException) as error:
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise DataError(f"The record gives no bill of materials: {why}.") from error


def _bom_of(data: bytes, record: AuditRecord) -> bytes:
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot6

    digest = hashlib.sha256(data).hexdigest()
    audit = Component(
        name=record.id,
        type=ComponentType.APPLICATION,
        bom_ref=_AUDIT,
        description=record.title,
        properties=_properties({"record_sha256": digest, "verdict": record.verdict.status}),
    )
    tools = [
        Component(name="koda-audit", version=__version__, type=ComponentType.APPLICATION, bom_ref="tool koda-audit"),
        Component(name=_LIBRARY, version=version(_LIBRARY), bom_ref=f"tool {_LIBRARY}"),
    ]
    bom = Bom(
        serial_number=uuid5(NAMESPACE_URL, f"koda:{digest}"),
        metadata=BomMetaData(timestamp=record.ended, component=audit, tools=ToolRepository(components=tools)),
        components=[*(_model(role, getattr(record, role)) for role in ROLES), _data(record), *_software(record)],
    )
    bom.register_dependency(audit, list(bom.components))
    raw = json.loads(JsonV1Dot6(bom).output_as_string())
    for component in raw["components"]:  # the library has no model cards, which the format has
        if component["bom-ref"] in ROLES:
            component["modelCard"] = _card(record, component["bom-ref"])
    return json.dumps(raw, indent=2, sort_keys=True).encode() + b"\n"


def _model(role: Role, model: ModelRecord) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    # the digests are over tensors and settings, not over the bytes of files, so they are no hashes of the format
    stated = {
        "role": role,
        "name": model.name,
        "weights_file": model.weights_file,
        "weights_digest": model.weights_digest,
        "config_digest": model.config_digest,
        "fingerprint": model.fingerprint,
        "precision": model.precision,
        "source": model.source,
    }
    return Component(
        name=model.label,
        version=model.pretrained,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=role,
        licenses=_licences(model.licence),
        properties=_properties(stated),
    )


def _data(record: AuditRecord) -> Any:
    from cyclonedx.model.component import Component, ComponentType

    data = record.data
    stated = {"digest": data.digest, "samples": str(data.n_compared), "source": data.source, "sheet": data.datasheet}
    return Component(
        name=data.name,
        type=ComponentType.DATA,
        bom_ref=_DATA,
        licenses=_licences(data.licence),
        properties=_properties(stated),
    )


def _software(record: AuditRecord) -> Iterator[Any]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    made = record.provenance
    for name, number in {"koda-audit": made.koda_version, **made.packages}.items():
        yield Component(name=name, version=number, bom_ref=f"pkg {name}", purl=PackageURL("pypi", None, name, number))
    yield Component(name="python", version=made.python, bom_ref="python", type=ComponentType.PLATFORM)


def _card(record: AuditRecord, role: Role) -> dict[str, Any]:
    model = getattr(record, role)
    card: dict[str, Any] = {
        "modelParameters": {"modelArchitecture": model.architecture, "datasets": [{"ref": _DATA}]},
        "quantitativeAnalysis": {"performanceMetrics": list(_figures(record, role))},
    }
    if role == "candidate" and record.intended_use.purpose:
        card["considerations"] = {"useCases": [record.intended_use.purpose]}
    return card


def _figures(record: AuditRecord, role: Role) -> Iterator[dict[str, Any]]:
    """Give what the record says of a model over the whole set; of the candidate also what the policy looked at."""
    for recall in record.metrics.retrieval:
        if recall.role == role and str(recall.subset) == "all":
            yield from _estimates("image to text", recall.image_to_text)
            yield from _estimates("text to image", recall.text_to_image)
    for accuracy in record.metrics.zero_shot.accuracies if record.metrics.zero_shot else []:
        if accuracy.role == role and str(accuracy.subset) == "all":
            yield from _estimates("zero-shot", accuracy.top)
    for rule in record.verdict.rules if role == "candidate" else []:
        if rule.observed is not None:
            figure = _figure(f"{rule.figure} ({rule.result})", rule.observed)
            yield figure if rule.finding is None else {**figure, "slice": str(rule.finding)}


def _estimates(what: str, estimates: Mapping[str, Estimate]) -> Iterator[dict[str, Any]]:
    for name, estimate in estimates.items():
        yield _figure(f"{what} {name}", estimate)


def _figure(name: str, estimate: Estimate) -> dict[str, Any]:
    figure: dict[str, Any] = {"type": name, "value": str(estimate.value)}
    if estimate.low is not None and estimate.high is not None:
        figure["confidenceInterval"] = {"lowerBound": str(estimate.low), "upperBound": str(estimate.high)}
    return figure


def _properties(stated: Mapping[str, str | None]) -> list[Any]:
    from cyclonedx.model import Property

    return [Property(name=f"koda:{name}", value=value) for name, value in stated.items() if value is not None]


def _licences(licence: str | None) -> list[Any]:
    from cyclonedx.factory.license import LicenseFactory

    return [] if licence is None else [LicenseFactory().make_from_string(licence)]


def _tools() -> str:
    return f"koda-audit {__version__} with {_LIBRARY} {version(_LIBRARY)}"


def _writer(data: bytes) -> str | None:
    """Return what a bill of materials says that it was written with; None where it cannot be read."""
    try:
        tools = json.loads(data)["metadata"]["tools"]["components"]
        versions = {tool["name"]: tool["version"] for tool in tools}
        return f"koda-audit {versions['koda-audit']} with {_LIBRARY} {versions[_LIBRARY]}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
