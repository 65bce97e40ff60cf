"""Tables in text: records of fields, whatever separates them and whether or not quotation marks hold them together.

A quotation mark may open a field that runs over several lines, and it may be the first character of a caption in a
file that knows no quoting. Taking the one for the other makes rows vanish, so the lines themselves decide.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from koda.datasets.text import decode_text
from koda.errors import DataError

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_LINES_OF_A_FIELD = 1000  # a quoted field is not looked for further than this
_COMMON = 0.02  # share of the rows whose images have a suffix, from which on it is one that images of the table have


@dataclass(frozen=True)
class Delimited:
    """A table in text.

    Args:
        header: names of its columns.
        records: (number of the last line, fields) of each row; blank lines are none.
        notes: how it was read, in words, where that had to be found out.
    """

    header: list[str]
    records: list[tuple[int, list[str]]]
    notes: tuple[str, ...]


def read_delimited(
    data: bytes, where: str, usual: str, delimiter: str | None, image: str, others: Sequence[str]
) -> Delimited:
    """Split a table in text into its records.

    Args:
        data: the file.
        where: its name, for messages.
        usual: what separates the fields of files with its suffix.
        delimiter: what separates them for sure; None where the header is to show it.
        image: name of the column of images, whose values show what a row looks like.
        others: names of further columns that the header has.

    Raises:
        DataError: no text, or no header.
    """
    # a field may hold a whole document; the default limit of 131 072 characters is not ours to set
    csv.field_size_limit(2**31 - 1)
    lines = list(io.StringIO(decode_text(data, where), newline=""))
    notes: list[str] = []
    first = next((place for place, line in enumerate(lines) if line.strip("\r\n")), len(lines))
    stated = None if first == len(lines) else _stated(lines[first])
    first += stated is not None
    while first < len(lines) and not lines[first].strip("\r\n"):
        first += 1
    if first >= len(lines):
        raise DataError(f"{where} is empty.", "It needs a header line with the names of its columns.")
    found = delimiter or stated or _shown_by_header(lines[first:], usual, [image, *others])
    if found != usual and delimiter is None:
        notes.append(f"its fields are separated by {_DELIMITERS.get(found, repr(found))}")
    reader = csv.reader(lines[first:], delimiter=found)
    header = [name.strip() for name in next(reader)]
    body = first + reader.line_num
    records = _plain_records(lines, body, found)
    if records is None:
        place = header.index(image) if image in header else 0
        records, note = _Records(lines, body, found, len(header), place, '"' in lines[first]).read()
        notes.append(note)
    return Delimited(header, records, tuple(notes))


def _stated(line: str) -> str | None:
    """Return the delimiter that a first line `sep=;` states, as spreadsheets write and read it."""
    text = line.strip("\r\n").strip('"')
    return text[4:] if text[:4].lower() == "sep=" and len(text) == 5 else None


def _shown_by_header(lines: list[str], usual: str, names: Sequence[str]) -> str:
    """Return what separates the fields of a header: what makes the names stand in it, else what makes most fields."""
    fields = {}
    for delimiter in dict.fromkeys([usual, *_DELIMITERS]):
        header = {name.strip() for name in next(csv.reader(lines, delimiter=delimiter))}
        if header.issuperset(names):
            return delimiter
        fields[delimiter] = len(header)
    return max(fields, key=lambda delimiter: fields[delimiter])


def _plain_records(lines: list[str], body: int, delimiter: str) -> list[tuple[int, list[str]]] | None:
    """Return the records where each is a line and every quotation mark has its fellow; None where it is not so."""
    reader = csv.reader(lines[body:], delimiter=delimiter, strict=True)
    records = []
    try:
        for number, fields in enumerate(reader, start=1):
            if reader.line_num != number:
                return None
            if fields:
                records.append((body + number, fields))
    except csv.Error:
        return None
    return records


class _Records:
    """The records of a table in which quotation marks do not come in pairs on every line."""

    def __init__(
        self, lines: list[str], body: int, delimiter: str, n_fields: int, image: int, header_quoted: bool
    ) -> None:
        self.lines = lines
        self.body = body
        self.delimiter = delimiter
        self.n_fields = n_fields
        self.image = image
        single = {place: self._parse(place) for place in range(body, len(lines)) if lines[place].strip("\r\n")}
        self.single = single
        bare = map(self._split, single)
        suffixes = Counter(_suffix(fields[image]) for fields in bare if len(fields) == n_fields)
        self.suffixes = {name for name, count in suffixes.items() if count >= _COMMON * suffixes.total()}
        if 2 * suffixes[""] <= suffixes.total():  # lines in the midst of a caption may have the fields of a row
            self.suffixes -= {""}
        quoted = [place for place, fields in single.items() if fields is not None and '"' in lines[place]]
        self.is_quoted = header_quoted or 2 * len(quoted) > len(single) or any(map(self._needs_quotes, quoted))

    def read(self) -> tuple[list[tuple[int, list[str]]], str]:
        """Return the records, and how they were read."""
        records: list[tuple[int, list[str]]] = []
        n_long = n_unpaired = 0
        place = self.body
        while place < len(self.lines):
            if place not in self.single:  # a blank line
                place += 1
                continue
            fields = self.single[place]
            end = place
            if fields is None:
                end, fields = self._over_lines(place)
                n_long += end > place
                n_unpaired += end == place
            records.append((end + 1, fields))
            place = end + 1
        if not self.is_quoted and not n_long:
            note = f"quotation marks are part of its text: {_rows(n_unpaired, 'has', 'have')} one without a fellow"
            return [(place + 1, self._split(place)) for place in self.single], note
        told = [f"{_rows(n_long, 'runs', 'run')} over several lines, in quotation marks"] if n_long else []
        if n_unpaired:
            lone = _rows(n_unpaired, "has", "have")
            told.append(f"{lone} a quotation mark without a fellow, which is taken for text")
        return records, "; ".join(told)

    def _over_lines(self, place: int) -> tuple[int, list[str]]:
        """Return the last line and the fields of the record that begins on a line with an unpaired quotation mark."""
        reader = csv.reader(self._from(place), delimiter=self.delimiter, strict=True)
        try:
            fields = next(reader)
            if len(fields) == self.n_fields:
                return place + reader.line_num - 1, fields
        except csv.Error:
            pass
        escaped = self._parse(place, escape="\\") if '\\"' in self.lines[place] else None
        if escaped is not None and len(escaped) == self.n_fields:
            return place, escaped
        return place, self._split(place)

    def _from(self, place: int) -> Iterator[str]:
        """Yield a line and those after it, up to the next one that looks like a row, where the first one does too."""
        yield self.lines[place]
        alone = self._looks_like_a_row(place)
        for other in range(place + 1, min(len(self.lines), place + _LINES_OF_A_FIELD)):
            if alone and self._looks_like_a_row(other):
                return
            yield self.lines[other]

    def _parse(self, place: int, escape: str | None = None) -> list[str] | None:
        """Return the fields of a line by the rules of quoting, or None."""
        reader = csv.reader([self.lines[place]], delimiter=self.delimiter, strict=True, escapechar=escape)
        try:
            return next(reader, None)
        except csv.Error:
            return None

    def _split(self, place: int) -> list[str]:
        """Return the fields of a line in which quotation marks mean nothing."""
        return self.lines[place].rstrip("\r\n").split(self.delimiter)

    def _looks_like_a_row(self, place: int) -> bool:
        """Tell whether a line by itself has the fields of a row, and an image where rows have theirs."""
        fields = self._split(place)
        if len(fields) != self.n_fields:
            return False
        # where images have no suffix any text may be one, and a quoted file is trusted in its quotation marks
        return _suffix(fields[self.image]) in (self.suffixes - {""} if self.is_quoted else self.suffixes)

    def _needs_quotes(self, place: int) -> bool:
        """Tell whether the quotation marks on a line hold together what would fall apart without them."""
        bare = [
            field[1:-1] if field[:1] == field[-1:] == '"' and len(field) > 1 else field for field in self._split(place)
        ]
        return self.single[place] != bare


def _rows(count: int, verb: str, verbs: str) -> str:
    return f"1 row {verb}" if count == 1 else f"{count} rows {verbs}"


def _suffix(name: str) -> str:
    suffix = PurePosixPath(name.strip('"').partition("?")[0]).suffix.lower()
    return suffix if suffix[1:].isalnum() else ""
