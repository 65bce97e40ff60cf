"""The rows that satisfy a condition in SQL, `data.where`, as DuckDB understands it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from koda.datasets.base import Row
from koda.datasets.text import as_utf8
from koda.errors import DataError, did_you_mean, nearest

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# no files, no network, no extensions, nothing of this process: a condition is for the rows and nothing else
_SANDBOX = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "lock_configuration": "true",
    "threads": "1",
}
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
# texts that are dates or moments -> the type of Arrow that they have as such
_DATES = (
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "date32"),
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"), "timestamp[us]"),
)
# in the definition of one of DuckDB's macros, or a name without brackets: what depends on when and by whom it is asked
_OF_THE_MOMENT = r"current_|now\(|random\("
_MOMENTS = frozenset({"current_timestamp", "current_time", "localtime", "localtimestamp", "current_user", "user"})
_HARMLESS = frozenset({"error"})


def matching(rows: Sequence[Row], metadata_columns: Sequence[str], condition: str) -> list[Row]:
    """Return the rows that satisfy a condition on `key`, `caption` and the metadata columns.

    What a faulty row lacks is unknown to the condition. It is left out only where the condition is false for it
    all the same: a row that may be one of those asked for stays, and is counted as a rejection.

    Args:
        rows: of a source.
        metadata_columns: their names; columns that hold nothing but numbers are compared as numbers, those of dates
            as text, which is in the order of time too, unless the condition can only be about dates.
        condition: an SQL expression such as ``width >= 256 AND caption LIKE '%dog%'``.

    Raises:
        DataError: no condition, an unknown column (the nearest are named), or values that it does not fit.
    """
    import duckdb

    table = _table(rows, metadata_columns)
    setting = f"data.where = {_short(condition)}"
    names = [*table.column_names]
    try:
        with duckdb.connect(":memory:", config=dict(_SANDBOX)) as connection:
            _check_repeatable(connection, condition, names)
            answer = _selected(connection, table, condition)
            kinds = [str(kind) for kind in answer.types]
            if kinds != ["BOOLEAN"]:
                what = f"a value of type {kinds[0]}" if len(kinds) == 1 else f"{len(kinds)} values"
                raise DataError(f"{setting} is {what} and not a condition.", "Compare: width >= 256.")
            values = [value for (value,) in answer.fetchall()]
    except duckdb.Error as error:
        raise _in_words(setting, str(error), names) from error
    if len(values) != len(rows):
        raise DataError(f"{setting} is not about a single row.", "Leave out count, sum and the like.")
    return [
        row
        for row, value in zip(rows, values, strict=True)
        if value is True or (value is None and row.fault is not None)
    ]


def _selected(connection: duckdb.DuckDBPyConnection, table: pa.Table, condition: str) -> duckdb.DuckDBPyRelation:
    """Return the values of a condition; columns of dates are dates to one that cannot be about text.

    As text they are in the order of time, and LIKE, substr and '2024-05' mean something; but DuckDB compares no text
    with a DATE, and knows no year of it.

    Raises:
        duckdb.Error: what it objects to where dates are text, if it does so either way.
    """
    import duckdb

    expression = duckdb.SQLExpression(condition)
    try:
        return connection.from_arrow(table).select(expression)
    except duckdb.BinderException as error:
        with_dates = _with_dates(table)
        if with_dates is None:
            raise
        try:
            return connection.from_arrow(with_dates).select(expression)
        except duckdb.Error:
            raise error from None


def _with_dates(table: pa.Table) -> pa.Table | None:
    """Return a table in which the columns of dates and times that are text are such; None where there is none."""
    import pyarrow as pa

    changed = None
    for place, name in enumerate(table.column_names):
        if name in ("key", "caption") or not pa.types.is_string(table.schema.field(place).type):
            continue
        values = [value or None for value in table.column(place).to_pylist()]
        texts = [value for value in values if value is not None]
        kind = next((kind for pattern, kind in _DATES if texts and all(map(pattern.fullmatch, texts))), None)
        if kind is None:
            continue
        with contextlib.suppress(pa.ArrowException):  # the 31st of February
            column = pa.array(values, pa.string()).cast(pa.type_for_alias(kind))
            changed = (changed or table).set_column(place, name, column)
    return changed


def _check_repeatable(connection: duckdb.DuckDBPyConnection, condition: str, columns: Sequence[str]) -> None:
    """Refuse a condition that does not depend on the row alone, so that the same samples are found again.

    Raises:
        DataError: it calls a function of chance, of the time or of the session, or looks at other rows.
    """
    ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{condition}\n)"]).fetchall()
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise DataError(
            f"data.where = {_short(condition)} is nested too deeply.", "Write it with AND and OR."
        ) from None
    if parsed.get("error"):
        return  # it is no expression, and is refused as such
    unstable = _unstable()
    known = {name.lower() for name in columns}
    for part in _parts(parsed):
        if part.get("class") == "WINDOW":
            what = "the order of the rows"
        elif part.get("sample"):
            what = "a random sample"
        elif part.get("class") == "FUNCTION" and str(part.get("function_name")).lower() in unstable:
            what = f"{part['function_name']}()"
        elif (name := _bare_name(part)) in unstable | _MOMENTS and name not in known:
            what = name
        else:
            continue
        raise DataError(
            f"data.where = {_short(condition)} depends on {what}, so that each run would find other samples.",
            "Compare what stands in the row; a random part of the data is what data.limit draws.",
        )


@cache
def _unstable() -> frozenset[str]:
    """Return the names of DuckDB's functions that give another value from one time to the next."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        found = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'scalar' AND "
            "stability <> 'CONSISTENT' OR function_type = 'macro' AND regexp_matches(macro_definition, ?)",
            [_OF_THE_MOMENT],
        ).fetchall()
    return frozenset(name for (name,) in found) - _HARMLESS


def _short(condition: str) -> str:
    return repr(condition if len(condition) <= 200 else condition[:199] + "…")


def _parts(parsed: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a parsed statement."""
    waiting = [parsed]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _bare_name(part: dict[str, Any]) -> str:
    """Return the name of what stands as a column in a condition, such as current_date, which may be a function."""
    names = part.get("column_names") if part.get("class") == "COLUMN_REF" else None
    return str(names[0]).lower() if isinstance(names, list) and len(names) == 1 else ""


def _table(rows: Sequence[Row], metadata_columns: Sequence[str]) -> pa.Table:
    """Return keys, captions and metadata as columns; of two names that SQL takes for one the second is `name_2`."""
    import pyarrow as pa

    columns: dict[str, pa.Array] = {
        "key": _texts([row.key for row in rows]),
        "caption": _texts([row.caption for row in rows]),
    }
    taken = {"key", "caption"}
    for name in metadata_columns:
        free = name
        number = 2
        while free.lower() in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free.lower())
        columns[free] = _column([row.metadata.get(name) for row in rows])
    return pa.table(columns)


def _column(values: list[Any]) -> pa.Array:
    """Return a column with the type of its values, as text where they have no common one."""
    import pyarrow as pa

    texts = [value for value in values if value is not None and value != ""]
    if texts and all(isinstance(text, str) and text.isascii() for text in texts):
        if all(_WHOLE_NUMBER.fullmatch(text) for text in texts):
            return pa.array([int(value) if value else None for value in values], pa.int64())
        if all(_NUMBER.fullmatch(text) and text[-1].isdigit() for text in texts):
            return pa.array([float(value) if value else None for value in values], pa.float64())
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _texts([None if value is None else str(value) for value in values])


def _texts(values: list[str | None]) -> pa.Array:
    import pyarrow as pa

    return pa.array([None if value is None else as_utf8(value) for value in values], pa.string())


def _in_words(setting: str, message: str, names: list[str]) -> DataError:
    """Return what DuckDB objects to, in a line."""
    known = f"known are {', '.join(names)}."
    if unknown := re.search(r'Referenced column "(.*?)" not found', message, re.DOTALL):
        near = nearest(unknown[1].lower(), [name.lower() for name in names], most=3)
        hint = did_you_mean([name for name in names if name.lower() in near], "did") or known
        return DataError(f"{setting}: there is no column {unknown[1]!r}; {hint}", "Text stands in single quotes.")
    line = re.sub(r"^[A-Z][A-Za-z ]* Error: ", "", (message.splitlines() or [message])[0])[:200]
    return DataError(f"{setting} cannot be applied: {line.rstrip('.')}.", f"It is an SQL condition; {known}")
