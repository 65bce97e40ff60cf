"""An audit record in, two files out: `report.html`, with pages of pictures where it would be too large, and the PDF."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from koda.errors import ConfigError, PrerequisiteError
from koda.records import Annotation, AuditRecord, Finding
from koda.records.page_names import PAGES, is_page_name
from koda.report import alignment, cover, environment, fonts, map_view, metric_tables, outline, text, view
from koda.report.changed_figures import changed_figures
from koda.report.drawing_software import drawing_software
from koda.report.found_subset import found_table, overlaps, stops
from koda.report.gallery_pages import fitted, notes_on, pages
from koda.report.headline import headline
from koda.report.page_software import page_software
from koda.report.pdf import write_pdf
from koda.report.people import People, people
from koda.report.plots import line_plot
from koda.report.shown_texts import count_lacking
from koda.report.system_fonts import code_points, family_of, font_files, fonts_for
from koda.report.thumbnails import Gallery, gallery
from koda.report.trend_plot import trend
from koda.storage import write_atomically
from koda.typing import SIDES

_HEAD = 4096  # bytes of a page, which says there what made it
_MADE_BY = b'<meta name="generator" content="koda '


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
        out_dir: folder of `report.html`, `report.pdf` and pages of pictures, made if need be.
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
    named = people(record, annotations)
    page, pictures = fitted(
        record, thumbnails, lambda some: draw_page(record, some, with_pdf=pdf, annotations=annotations)
    )
    html, notes = out_dir / "report.html", _notes(record, pictures)
    _write_pages(draw_gallery_pages(record, thumbnails) if pictures.is_paged else {}, out_dir)
    write_atomically(html, page)
    if not pdf:
        return RenderedReport(html, None, notes)
    if pictures.is_paged:
        pictures = gallery(record, thumbnails, shrink=True)
    draft, said = _document(record, pictures, named, folder, "pdf", notes), len(notes)
    more, covered = _fonts_of(record, annotations, draft, folder, notes)
    if len(notes) > said:  # it says now what was found out from the draft
        draft = _document(record, pictures, named, folder, "pdf", notes)
    paper = fonts.spell_lacking(draft, covered)
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


def draw_page(record: AuditRecord, pictures: Gallery, *, with_pdf: bool, annotations: Sequence[Annotation] = ()) -> str:
    """Return `report.html` with some pictures.

    Args:
        record: the audit.
        pictures: that it shows.
        with_pdf: whether it leads to a PDF beside it.
        annotations: what people said of the audit after it, the oldest first.

    Raises:
        PrerequisiteError: the templates are not installed.
        DataError: the record contradicts itself.
    """
    folder, named = environment.template_folder(), people(record, annotations)
    return _document(record, pictures, named, folder, "html", _notes(record, pictures), with_pdf=with_pdf)


def draw_gallery_pages(record: AuditRecord, thumbnails: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the page of pictures of each finding, by its name; a report leads to them where it lacks the room.

    Args:
        record: the audit.
        thumbnails: sample key -> JPEG bytes.

    Raises:
        PrerequisiteError: the templates are not installed.
    """
    return dict(pages(record, thumbnails, _ordered(record), environment.template_folder()))


def _notes(record: AuditRecord, pictures: Gallery) -> list[str]:
    """Say which pictures could not be had, and which are on pages beside the report."""
    notes = notes_on(record, pictures)
    if pictures.missing:
        notes.append(
            f"{text.number(pictures.missing)} of {text.plural(pictures.total, 'gallery picture')} could not be had; "
            "an empty frame stands in their place."
        )
    return notes


def _write_pages(drawn: Mapping[str, bytes], out_dir: Path) -> None:
    """Write the pages with pictures that the report lacks, and take away those that koda wrote for an earlier one."""
    for name, page in drawn.items():
        write_atomically(out_dir / name, page)
    for path in out_dir.glob(PAGES):
        if path.name not in drawn and is_page_name(path.name) and _is_of_koda(path):
            path.unlink()


def _is_of_koda(path: Path) -> bool:
    """Tell whether the head of a page says that koda made it."""
    with path.open("rb") as file:
        return _MADE_BY in file.read(_HEAD)


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
            drawn_by=page_software() if target == "html" else "",
            configuration=environment.configuration(record.model_dump(mode="json")["config"]),
            record_digest=hashlib.sha256(record.to_json().encode("utf-8")).hexdigest(),
            created=text.as_utc(record.ended).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
    )


def _fonts_of(
    record: AuditRecord, annotations: Sequence[Annotation], draft: str, folder: Path, notes: list[str]
) -> tuple[tuple[Path, ...], frozenset[int]]:
    """Return the fonts that a PDF needs beside koda's own, and what all of them draw; notes say what they do not."""
    page, own = fonts.text_of(draft), fonts.coverage(folder / "fonts")
    given = _given_fonts(record, notes)
    more = fonts_for(fonts.lacking(page, own), given)
    covered = own.union(*map(code_points, more))
    if drawn := fonts.lacking(page, own) - fonts.lacking(page, covered):
        notes.append(
            f"The PDF draws {text.plural(len(drawn), 'character')} ({', '.join(fonts.scripts_of(drawn))}) with fonts "
            f"{_whose(more, given)}: {', '.join(map(family_of, more))}."
        )
    if lacking := fonts.lacking(page, covered):
        counts = count_lacking(record, annotations, page, covered)
        where = [text.plural(count, kind.one, kind.many) for kind, count in counts.items()]
        notes.append(
            f"No font on this machine draws {text.plural(len(lacking), 'character')} "
            f"({', '.join(fonts.scripts_of(lacking))}) that stand in {_listed(where) or 'texts'} shown; the PDF "
            f"spells them as code points, such as {fonts.spell_lacking(min(lacking), covered)}. The HTML report and "
            "audit.json hold the text itself. To have it in the PDF, install fonts for it (apt-get "
            f"install {' '.join(fonts.packages_for(lacking))}), or name them in report.fonts, and run the same command "
            "again."
        )
    return more, covered


def _listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


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
