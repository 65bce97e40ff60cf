"""Credentials in URLs: the process uses them, and nothing that it shows or keeps holds them."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import fsspec
import pytest
from fsspec import AbstractFileSystem
from PIL import Image

from koda.checks import Check
from koda.config import AuditConfig, DataConfig, ModelSpec
from koda.config.audit import check_config
from koda.datasets import read_dataset
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError
from koda.secrets import conceal, redact, reveal

USER, PASSWORD, TOKEN = "reader", "Hidden-Pa55", "f00dfacecafe"


class Vault(AbstractFileSystem):
    """Files behind a user and a password, or a token in the query; as fsspec's HTTP files, they are named by URL."""

    protocol = "vault"
    files: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def _opened(self, url: str) -> bytes:
        parts = urlsplit(url)
        if (parts.username, parts.password) != (USER, PASSWORD) and parse_qs(parts.query).get("token") != [TOKEN]:
            raise ConnectionRefusedError(f"403, message='Forbidden', url={url!r}")
        if parts.path not in self.files:
            raise FileNotFoundError(url)
        return self.files[parts.path]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        return self._opened(path)[start:end]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self._opened(path)), "type": "file"}

    def isdir(self, path: str) -> bool:
        return False


@pytest.fixture
def files() -> Iterator[dict[str, bytes]]:
    """What lies in the vault."""
    fsspec.register_implementation("vault", Vault, clobber=True)
    yield Vault.files
    Vault.files.clear()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://me:pass@host/a/b.tsv", "https://host/a/b.tsv"),
        ("https://me:p@ss@host:8080/a", "https://host:8080/a"),
        ("https://me:pa/ss?w@host/a", "https://host/a"),
        ("https://ghp_abcdef@host/a", "https://host/a"),
        ("sftp://me@host/a", "sftp://me@host/a"),
        ("sftp://me:secret@host/a", "sftp://host/a"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("s3://KEYID:SECRET@bucket/a", "s3://bucket/a"),
        ("hf://datasets/me/set@main/a.parquet", "hf://datasets/me/set@main/a.parquet"),
        ("https://h/a?X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Expires=9&X-Amz-Signature=S", "https://h/a"),
        ("https://h/a?v=3&sv=2024&se=2026-01-01&sr=c&sp=rl&sig=abc%3D", "https://h/a?v=3"),
        ("https://h/a?id=7&Expires=12&Signature=abc&Key-Pair-Id=K", "https://h/a?id=7"),
        ("https://h/a?GoogleAccessId=x&Expires=1&Signature=y", "https://h/a"),
        ("https://h/a?page=2&access_token=abc", "https://h/a?page=2"),
        ("https://h/a?api-key=abc&key=one.png", "https://h/a?key=one.png"),
        ("https://h/a?key=AIzaSyA0123456789012345678901234567", "https://h/a"),
        ("https://h/a?expires=soon&policy=none", "https://h/a?expires=soon&policy=none"),
        ("zip://a.csv::https://me:pass@host/b.zip", "zip://a.csv::https://host/b.zip"),
        ("http://[::1]:80/a?token=abc", "http://[::1]:80/a"),
        ("https://me:pass@host/my file.png?token=abc", "https://host/my file.png"),
        ("see https://h/a?token=abcdef, or /b", "see https://h/a, or /b"),
        ("a cat: http and @ all", "a cat: http and @ all"),
        ("s3://bucket/{000..010}.tar", "s3://bucket/{000..010}.tar"),
    ],
)
def test_only_what_is_secret_is_taken_out_and_it_comes_back(given: str, kept: str) -> None:
    assert conceal(given) == kept
    assert conceal(kept) == kept
    if given != kept and not given.startswith("see"):
        assert reveal(kept) == given


def test_what_lies_below_a_folder_is_fetched_with_its_credentials() -> None:
    conceal("https://me:pass@folders/data/p.tsv")
    assert reveal("https://folders/data/images/1.png") == "https://me:pass@folders/data/images/1.png"
    conceal("https://blobs/container?sv=1&sig=abc")
    assert reveal("https://blobs/container/a/1.png") == "https://blobs/container/a/1.png?sv=1&sig=abc"
    assert reveal("https://blobs/other/1.png") == "https://blobs/other/1.png"
    conceal("https://shards/set/{00..10}.tar?sig=abc")
    assert reveal("https://shards/set/03.tar") == "https://shards/set/03.tar?sig=abc"


def test_long_texts_are_looked_through_in_no_time() -> None:
    for text in (
        "x" * 200_000 + " ://",
        "https://h/ " + "?&," * 70_000,
        "https://h:" + "a:" * 99_999,
        "https://" + "a" * 200_000,
        "https://h/?" + "&a=1" * 50_000,
        "@:/" * 70_000,
    ):
        began = time.process_time()
        conceal(f"see {text}", remember=False)
        redact(text)
        assert time.process_time() - began < 2


def test_what_is_only_shown_lends_its_credentials_to_nothing() -> None:
    assert conceal("https://me:pass@shown/a?token=abc", remember=False) == "https://shown/a"
    assert reveal("https://shown/a") == "https://shown/a"
    assert reveal("https://shown/b") == "https://shown/b"


def test_messages_lose_the_whole_query_of_a_signed_url_and_the_password_in_any_form() -> None:
    conceal("https://someone:Unusual-Word-1@messages/a")
    words = redact(
        "403, url='https://someone:Unusual-Word-1@messages/a?x=1&X-Amz-Signature=12ab&y=2'; "
        "BasicAuth('Unusual-Word-1'); Authorization: Bearer abcdef0123456789"
    )
    assert words == "403, url='https://messages/a'; BasicAuth('***'); Authorization: Bearer ***"
    assert redact(f"no {Path('https://a:bcdef@h/x')}") == "no https:/h/x"
    assert Check("Prefect", "ok", "at https://me:hidden@host/api").found == "at https://host/api"
    error = DataError("https://a:b@h/x?sig=abc is gone", "Look at https://a:b@h/x")
    assert "a:b" not in repr(error) + str(error) and "abc" not in repr(error)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/a b.png?token=zzz", "https://h/a b.png"),
        ("https://h/a b.png?token=zzz, which is gone.", "https://h/a b.png, which is gone."),
        ("https://h/a?name=my cat&v=2&token=zzz", "https://h/a?name=my cat"),
        ("https://me:zz z@host/a b.png", "https://host/a b.png"),
        ("zip://a b.csv::https://me:zz z@host/b c.zip?sig=zzz", "zip://a b.csv::https://host/b c.zip"),
        ("https://host:8080 refused it: ask admin@host", "https://host:8080 refused it: ask admin@host"),
        ("https://host/a.tsv: is it whole? Its columns are token, key", None),
        ("https://host/a b.png?size=8 & more", None),
    ],
)
def test_a_message_that_begins_as_a_url_is_one_to_its_end_and_its_words_stay(text: str, shown: str | None) -> None:
    assert redact(text) == (text if shown is None else shown)


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("by_token", [True, False])
def test_a_data_set_behind_a_password_is_read_and_nothing_of_it_holds_the_password(
    files: dict[str, bytes], by_token: bool
) -> None:
    files["/d/img/0.png"], files["/d/img/1.png"] = png(0), png(1)
    signed = f"vault://host/d/img/1.png?token={TOKEN}"
    files["/d/p.tsv"] = f"filepath\ttitle\turl\nimg/0.png\tone\t{signed}\n{signed}\ttwo\tx\n".encode()
    url = f"vault://host/d/p.tsv?token={TOKEN}" if by_token else f"vault://{USER}:{PASSWORD}@host/d/p.tsv"
    images = f"vault://host/d?token={TOKEN}" if by_token else None
    config = DataConfig(path=url, images=images)
    dataset = read_dataset(config)
    assert [pair.key for pair in dataset.pairs] == ["img/0.png", signed.partition("?")[0]]
    assert len({pair.image_digest for pair in dataset.pairs}) == 2
    assert all(pair.image is not None and len(pair.image.read()) for pair in dataset.pairs)
    assert config.path == "vault://host/d/p.tsv"
    assert not re.search(f"{PASSWORD}|{TOKEN}", repr(config) + config.model_dump_json() + repr(dataset))


def test_a_refusal_names_the_url_without_its_credentials(files: dict[str, bytes]) -> None:
    for url in (f"vault://{USER}:Wrong-Pa55@host/p.tsv", "vault://host/p.tsv?X-Amz-Signature=ab12cd&v=1"):
        with pytest.raises(DataError, match=re.escape("vault://host/p.tsv")) as caught:
            read_dataset(DataConfig(path=url, images="vault://host/"))
        chain, error = "", caught.value
        while error is not None:
            chain, error = chain + repr(error), error.__cause__  # type: ignore[assignment]
        assert not re.search("Wrong-Pa55|ab12cd", chain)
    rows = "".join(f"vault://host/{i}.png?token=Wr0ngToken\tx\n" for i in range(3))
    files["/d/p.tsv"] = f"filepath\ttitle\n{rows}".encode()
    with pytest.raises(DataError) as caught:
        read_dataset(DataConfig(path=f"vault://host/d/p.tsv?token={TOKEN}"))
    assert not re.search(f"Wr0ngToken|{TOKEN}", repr(caught.value))


def test_the_settings_of_an_audit_and_their_errors_hold_no_credentials(tmp_path: Path) -> None:
    raw = {
        "baseline": {"name": "ViT-B-32", "pretrained": "https://me:Hidden-1@host/w.pt"},
        "candidate": {"name": "ViT-B-32", "source": "https://host/run?token=Hidden-2"},
        "data": {"path": "https://me:Hidden-3@host/p.tsv", "datasheet": "https://h/s?sig=Hidden-4"},
    }
    config = check_config(raw, "a.yaml", tmp_path)
    assert "Hidden" not in json.dumps(config.model_dump(mode="json")) + repr(config)
    other = check_config(json.loads(json.dumps(raw).replace("Hidden", "Another")), "a.yaml", tmp_path)
    assert other == config  # so is what is digested of it
    with pytest.raises(ConfigError) as caught:
        check_config({**raw, "data": {"path": ["https://me:Hidden-3@host/p.tsv"]}}, "a.yaml", tmp_path)
    assert "Hidden" not in repr(caught.value)
    for model in (AuditConfig, ModelSpec):
        with pytest.raises(ValueError) as refused:
            model.model_validate({"name": "https://me:Hidden-5@host/x", "wrong": 1})
        assert "Hidden" not in str(refused.value)


def test_keys_and_columns_of_embeddings_lend_their_credentials_to_no_other_url(tmp_path: Path) -> None:
    """Those of a picture, whatever its column is called, are for the picture alone."""
    rows = [f"https://me:Hidden@{{}}/d/{i}.png" for i in range(3)]
    columns = {name: [row.format(f"{name}.host") for row in rows] for name in ("image_path", "photo")}
    EmbeddingTable([row.format("keys.host") for row in rows], [[1.0, 2.0]] * 3, metadata=columns).save(tmp_path / "t")
    table = EmbeddingTable.open(tmp_path / "t")
    assert table.keys[0] == "https://keys.host/d/0.png"
    for location in ("https://keys.host/d/0.png", "https://keys.host/d/other.png", "https://keys.host/x"):
        assert reveal(location) == location
    for name, given in columns.items():
        assert list(map(reveal, table.metadata[name])) == given
        for location in (f"https://{name}.host/d/other.png", f"https://{name}.host/x"):
            assert reveal(location) == location


def test_keys_and_columns_of_embeddings_hold_no_credentials(tmp_path: Path) -> None:
    keys = [f"https://host/{i}.png?token=Hidden" for i in range(3)]
    EmbeddingTable(keys, [[1.0, 2.0]] * 3, metadata={"image_path": keys}).save(tmp_path / "t")
    table = EmbeddingTable.open(tmp_path / "t")
    assert table.keys[0] == table.metadata["image_path"][0] == "https://host/0.png"
