"""Prefect flows and the command line.

What Prefect, torch and numpy read when they are imported is settled by the import of this package.
"""

from __future__ import annotations

from flows.environment import settle

settle()
