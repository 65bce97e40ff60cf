"""The page over all audits: one file that holds all it shows, with links to the reports."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from koda.errors import ConfigError
from koda.report import environment
from koda.site.audits import SeenAudit, seen_audits
from koda.site.reading import HEADLINES
from koda.storage import write_atomically
from koda.wording import counted, one_line

INDEX = "index.html"
_TITLE = b"<title>Model audits</title>"
_HEAD_BYTES = 4096  # that it stands in
_DAMAGED = "damaged"
_VERDICTS = ("fail", "inconclusive", "warn", "pass", _DAMAGED)
_NOTES = 20  # that are printed of damaged folders


@dataclass(frozen=True)
class BuiltSite:
    """The page, and what it is of.

    Args:
        index: the file.
        audits: how many it lists.
        damaged: how many of them are damaged.
        read: how many were read anew, since they changed.
        notes: what its reader should know.
    """

    index: Path
    audits: int
    damaged: int
    read: int
    notes: list[str] = field(default_factory=list)


def build_site(home: Path, out: Path | None = None) -> BuiltSite:
    """Build `index.html` over the audits of a home.

    The file holds its style, its script and its data, asks no server anything, and is the same bytes for the same
    audits.

    Args:
        home: KODA_HOME.
        out: folder of the file; None: `site` in the home.

    Raises:
        ConfigError: `out` is a file, or holds an index that koda did not make.
        PrerequisiteError: the templates are not installed.
        StoreError: `out` cannot be written.
    """
    folder = home / "site" if out is None else out.absolute()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file.", "Give the name of a folder.")
    if (folder / INDEX).exists() and _TITLE not in (folder / INDEX).read_bytes()[:_HEAD_BYTES]:
        raise ConfigError(f"{folder / INDEX} is there, and koda did not make it.", "Give another folder.")
    seen = list(seen_audits(home))
    write_atomically(folder / INDEX, page(seen, folder).encode("utf-8"))
    damaged = [audit for audit in seen if audit.told["damage"]]
    notes = [f"{audit.folder}: {audit.told['damage']}. koda verify shows more." for audit in damaged[:_NOTES]]
    if len(damaged) > _NOTES:
        notes.append(
            f"{counted(len(damaged) - _NOTES, 'more audit is', 'more audits are')} damaged; the page lists them."
        )
    return BuiltSite(folder / INDEX, len(seen), len(damaged), sum(audit.read for audit in seen), notes)


def page(audits: Sequence[SeenAudit], out: Path) -> str:
    """Return the page over some audits.

    Args:
        audits: as they were seen.
        out: folder that the page will lie in, from which its links lead.
    """
    folder = environment.template_folder()
    faces = environment.style(folder, "html").partition(":root")[0]  # the fonts, which come first
    style = faces + "".join((folder / f"{name}.css").read_text(encoding="utf-8") for name in ("report", "site"))
    script = (folder / "site.js").read_text(encoding="utf-8")
    rows = sorted((_row(seen, out) for seen in audits), key=lambda row: (row["ended"] or "9", row["id"]), reverse=True)
    readable = [row for row in rows if row["ended"]]
    counts = Counter(row["verdict"] for row in rows)
    damaged = sum(1 for row in rows if row["damage"])
    return (
        environment.environment(folder)
        .get_template("site.html.j2")
        .render(
            rows=rows,
            headings=list(HEADLINES.values()),
            counts=", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICTS[:-1] if counts[verdict]),
            verdicts=[verdict for verdict in _VERDICTS if counts[verdict] or (verdict == _DAMAGED and damaged)],
            damaged=damaged,
            baselines=sorted({row["baseline"] for row in readable}),
            datasets=sorted({row["data"] for row in readable}),
            figures=_names(readable),
            data=_as_script_data(rows),
            style=style,
            script=script,
            csp=environment.policy(style, script),
        )
    )


def _row(seen: SeenAudit, out: Path) -> dict[str, Any]:
    """Return a row of the table; one whose record cannot be read has nothing but its name and what is wrong."""
    name = one_line(os.fsencode(seen.folder.name).decode("utf-8", "replace"))
    report = seen.folder / "report.html"
    link = quote(os.fsencode(os.path.relpath(report, out))) if report.is_file() else ""
    unreadable = {"verdict": _DAMAGED, "headlines": [["–", "", None]] * len(HEADLINES), "figures": {}, "ended": ""}
    texts = dict.fromkeys(("title", "reason", "candidate", "baseline", "data", "n"), "")
    told = seen.told["audit"] or {**texts, **unreadable}
    return {**told, "id": name, "link": link, "people": seen.told["people"], "damage": seen.told["damage"]}


def _names(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the figures that any audit has, with their words, those of the table first."""
    names: dict[str, str] = {}
    for row in rows:
        names |= row["names"]
    return {name: names[name] for name in dict.fromkeys([*HEADLINES, *names]) if name in names}


def _as_script_data(rows: Sequence[dict[str, Any]]) -> Markup:
    """Return what the trend is drawn from as JSON that no HTML parser takes for markup.

    Of each row the line, the digests, the end, and value, low and high of each figure in the order of `figures`.
    """
    names = list(_names([row for row in rows if row["ended"]]))
    digests = ("line", "data_digest", "policy_digest", "ended")
    audits = [
        [*(row[name] for name in digests), [row["figures"].get(name, 0) for name in names]] if row["ended"] else 0
        for row in rows
    ]
    units: dict[str, str] = {}
    for row in rows:
        units |= row.get("units", {})
    written = json.dumps({"figures": names, "units": units, "audits": audits}, separators=(",", ":"), allow_nan=False)
    return Markup(written.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
