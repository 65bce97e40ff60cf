"""The templates: where they are, and the Jinja environment that reads them."""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from koda import wording
from koda.errors import PrerequisiteError
from koda.report import cover, figures, text
from koda.report.map_plot import mark_icon

# templates call each of these by its own name
_FILTERS = (
    *(text.percent, text.measured, text.number, text.share, text.share_parts, text.plain, text.utc, text.digest),
    *(text.settings, text.shorten, text.rough, text.statistics, text.direction, text.limit, text.asked_for),
)
_FUNCTIONS = (
    text.plural,
    wording.agreeing,
    figures.figure_name,
    figures.rule_parts,
    figures.figure_limit,
    mark_icon,
    cover.weights,
)


def template_folder() -> Path:
    """Return the folder of the templates: inside the installed package, or beside it in a checkout.

    Raises:
        PrerequisiteError: neither is there, so the installation is incomplete.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_templates", package.parent / "templates"):
        if (folder / "report.html.j2").is_file():
            return folder
    raise PrerequisiteError(
        f"The report templates are missing: they are in neither {package / '_templates'} nor "
        f"{package.parent / 'templates'}.",
        "Install koda again: pip install --force-reinstall koda-audit",
    )


@lru_cache(maxsize=4)
def environment(folder: Path) -> Environment:
    """Return the environment: everything escaped, every string cleaned, unknown names an error."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters.update({function.__name__: function for function in _FILTERS}, sci=text.scientific, p=text.p_value)
    made.globals.update({function.__name__: function for function in _FUNCTIONS}, symbols=cover.SYMBOLS)
    return made


def style(folder: Path, target: str) -> str:
    """Return the style sheet of a target, html (with its fonts in it) or pdf."""
    names = ("report", "front", "findings", "screen" if target == "html" else "paper")
    sheets = "".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in names)
    return (_font_faces(folder) if target == "html" else "") + sheets


def script(folder: Path) -> str:
    """Return the script of the HTML report, without its indentation and comments."""
    lines = (line.strip() for line in (folder / "report.js").read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("/*"))


def policy(style_text: str, script_text: str) -> str:
    """Return a Content-Security-Policy that allows this style, this script, embedded data and nothing else."""
    return (
        f"default-src 'none'; style-src {_source(style_text)}; script-src {_source(script_text)}; img-src data:; "
        "font-src data:; base-uri 'none'; form-action 'none'"
    )


def configuration(config: dict[str, Any]) -> Markup:
    """Write the configuration as YAML, in its own order, for a preformatted block."""
    return escape(text.clean_block(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100).rstrip()))


def _finalize(value: Any) -> Any:
    """Clean what a template prints, unless it is markup of our own; None, which Jinja would spell out, is a dash."""
    if value is None:
        return text.NONE
    return text.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _source(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode('utf-8')).digest()).decode('ascii')}'"


def _font_faces(folder: Path) -> str:
    faces = []
    for name, weight in (("Regular", 400), ("SemiBold", 600), ("Bold", 700)):
        data = base64.b64encode((folder / "fonts" / f"Inter-{name}.subset.woff2").read_bytes()).decode("ascii")
        faces.append(
            f'@font-face{{font-family:"Inter";font-weight:{weight};font-style:normal;'
            f'src:url(data:font/woff2;base64,{data}) format("woff2")}}'
        )
    return "\n".join(faces) + "\n"
