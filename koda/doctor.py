"""What is installed, which device there is, and whether an audit can run and its PDF be made."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from koda._version import __version__
from koda.checks import Check, State
from koda.errors import KodaError, StoreError, WriteError
from koda.storage.places import check_place
from koda.storage.writing import nearest_existing
from koda.wording import counted

_NEEDED = ("torch", "open_clip_torch", "prefect", "duckdb", "jinja2", "weasyprint", "pyarrow", "fsspec")
_OPTIONAL = {  # package -> what it is for, and the command that installs it
    "transformers": ("tokenizers of SigLIP and other models from the hub", "pip install 'koda-audit[siglip]'"),
    "s3fs": ("data behind s3://", "pip install s3fs"),
    "gcsfs": ("data behind gs://", "pip install gcsfs"),
}
_LOW_DISK_BYTES = 2**30


def examine(home: Path, more: Sequence[Callable[[], list[Check]]] = ()) -> list[Check]:
    """Look at everything that an audit needs; nothing is downloaded.

    Args:
        home: KODA_HOME, where results are to lie.
        more: what looks at the rest that runs need beside this library.
    """
    checks = [_python()]
    steps: tuple[Callable[[], list[Check]], ...] = (
        _packages, _device, _decoding, _web_framework, *more, lambda: _home(home), lambda: _database(home), _pdf,
        _optional,
    )  # fmt: skip
    for step in steps:
        try:
            checks += step()
        except KodaError as error:
            checks.append(Check(step.__name__.strip("_"), "fault", error.message, error.remedy))
        except Exception as error:  # whatever it is, the others are still to be looked at
            first = (str(error).splitlines() or [""])[0]
            checks.append(Check(step.__name__.strip("_"), "fault", f"{type(error).__name__}: {first}"))
    return checks


def _python() -> Check:
    running, right = platform.python_version(), (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", "ok" if right else "fault", running, None if right else "Use Python 3.11 to 3.13.")


def _packages() -> list[Check]:
    installed, missing = [f"koda {__version__}"], []
    for name in _NEEDED:
        try:
            installed.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return [Check("packages", "fault", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")]
    return [Check("packages", "ok", ", ".join(installed))]


def _device() -> list[Check]:
    import torch

    checks = []
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            name = torch.cuda.get_device_name(number)
            checks.append(
                Check("GPU", "ok", f"cuda:{number}, {name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")
            )
    else:
        built = torch.version.cuda
        checks.append(Check("GPU", "note", f"none that torch can use (built for CUDA {built})" if built else "none"))
    kinds = {
        "AMX": "_is_amx_tile_supported", "AVX512 bf16": "_is_avx512_bf16_supported", "VNNI": "_is_vnni_supported",
    }  # fmt: skip
    quick = [name for name, test in kinds.items() if getattr(torch.cpu, test, lambda: False)()]
    processor = f"{counted(torch.get_num_threads(), 'thread')}, {torch.backends.cpu.get_cpu_capability()}"
    checks.append(Check("CPU", "ok", ", ".join([processor, *quick])))
    return checks


def _decoding() -> list[Check]:
    from PIL import features

    missing = [name for name in ("jpg", "webp") if not features.check(name)]
    if missing:
        return [Check("images", "note", f"Pillow lacks {', '.join(missing)}", "pip install --force-reinstall pillow")]
    return [Check("images", "ok", "JPEG, PNG and WebP are decoded")]


def _web_framework() -> list[Check]:
    import fastapi

    if tuple(int(part) for part in fastapi.__version__.split(".")[:2]) < (0, 151):
        return []
    return [Check("flows", "fault", f"fastapi {fastapi.__version__} stops every flow", "pip install 'fastapi<0.151'")]


def _home(home: Path) -> list[Check]:
    try:
        check_place(home)
    except WriteError as error:
        return [Check("KODA_HOME", "fault", error.message, "Set KODA_HOME to a folder of your own.")]
    free = shutil.disk_usage(nearest_existing(home)).free
    state: State = "ok" if free >= _LOW_DISK_BYTES else "note"
    remedy = None if state == "ok" else "Free some space or set KODA_HOME to a larger disk."
    return [Check("KODA_HOME", state, f"{home}, {free / 2**30:.1f} GiB free", remedy)]


def _database(home: Path) -> list[Check]:
    from koda.storage.database import AuditStore

    store = AuditStore(home)
    if not store.path.is_file():
        return [Check("database", "ok", f"{store.path} will be made by the first audit")]
    try:
        return [Check("database", "ok", f"{store.path}, {counted(len(store.list_audits()), 'audit')}")]
    except StoreError as error:  # it stops no audit
        return [Check("database", "note", error.message, error.remedy)]


def _pdf() -> list[Check]:
    from datetime import UTC, datetime

    from koda.report.environment import template_folder
    from koda.report.pdf import write_pdf

    try:
        pdf = write_pdf(
            '<html lang="en"><p>koda</p></html>', template_folder() / "fonts", b"{}", datetime(2026, 1, 1, tzinfo=UTC)
        )
    except KodaError as error:
        return [Check("PDF", "note", f"{error.message} Reports are HTML only", error.remedy)]
    return [Check("PDF", "ok", f"a page was made ({len(pdf)} bytes)")]


def _optional() -> list[Check]:
    checks = []
    for name, (purpose, command) in _OPTIONAL.items():
        try:
            checks.append(Check(name, "ok", f"{version(name)}, for {purpose}"))
        except PackageNotFoundError:
            checks.append(Check(name, "note", f"not installed; it is for {purpose}", command))
    return checks
