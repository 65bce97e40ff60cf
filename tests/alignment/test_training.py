"""Fine-tuning: it learns, it stops when it should, nothing bad is kept, and a killed run ends in the same weights."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from koda.alignment import KIND, AlignmentPlan, align, plan_alignment, read_alignment
from koda.alignment.saving import WEIGHTS
from koda.alignment.student import Student
from koda.alignment.training import BEST, STATE, Trained, train
from koda.audit.plan import AuditPlan
from koda.config import AlignmentConfig, AuditConfig
from koda.errors import ConfigError, TrainingError
from koda.models import ResolvedModel
from koda.models.weights import digest_state_dict, look_at_weights
from koda.records import RECORD_FILE, ValidationPoint

QUICK: dict[str, Any] = {
    "findings": (1,),
    "steps": 12,
    "batch_size": 48,
    "learning_rate": 1e-3,
    "evaluate_every": 4,
    "max_retrieval_drop": 1.0,
}


def planned(audit: AuditPlan, **changes: Any) -> AlignmentPlan:
    return plan_alignment(audit, AlignmentConfig(**{**QUICK, **changes}))


def trained(plan: AlignmentPlan, folder: Path, **options: Any) -> Trained:
    student = Student(plan.audit.models[plan.student], plan.towers, "cpu", plan.config.rank)
    return train(student, plan.task, folder, **options)


def weights(model: ResolvedModel) -> dict[str, torch.Tensor]:
    assert model.checkpoint is not None
    return {name: value.float() for name, value in load_file(model.checkpoint).items()}


def changed(result: Trained, model: ResolvedModel) -> set[str]:
    former = weights(model)
    assert set(result.weights) == set(former)
    return {name for name, value in result.weights.items() if not torch.equal(value, former[name])}


@pytest.mark.parametrize("kernel", ["polynomial", "cosine", "gaussian"])
def test_the_student_comes_nearer_to_its_teacher(audited: AuditPlan, tmp_path: Path, kernel: str) -> None:
    plan = planned(audited, kernel=kernel, steps=16)
    result = trained(plan, tmp_path)
    assert [look.step for look in result.looks] == [0, 4, 8, 12, 16]
    assert result.looks[0].agreement == pytest.approx(0, abs=1e-3), "the student as it was"
    best = max(result.looks, key=lambda look: look.agreement)
    assert best.agreement > 0.2
    assert result.kept_step == best.step
    assert result.stopped == "all steps were done"


def test_only_the_chosen_tower_is_trained(audited: AuditPlan, tmp_path: Path) -> None:
    model = audited.models["candidate"]
    image = changed(trained(planned(audited, towers="image"), tmp_path / "image"), model)
    text = changed(trained(planned(audited, towers="text"), tmp_path / "text"), model)
    assert image and all(name.startswith("visual.") for name in image)
    assert text and not any(name.startswith(("visual.", "logit_scale")) for name in text)


def test_low_rank_adapters_are_merged(audited: AuditPlan, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    result = trained(planned(audited, rank=2, learning_rate=5e-3), tmp_path)
    full = trained(planned(audited), tmp_path / "full")
    model = audited.models["candidate"]
    names, former = changed(result, model), weights(model)
    assert names, "something was learnt"
    for name in names:
        difference = result.weights[name] - former[name]
        assert difference.ndim == 2
        singular = torch.linalg.svdvals(difference)
        assert float(singular[2]) < 1e-4 * float(singular[0]), "of rank 2"
    assert result.n_trained < full.n_trained / 10
    assert result.looks[-1].agreement > 0.02


def test_bf16_and_gradients_added_up_train_too(audited: AuditPlan, tmp_path: Path) -> None:
    result = trained(planned(audited, precision="bf16", accumulate=2, batch_size=24, steps=8), tmp_path)
    assert result.looks[-1].agreement > 0.1
    assert all(value.dtype == torch.float32 for value in result.weights.values() if value.is_floating_point())


def test_a_fall_of_retrieval_stops_it_and_the_last_good_state_is_kept(audited: AuditPlan, tmp_path: Path) -> None:
    seen: list[ValidationPoint] = []
    plan = planned(audited, steps=60, learning_rate=0.02, max_retrieval_drop=0.05, keep_weight=0.0, patience=50)
    try:
        result = trained(plan, tmp_path, progress=lambda done, total, look: seen.append(look) if look else None)
    except TrainingError as error:
        assert "had fallen by" in str(error)
    else:
        assert "had fallen by" in result.stopped
        kept = next(look for look in result.looks if look.step == result.kept_step)
        assert seen[0].retrieval is not None and kept.retrieval is not None
        assert seen[0].retrieval - kept.retrieval <= 0.05
    assert seen[-1].step < 60
    assert seen[0].retrieval is not None and seen[-1].retrieval is not None
    assert seen[0].retrieval - seen[-1].retrieval > 0.05


def test_training_stops_when_the_agreement_no_longer_rises(audited: AuditPlan, tmp_path: Path) -> None:
    plan = planned(audited, steps=400, evaluate_every=8, patience=1, learning_rate=2e-3)
    result = trained(plan, tmp_path)
    assert "had not risen in 1 look" in result.stopped
    assert result.kept_step == result.looks[-2].step
    assert result.looks[-1].agreement < result.looks[-2].agreement


def test_a_loss_that_diverges_is_said_and_nothing_is_kept(audited: AuditPlan, tmp_path: Path) -> None:
    plan = planned(audited, learning_rate=1e30, warm_up=0)
    with pytest.raises(TrainingError, match=r"diverged: at step \d+(?s:.*)lower than 1e\+30"):
        align(plan)
    store = audited.artifacts
    assert not store.has(KIND, plan.key)
    assert not list(store.folder(KIND, plan.key).rglob("*.*"))


def test_a_student_that_comes_no_nearer_is_not_kept(audited: AuditPlan, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="brought candidate no nearer"):
        trained(planned(audited, max_retrieval_drop=0.0, learning_rate=0.3, warm_up=0, steps=4), tmp_path)
    assert not (tmp_path / STATE).exists() and not (tmp_path / BEST).exists()


def test_the_same_model_twice_has_nothing_to_learn(audited: AuditPlan, tmp_path: Path) -> None:
    from dataclasses import replace

    plan = planned(audited)
    task = replace(plan.task, teacher=plan.task.former, solution=_same_kernels(plan))
    student = Student(audited.models["candidate"], plan.towers, "cpu")
    with pytest.raises(TrainingError, match="nothing to learn"):
        train(student, task, tmp_path)


def _same_kernels(plan: AlignmentPlan) -> Any:
    from dataclasses import replace

    kernels = replace(plan.solution.kernels, target=plan.solution.kernels.reference)
    return replace(plan.solution, kernels=kernels)


def test_a_cross_term_needs_a_common_space(audited: AuditPlan, tmp_path: Path) -> None:
    from dataclasses import replace

    from koda.embeddings import EmbeddingTable

    plan = planned(audited, cross_weight=1.0)
    teacher = plan.task.teacher
    narrow = EmbeddingTable(teacher.keys, teacher.image, teacher.text[:, :8], teacher.metadata)  # type: ignore[index]
    student = Student(audited.models["candidate"], plan.towers, "cpu")
    with pytest.raises(ConfigError, match="of the teacher share no space"):
        train(student, replace(plan.task, teacher=narrow), tmp_path)
    unset = replace(plan.task, teacher=narrow, config=plan.config.model_copy(update={"cross_weight": None}))
    student = Student(audited.models["candidate"], plan.towers, "cpu")
    assert train(student, unset, tmp_path).looks[1].cross is None


def test_batch_normalisation_stays_as_it_was_trained(tmp_path: Path) -> None:
    import json

    from safetensors.torch import save_file

    from koda.config import ModelSpec
    from koda.models import resolve_model

    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    model = open_clip.model.CLIP(**json.loads(json.dumps(config)))
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    resolved = resolve_model(ModelSpec(name=f"local-dir:{tmp_path}", precision="fp32"), "cpu")
    student = Student(resolved, ("image",), "cpu")
    student.train_mode()
    found = student.embed(torch.randn(4, 3, 32, 32), ["a"] * 4)
    assert set(found) == {"image"} and found["image"].requires_grad
    for name, value in student.model.state_dict().items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(value, model.state_dict()[name]), name


def _work(settings: dict[str, Any], home: str, changes: dict[str, Any], pause: float) -> None:
    """Align in a process of its own, slowly enough to be killed in the middle."""
    torch.set_num_threads(1)
    from koda.audit.plan import prepare

    plan = planned(prepare(AuditConfig.model_validate(settings), Path(home)), **changes)
    align(plan, lambda done, total, look: time.sleep(pause))


def test_a_run_that_was_killed_ends_in_the_same_weights(audited: AuditPlan, tmp_path: Path) -> None:
    """SIGKILL at several moments; the digest is that of an undisturbed run with as many threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.alignment.test_training"])
    settings, home = audited.config.model_dump(mode="json"), str(audited.home)
    changes = {"seed": 5, "steps": 16}
    plan = planned(audited, **changes)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        undisturbed = digest_state_dict(trained(plan, tmp_path).weights)
    finally:
        torch.set_num_threads(threads)
    work = audited.artifacts.folder(KIND, plan.key)
    for step in (4, 8):
        process = context.Process(target=_work, args=(settings, home, changes, 0.1))
        process.start()
        deadline = time.monotonic() + 120
        while not _has_look(work / STATE, step):
            assert process.is_alive() and time.monotonic() < deadline, "no checkpoint came"
            time.sleep(0.02)
        time.sleep(0.13)  # into the steps after the checkpoint
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert not audited.artifacts.has(KIND, plan.key)
    process = context.Process(target=_work, args=(settings, home, changes, 0.0))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert look_at_weights(plan.folder / WEIGHTS).digest == undisturbed
    record = read_alignment(plan.folder / RECORD_FILE)
    assert record.weights_digest == undisturbed
    assert [look.step for look in record.looks] == [0, 4, 8, 12, 16]
    assert not (work / STATE).exists() and not (work / BEST).exists()


def _has_look(path: Path, step: int) -> bool:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception:  # it is being written
        return False
    return bool(state["step"] >= step)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_in_bf16_and_comes_as_near(audited: AuditPlan, tmp_path: Path) -> None:
    plan = planned(audited, steps=16)
    student = Student(audited.models["candidate"], plan.towers, "cuda")
    result = train(student, plan.task, tmp_path)
    reference = trained(plan, tmp_path / "cpu")
    assert result.looks[-1].agreement == pytest.approx(reference.looks[-1].agreement, abs=0.1)
    assert all(value.device.type == "cpu" for value in result.weights.values())
