"""All checks of an audit's folder, in the order in which one stands on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.audit.annotations import read_annotations
from koda.audit.folders import ANNOTATIONS, FORMER_SIGNED, HTML, MANIFEST, PDF, RECORD, RUNS, SIGNED, home_of
from koda.audit.verification import FileCheck, verify_audit
from koda.errors import DataError, StoreError, reason_of
from koda.evidence.bom import check_bom
from koda.evidence.chained import AGAINST_ROW, CHAIN, LIMIT, StoredChain, check_chain, check_entry
from koda.evidence.keys import public_key
from koda.evidence.listed import check_listed
from koda.evidence.manifest import as_evidence, check_manifest, read_whole
from koda.evidence.printed import PRINTED, check_reports
from koda.evidence.redrawn import check_drawn
from koda.evidence.result import Evidence, failed
from koda.evidence.signed_pdf import check_signed_pdf
from koda.evidence.statement import OVER_FILES, STATEMENT, check_named, check_statement
from koda.evidence.weights import check_weights
from koda.records import Annotations
from koda.records.annotations import ANNOTATIONS_VERSION
from koda.storage.chain import CHAIN_HEAD, ChainHead
from koda.storage.database import DATABASE
from koda.typing import Role

CANNOT_KNOW = (
    "Digests say that files belong together and were not changed since; they say nothing of who wrote them, nor "
    "whether what was measured is right.",
    LIMIT,
)
_COMPARED = {
    "verdict.json": f"against {RECORD}",
    "slices.csv": f"against {RECORD}",
    **dict.fromkeys((HTML, PDF), PRINTED),
    STATEMENT: OVER_FILES,
    CHAIN: AGAINST_ROW,
}


@dataclass(frozen=True)
class Verification:
    """What the checks of an audit came to.

    Args:
        audit: id.
        files: each file of its manifest, and what is wrong with it.
        checks: all of them.
    """

    audit: str
    files: list[FileCheck]
    checks: list[Evidence]

    def as_json(self) -> dict[str, Any]:
        """Return the verification as a JSON object; `verified` says that nothing failed."""
        return {
            "id": self.audit,
            "verified": not failed(self.checks),
            "files": {check.name: check.problem or "ok" for check in self.files},
            "failed": failed(self.checks),
            "checks": [check.as_json() for check in self.checks],
            "cannot_know": list(CANNOT_KNOW),
        }


def verify(
    path: Path,
    head: ChainHead | None = None,
    key: Path | None = None,
    weights: Mapping[Role, Path] | None = None,
    home: Path | None = None,
) -> Verification:
    """Check an audit's folder, which need not lie in a home.

    Args:
        path: the folder, or a file in it.
        head: of the chain, as kept elsewhere.
        key: PEM file of the public key of who is to have signed.
        weights: where the weights of the models lie, if not where the record says.
        home: KODA_HOME, which may have the pictures of an audit that lies in no home.

    Raises:
        DataError: neither a manifest nor a record is there.
        ConfigError: a key that cannot be used.
        PrerequisiteError: a key, and no package that checks a statement with it.
    """
    folder = path if path.is_dir() else path.parent
    signer = None if key is None else public_key(key)
    try:
        audit, files = verify_audit(folder)
    except DataError as error:
        if not any((folder / name).is_file() for name in (MANIFEST, RECORD)):
            raise  # it is no audit at all
        unread = Evidence(MANIFEST, "that it can be read", "FAILED", error.message)
        return Verification(folder.name, [], [unread, *_left_out(folder, MANIFEST)])
    checks = [check_manifest(folder), *map(as_evidence, files)]
    whole = read_whole(folder)
    if whole is None:
        if not any(check.name == RECORD and check.problem for check in files):
            checks.append(Evidence(RECORD, "that it reads as a record", "FAILED", "it does not"))
        checks += _left_out(folder, RECORD)
        return Verification(audit, files, checks)
    data, record = whole
    checks += check_listed(folder, record)
    checks += _in_words(folder, lambda: check_reports(folder, data, record))
    checks += _in_words(folder, lambda: check_drawn(folder.resolve(), record, home))
    statement, *_ = _in_words(folder, lambda: [check_statement(folder, record, signer)])
    checks += [*_pages_of_pdf(folder, statement), *_unlisted(folder, checks), *_annotations(folder), statement]
    if (folder / SIGNED).is_dir():
        checks += _in_words(folder, lambda: [check_bom(folder, data, record)])
        checks += _in_words(folder, lambda: [check_signed_pdf(folder, signer)])
        checks += _in_words(folder, lambda: check_weights(folder, record, signer, weights or {}))
        checks += _in_words(folder, lambda: check_named(folder))
    # A head without its database is a chain that was taken away.
    own_home = home_of(folder.resolve(), DATABASE) or home_of(folder.resolve(), CHAIN_HEAD)
    if own_home is None:
        checks.append(Evidence(CHAIN, "its rows", "not verified", "the folder lies in no home with a database"))
    else:
        chain = StoredChain.read(own_home)
        checks += [*check_chain(chain, head), check_entry(chain, folder, data, record)]
    return Verification(audit, files, checks)


def _in_words(folder: Path, check: Callable[[], Iterable[Evidence]]) -> Iterator[Evidence]:
    """Carry out checks of files; one that nobody here may read fails by its name."""
    try:
        yield from check()
    except OSError as error:
        path = Path(error.filename or folder)
        name = next(
            (str(path.relative_to(top)) for top in (folder, folder.resolve()) if top in path.parents), str(path)
        )
        yield Evidence(name, "that it can be read", "FAILED", f"it cannot be read: {reason_of(error)}")


def _left_out(folder: Path, unread: str) -> Iterator[Evidence]:
    """Name what is not checked where the manifest or the record, on which all else stands, cannot be read."""
    why = f"{unread}, which it is compared with, cannot be read"
    signed = sorted(f"{SIGNED}/{path.name}" for path in (folder / SIGNED).glob("*"))
    rest = {name: "its signature" for name in signed if name != STATEMENT}
    for name, what in {**_COMPARED, **rest}.items():
        yield Evidence(name, what, "not verified", why)


def _unlisted(folder: Path, checks: Sequence[Evidence]) -> Iterator[Evidence]:
    """Name the files and folders beside an audit's own that its manifest does not list, where no check has yet."""
    named, own = {MANIFEST, *(check.name for check in checks)}, {SIGNED, FORMER_SIGNED, RUNS}
    there = [path for path in folder.iterdir() if path.name not in named]
    others = sorted(path.name for path in there if not (path.name in own and path.is_dir()))
    # a former run is an audit's folder of its own
    others += sorted(f"{RUNS}/{path.name}" for path in (folder / RUNS).glob("*") if not (path / MANIFEST).is_file())
    if others:
        why = f"{MANIFEST} does not list {', '.join(others)}: nothing is known of what is not listed"
        yield Evidence("other files", "that they are part of the audit", "not verified", why)


def _pages_of_pdf(folder: Path, statement: Evidence) -> Iterator[Evidence]:
    """Say of the PDF that nothing but a signature speaks for what its pages say beside the digest."""
    what = "what its pages say"
    if not (folder / PDF).is_file():
        return
    if statement.state == "verified":
        yield Evidence(PDF, what, "verified", "as they were signed; they are compared with nothing else")
    else:
        why = f"a signature alone speaks for them: koda draws {HTML} again, not the PDF"
        yield Evidence(PDF, what, "not verified", why)


def _annotations(folder: Path) -> Iterator[Evidence]:
    """Check the chain of what people said of an audit, where anybody said anything."""
    what = "its chain, and that it is about this record"
    try:
        said = read_annotations(folder)
    except StoreError as error:
        yield Evidence(ANNOTATIONS, what, "FAILED", error.message)
    else:
        if not said:
            return
        if _is_as_written(folder / ANNOTATIONS):
            yield Evidence(ANNOTATIONS, what, "verified")
        else:
            yield Evidence(ANNOTATIONS, what, "FAILED", "it is not as koda writes one: it was changed")


def _is_as_written(path: Path) -> bool:
    """Tell whether annotations are written as koda writes them, to the byte; those of an older one may not be."""
    data = path.read_bytes()
    chain = Annotations.from_json(data, str(path))
    return chain.version != ANNOTATIONS_VERSION or data == chain.to_json().encode()
