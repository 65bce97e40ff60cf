"""What is refused before any work begins, and the steps that are planned."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import tasks.plans
from koda.audit.crosswalk import shipped_crosswalk
from koda.audit.plan import AuditPlan, prepare
from koda.config import AuditConfig
from koda.errors import ConfigError, ModelError
from tests.tiny import write_tiny_model

SOURCES = {
    "image": "def make():\n    return lambda images: images.flatten(1)",
    "text": """
        import torch

        class make:
            def encode_text(self, captions):
                return torch.ones(len(captions), 2)
        """,
}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, dict[str, object]]:
    """Return the settings of a model of both modalities, of images only and of text only."""
    found: dict[str, dict[str, object]] = {"both": {"name": f"local-dir:{write_tiny_model(tmp_path / 'tiny', seed=0)}"}}
    for name, source in SOURCES.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
        found[name] = {"name": f"python:{tmp_path / name}.py:make"}
    found["image"] |= {"image_size": 8, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return found


def config(path: Path, baseline: object, candidate: object, modality: str) -> AuditConfig:
    settings = {"modality": modality, "device": "cpu"}
    return AuditConfig.model_validate(
        {"baseline": baseline, "candidate": candidate, "data": {"path": str(path)}, "discrepancy": settings}
    )


@pytest.mark.parametrize(
    ("baseline", "candidate", "modality", "words"),
    [
        ("both", "image", "joint", r"(?s)candidate image\.py:make has no text embeddings.*modality: image\."),
        ("text", "both", "joint", r"(?s)baseline text\.py:make has no image embeddings.*modality: text\."),
        ("both", "text", "image", r"(?s)has no image embeddings.*modality: text\."),
        ("image", "text", "image", r"(?s)has no image embeddings.*a model that has the same"),
    ],
)
def test_a_modality_that_a_model_lacks_is_refused(
    models: dict[str, dict[str, object]],
    pairs_folder: Callable[..., Path],
    tmp_path: Path,
    baseline: str,
    candidate: str,
    modality: str,
    words: str,
) -> None:
    with pytest.raises(ModelError, match=words):
        prepare(config(pairs_folder(8), models[baseline], models[candidate], modality), tmp_path / "home")


def test_models_that_share_a_modality_are_compared_in_it(
    models: dict[str, dict[str, object]], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    plan = prepare(config(pairs_folder(8), models["both"], models["image"], "image"), tmp_path / "home")
    assert plan.models["candidate"].modalities == ("image",)
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").glob("artifacts/*"))


def test_the_steps_are_known_in_order_before_any_runs(
    models: dict[str, dict[str, object]], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = pairs_folder(8)
    plan = prepare(config(data, models["both"], models["image"], "image"), tmp_path / "home")
    assert [(step.name, step.kind, step.key) for step in plan.steps()] == [
        ("embed baseline", "embeddings", plan.embedding_key("baseline")),
        ("embed candidate", "embeddings", plan.embedding_key("candidate")),
        ("discover lost", "solutions", plan.solution_key("lost")),
        ("discover gained", "solutions", plan.solution_key("gained")),
        ("control", "controls", plan.control_key),
        ("evaluate", "evaluations", plan.evaluation_key),
        ("record", "records", plan.record_key),
        ("render", "reports", plan.report_key),
    ]
    same = prepare(config(data, models["both"], models["both"], "image"), tmp_path / "home")
    assert [step.name for step in same.steps()] == ["embed baseline", *(step.name for step in plan.steps()[2:])]


def test_a_flow_takes_the_plan_that_was_made_for_it_once_and_its_steps_have_it(
    models: dict[str, dict[str, object]],
    pairs_folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    wanted = config(pairs_folder(8), models["both"], models["image"], "image")
    plan = tasks.plans.hand_over(prepare(wanted, home))
    as_json, brief = wanted.settings(), wanted.model_dump(mode="json", exclude_unset=True)
    with monkeypatch.context() as patched:
        patched.setattr(tasks.plans, "prepare", None)  # nothing is prepared a second time
        assert tasks.plans.take_over(brief, str(home)) is plan
        with tasks.plans.running(plan):
            assert tasks.plans.planned(brief, str(home)) is plan
            patched.setattr(tasks.plans, "AuditConfig", None)  # it is not even checked again
            assert tasks.plans.planned(as_json, str(home)) is plan
    assert tasks.plans.take_over(as_json, str(home)) is not plan
    tasks.plans.hand_over(plan)
    assert tasks.plans.take_over(as_json, str(tmp_path / "elsewhere")) is not plan
    assert tasks.plans.planned(as_json, str(home)) is not plan


def test_flows_in_two_threads_do_not_take_each_others_plans(
    models: dict[str, dict[str, object]], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    wanted = config(pairs_folder(8), models["both"], models["image"], "image")
    plans = [prepare(wanted, tmp_path / name) for name in ("one", "two")]
    both_run = threading.Barrier(2)

    def run(plan: AuditPlan) -> bool:
        tasks.plans.hand_over(plan)
        both_run.wait(10)
        taken = tasks.plans.take_over(plan.settings, str(plan.home))
        with tasks.plans.running(taken):
            both_run.wait(10)
            return taken is plan and tasks.plans.planned(plan.settings, str(plan.home)) is plan

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, plans)) == [True, True]


def _moved(models: dict[str, dict[str, object]], data: Path, place: Path) -> tuple[dict[str, dict[str, object]], Path]:
    """Copy two models and a data set, and return the settings of the copies and the table."""
    shutil.copytree(data.parent, place / "pairs")
    shutil.copytree(Path(str(models["both"]["name"]).removeprefix("local-dir:")), place / "tiny")
    shutil.copyfile(place.parent / "image.py", place / "image.py")
    named = {"both": f"local-dir:{place / 'tiny'}", "image": f"python:{place / 'image.py'}:make"}
    return {kind: {**models[kind], "name": name} for kind, name in named.items()}, place / "pairs" / data.name


def test_an_audit_has_one_id_wherever_its_models_its_data_and_its_home_lie(
    models: dict[str, dict[str, object]], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    data = pairs_folder(8)
    here = prepare(config(data, models["both"], models["image"], "image"), tmp_path / "home")
    moved, table = _moved(models, data, tmp_path / "elsewhere")
    there = prepare(config(table, moved["both"], moved["image"], "image"), tmp_path / "other")
    assert here.audit_id == there.audit_id
    assert here.record_key != there.record_key  # the record says where they lie
    table.write_text(table.read_text(encoding="utf-8") + "gone.png\tno picture\n", encoding="utf-8")
    more = prepare(config(table, moved["both"], moved["image"], "image"), tmp_path / "other")
    assert more.dataset.digest == here.dataset.digest
    assert more.audit_id != here.audit_id  # one more row was left out
    licensed = {**moved["image"], "source": "https://example.org/image"}
    sourced = prepare(config(table, moved["both"], licensed, "image"), tmp_path / "other")
    assert sourced.audit_id != more.audit_id


def test_a_crosswalk_is_part_of_the_audit_by_its_content(
    models: dict[str, dict[str, object]], pairs_folder: Callable[..., Path], tmp_path: Path
) -> None:
    wanted = config(pairs_folder(8), models["both"], models["image"], "image")
    plain = prepare(wanted, tmp_path / "home")

    def with_file(name: str, text: str) -> AuditPlan:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        report = wanted.report.model_copy(update={"crosswalk": str(path)})
        return prepare(wanted.model_copy(update={"report": report}), tmp_path / "home")

    shipped = shipped_crosswalk().read_text(encoding="utf-8")
    copied, edited = with_file("copy.yaml", shipped), with_file("ours.yaml", shipped.replace("product team", "the lab"))
    assert copied.audit_id == plain.audit_id != edited.audit_id
    assert edited.record_key != copied.record_key and edited.evaluation_key == plain.evaluation_key
    with pytest.raises(ConfigError, match=r"ours\.yaml, line 1: title"):
        with_file("ours.yaml", "title: []\nas_of: 2026-11-01\nrows: []\n")
    (tmp_path / "copy.yaml").unlink()
    with pytest.raises(ConfigError, match=r"copy\.yaml"):
        prepare(copied.config, tmp_path / "home")
    assert prepare(copied.config, tmp_path / "home", reads_only=True).evaluation_key == plain.evaluation_key


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="where there may be a GPU, torch is asked for it")
def test_a_plan_is_made_without_torch(tmp_path: Path) -> None:
    """An audit whose steps are all there has nothing to compute, and torch takes over a second to load."""
    model = write_tiny_model(tmp_path / "tiny", seed=0)
    data = tmp_path / "pairs"
    data.mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(f"red {number}", encoding="utf-8")
    code = f"""
import sys
from pathlib import Path
from koda.audit.plan import prepare
from koda.config import AuditConfig
model = {{"name": {f"local-dir:{model}"!r}, "precision": "fp32"}}
plan = prepare(AuditConfig(baseline=model, candidate=model, data={{"path": {str(data)!r}}}), Path({str(tmp_path)!r}))
print(len(plan.needs()), "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.split()[1:] == ["False"], done.stderr
