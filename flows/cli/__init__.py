"""The `koda` command."""

from __future__ import annotations

from flows.cli.app import app, main

__all__ = ["app", "main"]
