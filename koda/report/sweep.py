"""The summary of a sweep: one self-contained HTML file in the style of the reports it links to."""

from __future__ import annotations

from koda.report import environment, text
from koda.sweeping import SweepRecord


def render_sweep(record: SweepRecord) -> bytes:
    """Draw `sweep.html` from the record of a sweep and nothing else.

    Raises:
        PrerequisiteError: the templates are not installed.
    """
    folder = environment.template_folder()
    style = environment.style(folder, "html")
    drawn = (
        environment.environment(folder)
        .get_template("sweep.html.j2")
        .render(
            sweep=record,
            style=style,
            csp=environment.policy(style, ""),
            created=text.as_utc(record.ended).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )
    return drawn.encode("utf-8")
