"""The audit flow, called from Python more than once."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from pathlib import Path

from prefect.settings import get_current_settings

from flows.audit import audit
from koda.audit.plan import prepare
from koda.config import load_config
from tests.flows.workplace import make_workplace
from tests.tiny import write_tiny_model


class Touch:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_each_call_answers_for_the_models_as_they_are_then(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    config = load_config(place.config)
    settings, home = config.model_dump(mode="json"), str(place.home)
    first = audit(settings, home)
    plan = prepare(config, place.home)

    storage = get_current_settings().results.local_storage_path
    marker = tmp_path / "it was unpickled"
    records = [path for step in plan.steps() for path in storage.glob(f"*{step.key}")]
    assert len(records) == len(plan.steps())
    for path in records:
        record = json.loads(path.read_bytes())
        record["metadata"]["serializer"] = {"type": "pickle", "picklelib": "pickle"}
        record["result"] = base64.b64encode(pickle.dumps(Touch(marker))).decode()
        path.write_text(json.dumps(record), encoding="utf-8")
    again = audit(settings, home)
    assert (again["id"], again["steps_executed"]) == (first["id"], 0)
    assert not marker.exists()

    shutil.rmtree(tmp_path / "new")
    write_tiny_model(tmp_path / "new", 7)
    replaced = audit(settings, home)
    assert replaced["id"] != first["id"]
    assert [step["name"] for step in replaced["steps"] if not step["executed"]] == ["embed baseline"]
