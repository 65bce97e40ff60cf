"""The split: every sample in one part, copies together, and none that was seen among those that confirm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from koda.audit.plan import prepare
from koda.audit.samples import load_samples
from koda.audit.split import confirmation_keys
from koda.config import AuditConfig
from koda.embeddings import EmbeddingTable
from koda.extraction import extract


def keys(n: int) -> list[str]:
    return [f"{row:03}" for row in range(n)]


def test_without_copies_it_is_a_draw_of_single_samples() -> None:
    names = keys(50)
    order = np.random.default_rng(3).permutation(50)
    assert confirmation_keys({name: name for name in names}, (), 25, 3) == sorted(names[row] for row in order[:25])
    unseen = names[10:]
    order = np.random.default_rng(3).permutation(40)
    drawn = confirmation_keys({name: name for name in names}, set(names[:10]), 25, 3)
    assert drawn == sorted(unseen[row] for row in order[:25])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(0, 5),
    st.sets(st.integers(0, 59)),
)
def test_copies_are_in_one_part_and_no_copy_of_a_seen_sample_confirms(
    labels: list[int], n: int, seed: int, seen: set[int]
) -> None:
    names = keys(len(labels))
    copies = {name: str(label) for name, label in zip(names, labels, strict=True)}
    before = {name for row, name in enumerate(names) if row in seen}
    drawn = confirmation_keys(copies, before, n, seed)
    assert len(drawn) == len(set(drawn)) <= n
    assert not {copies[key] for key in drawn} & {copies[key] for key in set(names) - set(drawn)}
    assert not {copies[key] for key in drawn} & {copies[key] for key in before}


def test_a_group_larger_than_the_part_stays_with_the_search() -> None:
    copies = dict.fromkeys(keys(30), "one") | {f"x{row}": f"x{row}" for row in range(10)}
    assert len(confirmation_keys(copies, (), 20, 0)) == 10


def test_of_stored_embeddings_those_that_both_models_see_alike_are_in_one_part(tmp_path: Path) -> None:
    """Every sample is there twice, and for the one model some four times, which makes no copies of them."""
    rng = np.random.default_rng(0)
    once = rng.normal(size=(2, 20, 4)).astype(np.float16)
    once[1, 10:] = once[1, :10]
    names = keys(40)
    specs = []
    for model, rows in zip(("old", "new"), once, strict=True):
        EmbeddingTable(names, image=np.concatenate([rows, rows])).save(tmp_path / model)
        specs.append({"name": f"embeddings:{tmp_path / model}"})
    settings = {
        "baseline": specs[0],
        "candidate": specs[1],
        "data": {"path": str(tmp_path / "old"), "format": "embeddings"},
        "discrepancy": {"modality": "image"},
    }
    plan = prepare(AuditConfig.model_validate(settings), tmp_path / "home")
    for model in plan.models.values():
        extract(plan.artifacts, plan.dataset, model)
    samples = load_samples(plan)
    held_out = {int(key) % 20 for key in samples.confirmation}
    assert len(samples.confirmation) == 20
    assert len(held_out) == 10
    assert held_out.isdisjoint(int(key) % 20 for key in samples.discovery)
    assert len({row % 10 for row in held_out}) > 5  # fours that stay together would be five
