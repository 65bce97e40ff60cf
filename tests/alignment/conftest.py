"""A small audit of the demonstration models, its steps done, for everything that learns from one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from koda.audit.evaluation import evaluate
from koda.audit.plan import AuditPlan, prepare
from koda.audit.solutions import discover
from koda.config import AuditConfig
from koda.demo import model_path, write_data
from koda.extraction import extract
from koda.typing import Role
from tests.once import made_once

N = 700


def demo_settings(home: Path, candidate: str = "candidate", **changes: object) -> dict[str, object]:
    """Return the settings of a small audit of two of the demonstration models."""
    write_data(home / "scenes", n=N)
    return {
        "baseline": {"name": f"local-dir:{model_path('baseline')}", "precision": "fp32"},
        "candidate": {"name": f"local-dir:{model_path(candidate)}", "precision": "fp32"},
        "data": {"path": str(home / "scenes" / "pairs.tsv")},
        "discrepancy": {"n_directions": 2, "device": "cpu"},
        "significance": {"stability": 0},
        "zero_shot": {"column": "colour", "templates": ["a {} circle"]},
        "report": {"pdf": False},
        **changes,
    }


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> AuditPlan:
    """Return the plan of an audit that has been carried out, in a home of the module's own."""
    done = made_once(tmp_path_factory, "audited", _audit)
    home = Path(shutil.copytree(done, tmp_path_factory.mktemp("audited") / "home"))
    return _plan(home)


def _audit(home: Path) -> None:
    plan = _plan(home)
    roles: tuple[Role, ...] = ("baseline", "candidate")
    for role in roles:
        extract(plan.artifacts, plan.dataset, plan.models[role], device="cpu")
    discover(plan, "lost")
    discover(plan, "gained")
    evaluate(plan)


def _plan(home: Path) -> AuditPlan:
    return prepare(AuditConfig.model_validate(demo_settings(home)), home)
