"""What people see of the settings that a configuration may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.terminal import console, escape, say

if TYPE_CHECKING:
    from koda.config.reference import Setting

_TITLES = {"audit": "An audit", "sweep": "A sweep, beside the sections of an audit"}


def show_settings(settings: Mapping[str, Sequence[Setting]]) -> None:
    """Show each key with its type and default, and under it what it means."""
    for name, part in settings.items():
        console.print(f"[bold]{_TITLES[name]}[/]")
        for setting in part:
            given = "required" if setting.required else f"default {setting.default}" if setting.default else "optional"
            say(f"[cyan]{escape(setting.key)}[/]: {escape(setting.type)}; {escape(given)}")
            say(escape(setting.meaning), 6)
