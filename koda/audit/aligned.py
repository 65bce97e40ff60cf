"""What an audit knows of a model that koda fine-tuned: its record, and the samples that it has seen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koda.errors import DataError
from koda.models import ResolvedModel
from koda.records import RECORD_FILE, SEEN_FILE, AlignmentRecord, read_alignment, read_seen
from koda.storage.digests import digest_keys
from koda.typing import ROLES, Role


@dataclass(frozen=True)
class AlignedModel:
    """A model of an audit that koda fine-tuned after an audit.

    Args:
        role: of the model in this audit.
        path: of the record beside the weights.
        record: of the alignment.
        seen: keys of the samples that search, training and early stopping saw; None where no list of them lies
            beside the weights.
    """

    role: Role
    path: Path
    record: AlignmentRecord
    seen: frozenset[str] | None


def aligned_models(models: Mapping[Role, ResolvedModel]) -> tuple[AlignedModel, ...]:
    """Return the models that carry the record of an alignment which is of their weights, the candidate first.

    Raises:
        DataError: a list of seen samples that is not the record's.
    """
    found = []
    for role in reversed(ROLES):
        checkpoint = models[role].checkpoint
        if checkpoint is None or not (path := checkpoint.parent / RECORD_FILE).is_file():
            continue
        with contextlib.suppress(DataError):  # a file of that name that is not koda's
            record = read_alignment(path)
            if record.weights_digest == models[role].fingerprint.weights:
                found.append((role, path, record))
    return tuple(AlignedModel(role, path, record, _seen(path.parent, record)) for role, path, record in found)


def _seen(folder: Path, record: AlignmentRecord) -> frozenset[str] | None:
    """Read the list beside the weights; a copy of the model may lack it, and an older koda wrote none."""
    path = folder / SEEN_FILE
    if record.split.seen_digest is None or not path.is_file():
        return None
    seen = read_seen(path).seen
    if digest_keys(seen) != record.split.seen_digest:
        raise DataError(
            f"{path} is not the list of samples of {record.id}: its digest is another.",
            "Copy the file from the folder of the alignment, where koda align left the model, or align again.",
        )
    return frozenset(seen)
