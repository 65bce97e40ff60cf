"""What koda knows of a checkpoint that it watches: an entry of the ledger of checkpoints."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from koda.records.base import Record, parse_record

CHECKPOINT_VERSION = 1
State = Literal["ready", "auditing", "audited", "refused", "failed", "gone"]
#: of what follows from a state; `begun` is left by a process that was killed meanwhile
FollowUp = Literal["none", "due", "begun", "done", "failed"]


class CheckpointEntry(Record):
    """One checkpoint against one baseline on one data set, wherever it lies and whatever it is called there.

    States: `ready` to be audited; `auditing`; `audited`, with its audit and verdict; `refused`, it cannot be loaded;
    `failed`, its audit could not be run; `gone` before it was audited.
    """

    version: int = CHECKPOINT_VERSION
    id: str = Field(description="digest of `digest` and `line`")
    digest: str = Field(description="of what it is: weights, architecture and preprocessing; of its bytes if refused")
    line: str = Field(description="digest of the sections baseline and data that it is audited with")
    paths: tuple[str, ...] = Field(min_length=1, description="where it was seen, the latest last")
    label: str = Field(description="the candidate's name in reports")
    first_seen: datetime
    changed: datetime = Field(description="when the state became what it is")
    state: State
    attempts: int = Field(default=0, description="audits of it that were begun")
    failures: int = Field(default=0, description="of these and this configuration, how many failed")
    retry_at: datetime | None = Field(default=None, description="of one that failed; None where it is not tried again")
    settings: str | None = Field(default=None, description="digest of the configuration that the failures are of")
    weights: str | None = Field(default=None, description="digest of its weights, by which its audit is known")
    audit_id: str | None = Field(default=None, description="noted before the audit begins")
    verdict: str | None = None
    reason: str | None = Field(default=None, description="why it is refused, failed or gone, or what its hook met")
    left_off: str | None = Field(default=None, description="id of an audit that was begun before it was gone")
    pattern: str | None = Field(default=None, description="digest of watch.path of the configuration that took it up")
    targets: str | None = Field(
        default=None, description="digest of that, and of whom it tells: what is due is due there"
    )
    told: FollowUp = Field(default="none", description="notification")
    promoted: FollowUp = Field(default="none", description="promotion")

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> CheckpointEntry:
        """Read an entry.

        Raises:
            DataError: it is none, or one of a newer koda.
        """
        return parse_record(
            cls, text, where, "an entry of the ledger of checkpoints", "a valid entry", CHECKPOINT_VERSION
        )
