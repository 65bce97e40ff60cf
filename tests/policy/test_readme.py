"""What the README says of policies is right."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from koda.config import PolicyRule, Waiver
from koda.policy import FIGURES, check_policy

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_figure() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in FIGURES if f"`{name}`" not in text] == []


def test_the_policies_in_the_readme_are_right() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    policies = [settings for block in blocks if "policy" in (settings := yaml.safe_load(block))]
    assert len(policies) >= 2
    for settings in policies:
        rules = [PolicyRule.model_validate(rule) for rule in settings["policy"]]
        check_policy(rules, [Waiver.model_validate(waiver) for waiver in settings.get("waivers", [])], searches=2)
