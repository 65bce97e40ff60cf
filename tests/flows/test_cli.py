"""The command itself: what it imports, its help, its errors."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_koda_loads_neither_torch_nor_prefect() -> None:
    heavy = "{'torch', 'prefect', 'open_clip', 'duckdb', 'weasyprint', 'matplotlib', 'sklearn'}"
    assert python(f"import koda, sys; print(sorted({heavy} & set(sys.modules)))") == "[]\n"
    assert python(f"import flows.cli, sys; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


def test_what_is_stored_is_read_without_torch() -> None:
    code = "import koda.audit.history, koda.audit.plan, sys; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    assert python(code) == "set()\n"


def test_every_public_name_is_there() -> None:
    names = "all(getattr(koda, name) is not None for name in koda.__all__)"
    assert python(f"import koda, koda.slicing.slices; print({names}, callable(koda.slices))") == "True True\n"


def test_help_names_the_commands() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("audit", "demo", "history", "show"):
        assert command in result.output


@pytest.mark.parametrize("arguments", [["audit"], ["nonsense"], ["audit", "a.yaml", "--no-such-option"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_a_missing_file_is_said_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(tmp_path / "no.yaml")])
    assert result.exit_code == 2
    assert "There is no configuration file" in result.stderr
    assert result.stdout == ""


def test_an_unknown_demo_pair_is_refused() -> None:
    result = CliRunner().invoke(app, ["demo", "--pair", "sef"])
    assert result.exit_code == 2
    assert "regressed, colour, self" in result.stderr


def test_history_without_audits(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["history"])
    assert result.exit_code == 0
    assert "no audit yet" in result.stderr
    assert CliRunner().invoke(app, ["show", "audit-123"]).exit_code == 2


def test_whatever_says_how_to_install_koda_names_its_distribution() -> None:
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == "koda-audit"
    said = [*root.glob("*.md"), *(root / "docs").glob("*.md"), *(root / "koda").rglob("*.py")]
    for file in said:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"\bkoda\[|install (--\S+ )*'?koda(?!-audit)\b", text), file
        for extra in re.findall(r"koda-audit\[(\w+)\]", text):
            assert extra in project["optional-dependencies"], file
