"""A copy of the report's PDF with a PAdES signature in it; the report itself stays as it is, and begins the copy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koda.audit.folders import PDF, SIGNED
from koda.errors import ConfigError, reason_of
from koda.evidence.keys import NO_KEY, lacking
from koda.evidence.result import Evidence
from koda.silence import silent
from koda.storage.reading import UnreadableError, read_small
from koda.wording import counted

SIGNED_PDF = f"{SIGNED}/{PDF}"
_FIELD = "Signature"


def certificates(path: Path, key: Any) -> list[Any]:
    """Read the certificate of a key, and those of who issued it; the key's own comes first.

    Args:
        path: PEM file.
        key: the private key.

    Raises:
        ConfigError: it cannot be read, holds no certificate of the key, or one that is not valid today.
    """
    from cryptography.x509 import load_pem_x509_certificates

    remedy = "Give it in PEM, with its issuers if it has any."
    try:
        data = read_small(path)
    except UnreadableError as error:
        raise ConfigError(f"{path} holds no certificate that can be read: {error}.", remedy) from error
    try:
        found = load_pem_x509_certificates(data)
    except Exception as error:  # one of several of the library's
        holds = "one that is damaged" if b"BEGIN CERTIFICATE" in data else "nothing that begins as one in PEM does"
        raise ConfigError(f"{path} holds no certificate that can be read: it holds {holds}.", remedy) from error
    own = [each for each in found if each.public_key() == key.public_key()]
    if not own:
        raise ConfigError(
            f"No certificate in {path} is of the key: its public half is another.",
            "openssl x509 -in CERTIFICATE -noout -pubkey and openssl pkey -in KEY -pubout must print the same.",
        )
    first, last = own[0].not_valid_before_utc, own[0].not_valid_after_utc
    if not first <= datetime.now(UTC) <= last:
        when = f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        raise ConfigError(f"The certificate of the key in {path} is valid {when}, not today.", "Have it renewed.")
    return [own[0], *(each for each in found if each != own[0])]


def sign_pdf(report: Path, key: Any, chain: Sequence[Any]) -> bytes:
    """Return a signed copy of a PDF.

    Args:
        report: the PDF, which stays as it is.
        key: the private key.
        chain: its certificate, and those of who issued it.
    """
    from asn1crypto.keys import PrivateKeyInfo
    from asn1crypto.x509 import Certificate
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
    from pyhanko.sign.fields import SigSeedSubFilter
    from pyhanko.sign.signers import PdfSignatureMetadata, SimpleSigner, sign_pdf
    from pyhanko_certvalidator.registry import SimpleCertificateStore

    own, *issuers = [Certificate.load(each.public_bytes(Encoding.DER)) for each in chain]
    registry = SimpleCertificateStore()
    registry.register_multiple(issuers)
    signer = SimpleSigner(
        signing_cert=own,
        signing_key=PrivateKeyInfo.load(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())),
        cert_registry=registry,
    )
    metadata = PdfSignatureMetadata(field_name=_FIELD, subfilter=SigSeedSubFilter.PADES)
    with report.open("rb") as file:
        return bytes(sign_pdf(IncrementalPdfFileWriter(file), metadata, signer).getvalue())


def check_signed_pdf(folder: Path, key: Any | None) -> Evidence:
    """Check a signed copy of the PDF: it begins with the report, and the key signed all of it.

    Args:
        folder: of the audit.
        key: the public key of who is to have signed; None where none was given.
    """
    what, path = f"its signature, and that it begins with {PDF}", folder / SIGNED_PDF
    if not path.is_file():
        return Evidence(SIGNED_PDF, what, "not verified", "there is none (koda sign --certificate FILE makes one)")
    try:
        data = path.read_bytes()
        report = (folder / PDF).read_bytes() if (folder / PDF).is_file() else None
    except OSError as error:
        return Evidence(SIGNED_PDF, what, "FAILED", f"one of the two cannot be read: {reason_of(error)}")
    if report is not None and not data.startswith(report):
        other = f"its beginning is not the {PDF} of the audit, which was drawn again since, or changed: sign it again"
        return Evidence(SIGNED_PDF, what, "FAILED", other)
    if (why := NO_KEY if key is None else lacking("pyhanko")) is not None:
        return Evidence(SIGNED_PDF, what, "not verified", why)
    try:
        with silent("pyhanko"):  # it logs a traceback of each signature that does not hold
            problem = _problem(data, key)
    except Exception:  # a damaged PDF or signature raises whatever its parser meets
        problem = "its signature cannot be read: it is no PDF, or one that is damaged"
    if problem is not None:
        return Evidence(SIGNED_PDF, what, "FAILED", problem)
    if report is None:
        return Evidence(SIGNED_PDF, what, "not verified", f"there is no {PDF} to compare it with; its signature holds")
    return Evidence(SIGNED_PDF, what, "verified", "with this key; whether to trust its certificate is yours to say")


def _problem(data: bytes, key: Any) -> str | None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from pyhanko.pdf_utils.reader import PdfFileReader
    from pyhanko.sign.fields import enumerate_sig_fields
    from pyhanko.sign.validation import validate_pdf_signature
    from pyhanko.sign.validation.settings import KeyUsageConstraints
    from pyhanko.sign.validation.status import SignatureCoverageLevel
    from pyhanko_certvalidator import ValidationContext

    reader = PdfFileReader(io.BytesIO(data))
    signatures = reader.embedded_signatures
    if len(signatures) != 1:
        return f"it holds {counted(len(signatures), 'signature')} in place of one"
    if unsigned := sum(value is None for _, value, _ in enumerate_sig_fields(reader)):
        return f"it holds {counted(unsigned, 'signature field')} that nothing signs: it was changed after it was signed"
    signature = signatures[0]
    if not _is_canonical(data, signature.byte_range):
        return "it was changed after it was signed"
    own = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if signature.signer_cert.public_key.dump() != own:
        return "it is not signed with this key"
    # whether a certificate is to be trusted is the reader's to judge; nothing is fetched
    context = ValidationContext(trust_roots=[signature.signer_cert], allow_fetching=False)
    status = validate_pdf_signature(signature, context, key_usage_settings=KeyUsageConstraints(key_usage=set()))
    if not (status.intact and status.valid):
        return "it was changed after it was signed"
    if status.coverage != SignatureCoverageLevel.ENTIRE_FILE:
        return "its signature does not cover the whole file: something was added after it"
    return None


def _is_canonical(data: bytes, byte_range: Sequence[int]) -> bool:
    """Tell whether what the signature leaves out, which is the signature, is as it was written: to the last digit."""
    from asn1crypto.cms import ContentInfo

    _, start, end, _ = byte_range
    left_out = data[start:end]
    whole = bytes.fromhex(left_out[1:-1].decode("ascii"))
    signature: bytes = ContentInfo.load(whole).dump()
    digits = signature.hex().encode()
    idle = b"0" * 2 * (len(whole) - len(signature))
    return left_out in (b"<" + digits.upper() + idle + b">", b"<" + digits + idle + b">")
