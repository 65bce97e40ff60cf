"""Records that are damaged, or something else."""

from __future__ import annotations

import pytest

from koda.errors import DataError
from koda.records import AuditRecord


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]", b"{}", b'{"version": "2"}'])
def test_what_is_no_record_is_refused_with_the_file_and_a_remedy(text: bytes) -> None:
    with pytest.raises(DataError, match=r"(?s)here/audit\.json is not .*what wrote it can write it again"):
        AuditRecord.from_json(text, "here/audit.json")
