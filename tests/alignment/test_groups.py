"""Which samples train, steer and judge, and which batches are made of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from koda.alignment import plan_alignment
from koda.alignment.batches import Pictures, Sampler
from koda.alignment.groups import members_of
from koda.audit.plan import AuditPlan
from koda.config import AlignmentConfig
from koda.errors import ConfigError, DataError, ModelError
from koda.models import load_encoder
from koda.storage.digests import digest_keys
from tasks.plans import planned_alignment, running

FIRST = AlignmentConfig(findings=(1,))


def test_the_parts_are_disjoint_and_each_holds_slice_and_rest(audited: AuditPlan) -> None:
    plan = plan_alignment(audited, FIRST)
    split, inside = plan.split, members_of(plan.groups)
    train, validation, held_out = (set(part) for part in (split.train, split.validation, split.held_out))
    assert not train & validation and not train & held_out and not validation & held_out
    assert train | validation == set(plan.samples.discovery)
    assert held_out == set(plan.samples.confirmation)
    for part in (train, validation, held_out):
        assert part & inside and part - inside
    share = len(validation & inside) / len((train | validation) & inside)
    assert share == pytest.approx(0.2, abs=0.03)


def test_the_seed_decides_the_split_and_the_key(audited: AuditPlan) -> None:
    first, again, other = (plan_alignment(audited, FIRST.model_copy(update={"seed": seed})) for seed in (0, 0, 1))
    assert first.split == again.split and first.key == again.key
    assert first.split.train != other.split.train and first.key != other.key
    assert first.split.held_out == other.split.held_out


def test_the_step_of_an_alignment_has_the_plan_that_was_made_for_it(audited: AuditPlan) -> None:
    """It holds the embeddings of both models, which are not read again for the step, and not kept after it."""
    plan = plan_alignment(audited, FIRST)
    asked = (audited.settings, str(audited.home), FIRST.model_dump(mode="json"))
    with running(audited, plan):
        assert planned_alignment(*asked) is plan
        other = FIRST.model_copy(update={"seed": 1}).model_dump(mode="json")
        assert planned_alignment(*asked[:2], other).key != plan.key
    again = planned_alignment(*asked)
    assert again is not plan and again.key == plan.key


def test_the_first_group_is_the_heavier_lobe_and_the_teacher_has_the_lost(audited: AuditPlan) -> None:
    plan = plan_alignment(audited, FIRST)
    assert [str(group.subset) for group in plan.groups] == ["lost 1 positive", "lost 1 negative"]
    assert (plan.student, plan.teacher, plan.side) == ("candidate", "baseline", "lost")
    reverse = plan_alignment(audited, AlignmentConfig(findings=(1,), student="baseline"))
    assert (reverse.teacher, reverse.side, str(reverse.groups[0].subset)) == (
        "candidate",
        "gained",
        "gained 1 positive",
    )


def test_a_direction_that_was_not_found_is_named(audited: AuditPlan) -> None:
    with pytest.raises(ConfigError, match=r"no finding lost 7(?s:.*)lost 1, 2"):
        plan_alignment(audited, AlignmentConfig(findings=(7,)))


def test_without_a_confirmed_finding_there_is_nothing_to_learn(audited: AuditPlan) -> None:
    with pytest.raises(DataError, match="no slice to learn from: the audit confirmed no finding that was gained"):
        plan_alignment(audited, AlignmentConfig(student="baseline"))


def test_a_slice_too_small_to_be_split_says_how_small(audited: AuditPlan) -> None:
    from koda.alignment.groups import split_samples

    plan = plan_alignment(audited, FIRST)
    small = tuple(replace(group, members=frozenset(sorted(group.members)[:3])) for group in plan.groups)
    with pytest.raises(DataError, match=r"lost 1 is too small to be split: of its \d samples"):
        split_samples(plan.samples, small, FIRST)


def test_a_folder_of_embeddings_cannot_be_the_student(audited: AuditPlan) -> None:
    from koda.alignment.student import check_student

    model = audited.models["candidate"]
    for name, kind in (("embeddings:x", "folder of embeddings"), ("timm:resnet18", "timm"), ("python:a:b", "own code")):
        with pytest.raises(ModelError, match=kind):
            check_student(replace(model, spec=model.spec.model_copy(update={"name": name})))


def test_settings_that_teach_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing would be learnt"):
        AlignmentConfig(kernel_weight=0, cross_weight=0)
    with pytest.raises(ValueError, match="twice"):
        AlignmentConfig(findings=(1, 1))


def test_a_batch_mixes_slices_and_others_without_repeats() -> None:
    sampler = Sampler([f"s{i:02d}" for i in range(30)], [f"o{i:02d}" for i in range(50)], 16, 0.25, seed=3)
    batches = [sampler.batch(number) for number in range(20)]
    for batch in batches:
        assert len(set(batch)) == 16
        assert sum(key.startswith("s") for key in batch) == 4
    assert batches == [sampler.batch(number) for number in range(20)], "a batch depends on its number alone"
    assert len({tuple(batch) for batch in batches}) == 20
    assert len({key for batch in batches for key in batch if key.startswith("s")}) > 20


@pytest.mark.parametrize(("n_slices", "n_others", "size"), [(2, 50, 7), (30, 3, 8), (30, 0, 5), (1, 1, 2)])
def test_small_pools_make_small_batches(n_slices: int, n_others: int, size: int) -> None:
    sampler = Sampler([f"s{i}" for i in range(n_slices)], [f"o{i}" for i in range(n_others)], 10, 0.5, seed=0)
    batch = sampler.batch(0)
    assert len(batch) == size == len(set(batch))


def test_pictures_that_cannot_be_read_are_noted_and_left_out(audited: AuditPlan) -> None:
    pairs = {pair.key: pair for pair in audited.dataset.pairs[:6]}
    keys = sorted(pairs)
    pairs[keys[2]] = replace(pairs[keys[2]], image_digest="0" * 64)
    with Pictures(load_encoder(audited.models["candidate"], "cpu"), pairs) as pictures:
        (usable, pixels), (again, same) = pictures.batches(iter([keys, keys]))
        assert usable == again == [key for key in keys if key != keys[2]]
        assert pixels.shape == (5, 3, 48, 48) and bool((pixels == same).all())
        assert "changed" in pictures.unreadable[keys[2]]
        with pytest.raises(DataError, match="No picture of a batch of 1 can be read"):
            list(pictures.batches(iter([[keys[2]]])))


def test_the_digest_of_keys_does_not_depend_on_their_order() -> None:
    assert digest_keys(["b", "a"]) == digest_keys(("a", "b")) != digest_keys(["ab"])
