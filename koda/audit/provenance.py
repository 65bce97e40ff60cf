"""Provenance: what made a record. Software, hardware, code, and the settings that decide determinism."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from koda._version import __version__
from koda.parallel import note_of_current
from koda.storage import digest_file, digest_json
from koda.wording import counted

_PACKAGES = (
    "torch",
    "open_clip_torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "safetensors",
    "prefect",
    "duckdb",
    "jinja2",
    "weasyprint",
)


def describe_software() -> dict[str, Any]:
    """Return koda's version and code digest, Python, the platform and the packages that matter."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "koda_version": __version__,
        "code_digest": code_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        **_commit(),
    }


def describe_runner() -> dict[str, Any]:
    """Return what computes the parts of the run that goes on, and by how many workers."""
    note = note_of_current()
    return {"runner": note.kind, "workers": note.workers if note.kind != "threads" else None}


def describe_hardware(device: str) -> dict[str, Any]:
    """Return the device, processor, threads and determinism flags of this process."""
    import torch

    name = torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"
    return {
        "device": device if name == "cpu" else f"{device} ({name})",
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "determinism": {
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "openblas_num_threads": os.environ.get("OPENBLAS_NUM_THREADS"),
        },
    }


@cache
def code_digest() -> str:
    """Return the digest of koda's own source files, installed or in a checkout."""
    root = Path(__file__).resolve().parents[2]
    files = [path for part in ("koda", "tasks", "flows") for path in (root / part).rglob("*.py")]
    return digest_json({path.relative_to(root).as_posix(): digest_file(path) for path in sorted(files)})


def _commit() -> dict[str, Any]:
    """The commit of the checkout that koda runs from, if it runs from one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
        )
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {counted(len(names), 'core')}" if names else platform.machine()
