"""Tables in text as programs and people write them: quotation marks, delimiters, encodings, line ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.config import DataConfig
from koda.datasets import PairDataset, read_dataset
from koda.errors import DataError


def read(folder: Path, data: bytes | str, name: str = "pairs.tsv", n: int = 12, **settings: object) -> PairDataset:
    for number in range(n):
        (folder / f"{number:02d}.png").write_bytes(b"%d" % number)
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_dataset(DataConfig.model_validate({"path": str(path), "max_rejected": 99, **settings}))


def captions(dataset: PairDataset) -> list[str]:
    return [pair.caption for pair in dataset.pairs]


def unquoted(mark: str = "\t", **changed: str) -> str:
    texts = {f"{number:02d}": f"caption {number}" for number in range(12)} | changed
    return f"filepath{mark}title\n" + "".join(f"{name}.png{mark}{text}\n" for name, text in texts.items())


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv"])
def test_a_caption_that_begins_with_a_quotation_mark_swallows_no_rows(tmp_path: Path, name: str) -> None:
    mark = "," if name.endswith("csv") else "\t"
    text = unquoted(mark, **{"03": '"a dog', "07": 'a cat"', "09": '"whole"'})
    dataset = read(tmp_path, text, name)
    assert dataset.ledger.n_source == len(dataset.pairs) == 12
    assert captions(dataset)[3] == '"a dog'
    assert captions(dataset)[7] == 'a cat"'
    assert captions(dataset)[9] == '"whole"'
    assert dataset.ledger.notes == ["quotation marks are part of its text: 1 row has one without a fellow"]


def test_one_unpaired_mark_in_a_quoted_table_costs_no_other_row(tmp_path: Path) -> None:
    rows = [f'{number:02d}.png,"one, two ""{number}"""' for number in range(12)]
    rows[4] = '04.png,"oops'
    dataset = read(tmp_path, "filepath,title\n" + "\n".join(rows), "pairs.csv")
    assert len(dataset.pairs) == 12
    assert captions(dataset)[4] == '"oops'
    assert captions(dataset)[5] == 'one, two "5"'


def test_captions_of_several_lines_stay_whole(tmp_path: Path) -> None:
    text = 'filepath,title\n00.png,"a dog\nwith a ball, red"\n01.png,plain\n02.png,"x\r\n\r\ny"\n'
    dataset = read(tmp_path, text, "pairs.csv")
    assert captions(dataset) == ["a dog\nwith a ball, red", "plain", "x\r\n\r\ny"]
    assert dataset.ledger.n_source == 3
    assert dataset.ledger.notes == ["2 rows run over several lines, in quotation marks"]
    first = read(tmp_path, 'title,filepath\n"a\nb",00.png\n"c, d",01.png\n', "first.csv")
    assert captions(first) == ["a\nb", "c, d"]


def test_marks_escaped_by_a_backslash(tmp_path: Path) -> None:
    dataset = read(tmp_path, 'filepath,title\n00.png,"he said \\"hi\\", twice"\n01.png,"b, c"\n', "pairs.csv")
    assert captions(dataset) == ['he said "hi", twice', "b, c"]


@pytest.mark.parametrize("mark", ["\t", ";", "|", ","])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv"])
def test_the_header_shows_what_separates_the_fields(tmp_path: Path, mark: str, name: str) -> None:
    dataset = read(tmp_path, unquoted(mark), name)
    assert captions(dataset) == [f"caption {number}" for number in range(12)]
    assert bool(dataset.ledger.notes) == (mark != {"pairs.csv": ",", "pairs.tsv": "\t"}[name])


def test_the_delimiter_that_is_stated_counts(tmp_path: Path) -> None:
    assert len(read(tmp_path, "sep=;\r\n" + unquoted(";"), "pairs.csv").pairs) == 12
    assert len(read(tmp_path, unquoted("^"), "pairs.csv", delimiter="^").pairs) == 12
    for tab in ("\t", "tab", r"\t"):
        assert len(read(tmp_path, unquoted("\t"), "pairs.csv", delimiter=tab).pairs) == 12
    for wrong in ("", ",,", '"', "\n"):
        with pytest.raises(ValueError, match="one character that stands between fields"):
            DataConfig(path="a.csv", delimiter=wrong)
    with pytest.raises(DataError, match="no column 'filepath'"):
        read(tmp_path, unquoted("^"), "pairs.csv")
    with pytest.raises(DataError, match="no column 'filepath'"):
        read(tmp_path, unquoted(","), "pairs.csv", delimiter=";")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_ends_of_lines(tmp_path: Path, encoding: str, end: str) -> None:
    data = unquoted(**{"05": "été, “ça”"}).replace("\n", end).encode(encoding)
    dataset = read(tmp_path, data)
    assert dataset.ledger.n_source == len(dataset.pairs) == 12
    assert captions(dataset)[5] == "été, “ça”"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "latin-1"])
def test_an_encoding_that_cannot_be_known_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"looks like UTF-16|line 7: not UTF-8(.|\n)*Save the file as UTF-8"):
        read(tmp_path, unquoted(**{"05": "été"}).encode(encoding))


def test_spaces_and_empty_columns_of_a_header_do_no_harm(tmp_path: Path) -> None:
    dataset = read(tmp_path, "filepath, title,,\n00.png,a,,\n", "pairs.csv")
    assert captions(dataset) == ["a"]
    assert dataset.metadata_columns == ()


def test_a_table_of_another_format_refuses_a_delimiter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(b"a")
    with pytest.raises(DataError, match=r"data\.delimiter: ; has no meaning for a folder of images"):
        read_dataset(DataConfig(path=str(tmp_path), delimiter=";"))
