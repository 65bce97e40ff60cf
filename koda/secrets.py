"""Credentials in URLs: taken out of all that is shown or kept, and put back only where the bytes are fetched.

Settings, rows of tables and messages go through here before anything else sees them, so records, databases, logs and
digests hold URLs without their credentials. Those stay in the memory of this process alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(
    r"sig|signature|sas|hmac|jwt|auth|authorization|pass|passwd|password|passphrase|pwd|credentials?"
    r"|.*(token|secret|api[-_]?key|access[-_]?key).*|x-(amz|goog)-(signature|credential|security-token)"
)
_SIGNATURE = re.compile(r"sig|signature|hmac|x-(amz|goog)-signature")
# what stands beside a signature and is worth nothing without it; of Azure's in two letters
_SIGNED_WITH = re.compile(
    r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|expires|policy|key-pair-id"
    r"|s[estrvip]|srt|spr|sip|sk(oid|tid|t|e|s|v)|saoid|suoid|scid|sdd|ses"
)
_GOOGLE_KEY = re.compile(r"AIza[\w-]{20,}")
_TOKEN_AS_USER = {"http", "https", "ftp", "ftps", "git+https"}  # elsewhere a name without a password is no secret
# a path that is made of a URL has one slash
_URL = re.compile(
    r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})(?P<mark>:/{1,2})"
    r"(?P<rest>[^\s\"'<>`]*[^\s\"'<>`.,;:)\]}])"
)
_WHOLE = re.compile(r"[A-Za-z][\w+.-]*://")  # a text that begins so is a URL to its end, spaces and all
_CHAIN = re.compile(r"::(?=[A-Za-z][\w+.-]*://)")  # of fsspec: zip://a.csv::https://host/b.zip
# of such a text: a password with a space in it (no port, which prose may follow), and what has the form of a query
_SPACED_USER = re.compile(r"\A([A-Za-z][\w+.-]*://)[^\s/?#@:]*:(?!\d*\s)[^/?#\n]*@")
_SPACED_QUERY = re.compile(r"[?&][^\s\"'<>`]*[^\s\"'<>`.,;:)\]}]")
_HEADER = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9+/=._~-]{8,}")
_LEAST_SECRET = 6  # characters; shorter ones would be found in any text
_MOST_VALUES = 1000  # that are looked for in a message, the first ones: a table of signed URLs has one a row

_real: dict[str, str] = {}  # URL without credentials -> as it was given
_below: dict[str, tuple[str, str]] = {}  # folder without credentials -> credentials before the host, and in the query
_values: dict[str, None] = {}  # credentials by themselves, for messages that other libraries word


def conceal(text: str, *, remember: bool = True, lend: bool = True) -> str:
    """Return a URL without its credentials, which :func:`reveal` puts back; any other text as it is.

    Only what is secret goes, so that URLs of different things stay different.

    Args:
        text: a URL, or a text with URLs in it.
        remember: whether they are to be fetched. What is only shown must not lend its credentials to other URLs.
        lend: whether what lies below and beside a URL is fetched with its credentials too, or that URL alone.

    >>> conceal("https://me:hidden@host/a.png?size=8&token=abcdef")
    'https://host/a.png?size=8'
    """
    if "://" not in text:
        return text
    if _WHOLE.match(text):
        return "::".join(_concealed(part, remember, lend) for part in _CHAIN.split(text))
    return _URL.sub(lambda match: _concealed(match[0], remember, lend), text)


def conceal_all(value: Any, *, remember: bool = True, lend: bool = True) -> Any:
    """Return plain data with the credentials taken out of every URL in it, as :func:`conceal` does."""
    if isinstance(value, str):
        return conceal(value, remember=remember, lend=lend)
    if isinstance(value, Mapping):
        return {name: conceal_all(inner, remember=remember, lend=lend) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(conceal_all(inner, remember=remember, lend=lend) for inner in value)
    return value


def reveal(location: str) -> str:
    """Return a URL with the credentials that it, or a folder above it, was given with; for fetching it alone."""
    return "::".join(_revealed(part) for part in _CHAIN.split(location)) if "://" in location else location


def redact(text: str) -> str:
    """Return a message without the credentials in it; of a URL that was signed the whole query goes.

    A text that begins as a URL may be one with spaces in it, as for :func:`conceal`, or go on in words, which stay.

    >>> redact("403 for https://host/a.png?v=1&X-Amz-Signature=1a2b, gone")
    '403 for https://host/a.png, gone'
    """
    whole = _WHOLE.match(text)
    if whole:
        text = "::".join(_SPACED_USER.sub(r"\1", part) for part in _CHAIN.split(text))
    if ":/" in text:
        text = _URL.sub(_redacted, text)
    if whole:
        text = _SPACED_QUERY.sub(lambda found: "" if _split_query(found[0][1:])[1] else found[0], text)
    text = _HEADER.sub(r"\1 ***", text)
    for value in tuple(_values):
        text = text.replace(value, "***")
    return text


def _concealed(url: str, remember: bool, lend: bool) -> str:
    """Take the credentials out of one URL, and remember them where they are needed."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    user, rest = _split_user(scheme, rest)
    place, question, query = rest.partition("?")
    kept, secret = _split_query(query)
    if not user and not secret:
        return url
    bare = f"{scheme}://{place}{question if kept else ''}{kept}"
    if not remember:
        return bare
    _real[bare] = url
    _remember(user, secret)
    if not lend:
        return bare
    folder = f"{scheme}://{place.rstrip('/')}"
    _below[folder] = (user, secret)
    parent = folder.rpartition("/")[0]
    if "{" in place or "*" in place:  # one signature for several shards
        _below[parent] = (user, secret)
    elif user:  # what lies beside it, such as the images of a table
        host = f"{scheme}://{place.partition('/')[0]}"
        _below.setdefault(parent if len(parent) > len(host) else host, (user, ""))
        _below[host] = (user, "")
    return bare


def _revealed(url: str) -> str:
    """Put the credentials back that a URL, or the nearest folder above it, was given with."""
    if url in _real:
        return _real[url]
    scheme, _, rest = url.partition("://")
    here, question, _ = rest.partition("?")
    if question:  # what was given for the same place with another query is not for this one
        here = here.rpartition("/")[0]
    while here := here.rstrip("/"):
        if (found := _below.get(f"{scheme}://{here}")) is not None:
            user, query = found
            return f"{scheme}://{user}{rest}{('&' if question else '?') + query if query else ''}"
        here = here.rpartition("/")[0]
    return url


def _remember(user: str, secret: str) -> None:
    values = [user.rstrip("@").partition(":")[2] or user.rstrip("@")] if user else []
    values += [part.partition("=")[2] for part in secret.split("&") if _is_secret(part)]
    if len(_values) < _MOST_VALUES:
        _values.update(dict.fromkeys(value for value in values if len(value) >= _LEAST_SECRET))


def _redacted(url: re.Match[str]) -> str:
    _, rest = _split_user(url["scheme"], url["rest"])
    place, question, query = rest.partition("?")
    secret = _split_query(query)[1]
    return f"{url['scheme']}{url['mark']}{place}{'' if secret else question + query}"


def _split_user(scheme: str, rest: str) -> tuple[str, str]:
    """Return ``user:password@``, or nothing, and what comes after it."""
    end = re.search(r"[/?#]", rest)
    authority = rest[: end.start()] if end else rest
    if "@" not in authority:
        port = authority.partition(":")[2]
        if not port or port.isdigit() or "@" not in rest or authority.startswith("["):
            return "", rest
        authority = rest  # the password holds a slash or a question mark as it is
    user = authority.rpartition("@")[0] + "@"
    is_secret = ":" in user or scheme.lower() in _TOKEN_AS_USER
    return (user, rest[len(user) :]) if is_secret else ("", rest)


def _split_query(query: str) -> tuple[str, str]:
    """Return what of a query stays, and what is secret or stands for nothing without it."""
    if not query:
        return "", ""
    parts = query.split("&")
    signed = any(_SIGNATURE.fullmatch(_name(part)) for part in parts)
    secret = [part for part in parts if _is_secret(part) or (signed and _SIGNED_WITH.fullmatch(_name(part)))]
    if not secret:
        return query, ""
    return "&".join(part for part in parts if part not in secret), "&".join(secret)


def _name(part: str) -> str:
    return part.partition("=")[0].lower()


def _is_secret(part: str) -> bool:
    return bool(_SECRET.fullmatch(_name(part)) or _GOOGLE_KEY.fullmatch(part.partition("=")[2]))
