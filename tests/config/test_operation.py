"""The sections that say what koda does by itself: checked like all others, and no part of the audit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from koda.config import load_config
from koda.errors import ConfigError

BASE: dict[str, Any] = {
    "baseline": {"name": "local-dir:a"},
    "candidate": {"name": "local-dir:b"},
    "data": {"path": "p.tsv"},
}
WHOLE: dict[str, Any] = {
    "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"},
    "watch": {"path": "runs/*/epoch_*.pt", "every": 5, "settle": 3, "as": {"name": "ViT-B-32", "precision": "fp32"}},
    "notify": [{"url": "json://${HOOK}", "on": ["fail", "error"]}],
    "promote": {"on": ["pass"], "write": "promoted.json", "run": ["./deploy.sh", "{checkpoint}", "{report}"]},
    "limits": {"minutes": 120},
}


def write(folder: Path, **sections: Any) -> Path:
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump({**BASE, **sections}), encoding="utf-8")
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, **WHOLE))
    assert config.watch and config.watch.path == str(tmp_path / "runs/*/epoch_*.pt")
    assert config.promote and config.promote.write == str(tmp_path / "promoted.json")
    assert config.promote.run == (str(tmp_path / "deploy.sh"), "{checkpoint}", "{report}")
    assert config.watch.as_ and config.watch.as_.precision == "fp32"


def test_a_url_of_checkpoints_and_a_program_on_the_path_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path, watch={"path": "s3://bucket/*.pt"}, promote={"run": ["deploy", "{verdict}"]})
    config = load_config(path)
    assert config.watch and config.watch.path == "s3://bucket/*.pt"
    assert config.promote and config.promote.run[0] == "deploy"


def test_an_audit_is_the_same_whatever_follows_from_it(tmp_path: Path) -> None:
    plain = load_config(write(tmp_path))
    whole = load_config(write(tmp_path, **WHOLE))
    assert whole.settings() == plain.settings()
    assert whole.audited() == plain.audited() == plain
    assert "HOOK" not in str(whole.settings())


def test_folders_need_no_name(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, watch={"path": "runs/*", "as": {"precision": "fp32"}}))
    assert config.watch and config.watch.as_ and config.watch.as_.kind == "local-dir"


def test_a_candidate_may_be_missing_where_checkpoints_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in BASE.items() if k != "candidate"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="'candidate' is missing"):
        load_config(path)
    assert load_config(path, without_candidate=True).baseline.kind == "local-dir"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"schedule": {"cron": "0 25 * * *"}}, "cron expression"),
        ({"schedule": {"cron": "0 3 * * *", "timezone": "Berlin"}}, "time zone"),
        ({"watch": {"path": "x", "as": {"nam": "ViT"}}}, "'name'"),
        ({"watch": {"path": "x", "as": {"name": "ViT-B-32", "pretrained": "y.pt"}}}, "leave it out"),
        ({"watch": {"pth": "x"}}, "'path'"),
        ({"notify": [{"url": "json://x", "on": ["never"]}]}, "notify.0.on"),
        ({"notify": [{"url": "json://x", "on": "fail"}]}, "it is a list: write on: [fail]"),
        ({"promote": {"on": "pass", "write": "x"}}, "it is a list: write on: [pass]"),
        ({"promote": {"on": ["pass"]}}, "which file to write"),
        ({"promote": {"run": ["x", "{chekpoint}"]}}, "{checkpoint}"),
        ({"limits": {"minutes": 0}}, "limits.minutes"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(write(tmp_path, **section))
    assert said in str(raised.value)


def test_the_examples_of_the_documents_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    root = Path(__file__).resolve().parents[2]
    for page in ("README.md", "docs/operations.md"):
        blocks = re.findall(r"```yaml\n(.*?)```", (root / page).read_text(encoding="utf-8"), re.S)
        shown = [block for block in blocks if re.search("^(notify|promote|watch|schedule):", block, re.M)]
        assert shown, page
        for block in shown:
            path.write_text(yaml.safe_dump(BASE) + block, encoding="utf-8")
            config = load_config(path)
            assert config.promote is None or config.promote.on == ("pass",)
            assert all(target.on for target in config.notify)


def test_words_that_old_yaml_takes_for_truth_stay_words(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    text = yaml.safe_dump(BASE) + "notify: [{url: 'json://x', on: [fail]}]\nreport: {pdf: no}\n"
    path.write_text(text + "zero_shot: {classes: [yes, no], label_column: said}\n", encoding="utf-8")
    config = load_config(path)
    assert config.notify[0].on == ("fail",)
    assert config.report.pdf is False
    assert config.zero_shot is not None and config.zero_shot.classes == ("yes", "no")
