"""Join two embedding tables by key, and set aside what no kernel can use."""

from __future__ import annotations

from koda.embeddings.rows import TableLike
from koda.errors import DataError

MIN_SAMPLES = 3  # samples under which no group and no rest can be told apart


def join_tables(
    target: TableLike, reference: TableLike, modalities: tuple[str, ...]
) -> tuple[TableLike, TableLike, dict[str, str]]:
    """Return both tables over the keys that both can use, in the target's order, and key -> reason for the rest.

    Raises:
        DataError: no common keys, or fewer than three usable samples.
    """
    ours, theirs = set(target.keys), set(reference.keys)
    common = ours & theirs
    if not common:
        raise DataError(
            f"The two tables have no key in common: the target has {target.n} keys such as {min(ours)!r}, "
            f"the reference {reference.n} such as {min(theirs)!r}.",
            "Use the same keys for the same samples under both models.",
        )
    rejected = dict.fromkeys(sorted(ours - theirs), "the reference model has no embedding of it")
    rejected |= dict.fromkeys(sorted(theirs - ours), "the target model has no embedding of it")
    for role, table in (("target", target), ("reference", reference)):
        for key, reason in table.only(modalities).invalid_rows().items():
            rejected.setdefault(key, f"{reason} ({role} model)")
    usable = common - rejected.keys()
    keys = [key for key in target.keys if key in usable]
    if len(keys) < MIN_SAMPLES:
        example = next((f"; {key!r}: {rejected[key]}" for key in sorted(common & rejected.keys())), "")
        raise DataError(
            f"{len(keys)} usable samples are left of {len(ours | theirs)}; at least {MIN_SAMPLES} are needed{example}.",
            "Compare the models on more samples (some hundreds at least for a finding that holds).",
        )
    return target.select(keys), reference.select(keys), rejected
