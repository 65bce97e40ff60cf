"""An audit record in, two files out: `report.html` and `report.pdf`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from koda.errors import ConfigError, PrerequisiteError
from koda.records import Annotation, AuditRecord, Finding
from koda.report import alignment, cover, environment, fonts, map_view, metric_tables, outline, text, view
from koda.report.changed_figures import changed_figures
from koda.report.drawing_software import drawing_software
from koda.report.found_subset import found_table, overlaps, stops
from koda.report.headline import headline
from koda.report.pdf import write_pdf
from koda.report.people import People, people
from koda.report.plots import line_plot
from koda.report.system_fonts import code_points, family_of, font_files, fonts_for
from koda.report.thumbnails import Gallery, gallery
from koda.report.trend_plot import trend
from koda.storage import write_atomically
from koda.typing import SIDES


@dataclass(frozen=True)
class RenderedReport:
    """The files of a report, and what their reader should know of how they came out."""

    html: Path
    pdf: Path | None
    notes: list[str] = field(default_factory=list)


def render(
    record: AuditRecord,
    thumbnails: Mapping[str, bytes],
    out_dir: Path,
    *,
    pdf: bool = True,
    annotations: Sequence[Annotation] = (),
) -> RenderedReport:
    """Write the report of an audit.

    Both files are drawn from the record and the thumbnails alone, and are the same bytes for the same input; what
    koda's own fonts lack the PDF draws with the machine's, or spells out, and says so. Each is written to a temporary
    name first and then moved into place.

    Args:
        record: the audit.
        thumbnails: sample key -> JPEG bytes; those that are missing or unreadable leave an empty frame.
        out_dir: folder of `report.html` and `report.pdf`, made if need be.
        pdf: whether to make the PDF. Where Pango is not installed, only the HTML comes out and a note
            says what to install.
        annotations: what people said of the audit after it, the oldest first.

    Raises:
        PrerequisiteError: the templates are not installed.
        DataError: the record contradicts itself.
        StoreError: `out_dir` cannot be written.
    """
    folder = environment.template_folder()
    out_dir = Path(out_dir)
    pictures = gallery(record, thumbnails)
    notes = list(pictures.notes)
    named = people(record, annotations)
    if pictures.missing:
        notes.append(
            f"{text.number(pictures.missing)} of {text.plural(pictures.total, 'gallery picture')} could not be had; "
            "an empty frame stands in their place."
        )
    html = out_dir / "report.html"
    write_atomically(html, _document(record, pictures, named, folder, "html", notes, with_pdf=pdf).encode("utf-8"))
    if not pdf:
        return RenderedReport(html, None, notes)
    draft, said = _document(record, pictures, named, folder, "pdf", notes), len(notes)
    own = fonts.coverage(folder / "fonts")
    given = _given_fonts(record, notes)
    shown = fonts.shown_in(draft)
    more = fonts_for(fonts.lacking(shown, own), given)
    covered = own.union(*map(code_points, more))
    if drawn := fonts.lacking(shown, own) - fonts.lacking(shown, covered):
        notes.append(
            f"The PDF draws {text.plural(len(drawn), 'character')} ({', '.join(fonts.scripts_of(drawn))}) with fonts "
            f"{_whose(more, given)}: {', '.join(map(family_of, more))}."
        )
    if lacking := fonts.lacking(shown, covered):
        count = fonts.count_lacking(_captions(record), covered)
        notes.append(
            f"No font on this machine draws {text.plural(len(lacking), 'character')} "
            f"({', '.join(fonts.scripts_of(lacking))}) that stand in {text.plural(count, 'caption')} shown and in what "
            "is said of them; the PDF spells them as code points, such as "
            f"{fonts.spell_lacking(min(lacking), covered)}. The HTML report and audit.json hold the text itself. To "
            "have it in the PDF, install fonts for it (apt-get "
            f"install {' '.join(fonts.packages_for(lacking))}), or name them in report.fonts, and run the same command "
            "again."
        )
    if len(notes) > said:  # it says now what was found out from the draft
        draft = _document(record, pictures, named, folder, "pdf", notes)
    paper = fonts.spell_shown(draft, covered)
    out = out_dir / "report.pdf"
    try:
        write_atomically(
            out,
            write_pdf(paper, folder / "fonts", record.to_json().encode("utf-8"), text.as_utc(record.ended), more),
        )
    except PrerequisiteError as error:
        # A PDF of an earlier rendering would contradict the HTML beside it.
        out.unlink(missing_ok=True)
        return RenderedReport(html, None, [*notes, str(error)])
    return RenderedReport(html, out, notes)


def _document(
    record: AuditRecord,
    pictures: Gallery,
    named: People,
    folder: Path,
    target: str,
    notes: list[str],
    *,
    with_pdf: bool = True,
) -> str:
    """Return the HTML of one target, html or pdf; `with_pdf` says whether there is a PDF to link to."""
    chapters, annexes = cover.sections(record)
    findings = [view.view(record, finding, pictures) for finding in _ordered(record)]
    style, script = environment.style(folder, target), environment.script(folder)
    return (
        environment.environment(folder)
        .get_template("report.html.j2")
        .render(
            record=record,
            target=target,
            style=style,
            script=script,
            csp=environment.policy(style, script),
            sections=chapters,
            annexes=annexes,
            numbers={section.id: section.number for section in (*chapters, *annexes)},
            cards=cover.cards(record),
            headline=headline(record),
            with_pdf=with_pdf,
            changed=changed_figures(record),
            also=cover.also(record),
            waivers=cover.waivers(record),
            themes=cover.theme_lines(record),
            counts=cover.verdict_counts(record),
            sentence=cover.verdict_sentence(record),
            findings=findings,
            overviews={side: view.overview(record, side, findings) for side in SIDES},
            pictures=pictures,
            people=named,
            notes=notes,
            forest=view.forest(record, findings),
            folded=outline.FOLDED,
            lines=outline.in_a_line(record),
            maps=map_view.maps(record),
            data=map_view.data(record, findings, pictures) if target == "html" else "",
            spectra=line_plot(
                {role: record.metrics.spectra[role] for role in sorted(record.metrics.spectra)},
                title="Leading kernel eigenvalues of both models",
                x_axis="number of the eigenvalue",
                y_axis="eigenvalue of K / n",
            ),
            quotients=metric_tables.quotients(record),
            found=found_table(record),
            overlaps=overlaps(record),
            stops=stops(record),
            trend=trend(record),
            retrieval=metric_tables.retrieval(record),
            zero_shot=metric_tables.zero_shot(record),
            by_value=metric_tables.by_value(record),
            alignment=alignment.alignment(record),
            aligned=alignment.cover_note(record),
            drawn_with=drawing_software() if target == "pdf" else "",
            configuration=environment.configuration(record.model_dump(mode="json")["config"]),
            record_digest=hashlib.sha256(record.to_json().encode("utf-8")).hexdigest(),
            created=text.as_utc(record.ended).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )


def _given_fonts(record: AuditRecord, notes: list[str]) -> tuple[Path, ...]:
    """Return the fonts that the audit was given, where they are still there; a note says where they are not."""
    try:
        return font_files(record.config.get("report", {}).get("fonts", ()))
    except ConfigError as error:
        notes.append(error.message)
        return ()


def _whose(used: Sequence[Path], given: Sequence[Path]) -> str:
    machine, own = "of the machine that made it", sum(path in given for path in used)
    if not own:
        return machine
    return "that it was given" if own == len(used) else f"that it was given, and {machine}"


def _ordered(record: AuditRecord) -> list[Finding]:
    """Return the findings as the report shows them: lost, then gained, the strongest first."""
    return sorted(record.findings, key=lambda finding: (finding.side == "gained", finding.direction))


def _captions(record: AuditRecord) -> list[str]:
    """Return the caption of each sample that is shown, once, as the report shows it."""
    shown = {s.key: s.caption or "" for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples}
    return [text.shorten(caption, 400) for caption in shown.values()]
