"""What a pattern finds: in order, under the right names, with a stamp that changes whenever a checkpoint does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest

from koda.checkpoints.finding import find
from koda.config import WatchConfig
from koda.config.operation import absolute_watch


def found(pattern: str, folder: Path = Path("/")) -> list[str]:
    return [each.label for each in find(absolute_watch(WatchConfig(path=pattern), folder))]


def stamp(path: Path) -> str:
    return find(WatchConfig(path=str(path)))[0].stamp


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_epochs_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    put(*(tmp_path / "runs" / run / f"epoch_{n}.pt" for run in ("b", "a") for n in (10, 2, "latest")))
    assert found("runs/*/epoch_*.pt", tmp_path) == [
        "a/epoch_2.pt", "a/epoch_10.pt", "a/epoch_latest.pt", "b/epoch_2.pt", "b/epoch_10.pt", "b/epoch_latest.pt",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [".epoch_1.pt", "epoch_1.pt.tmp", "tmp-epoch_1.pt", "epoch_1.pt.part", ".cache/a.pt"])
def test_what_programs_write_under_another_name_first_is_passed_over(tmp_path: Path, name: str) -> None:
    put(tmp_path / "runs" / name, tmp_path / "runs" / "epoch_2.pt")
    assert found("runs/**", tmp_path)[-1] == "epoch_2.pt"
    assert not any("1" in label or "a.pt" in label for label in found("runs/**/*", tmp_path))


def test_a_pattern_without_a_wildcard_and_a_folder_with_brackets(tmp_path: Path) -> None:
    folder = tmp_path / "runs [1]"
    put(folder / "epoch_1.pt", folder / "a[2].pt")
    assert found("epoch_*.pt", folder) == ["epoch_1.pt"]
    assert found("epoch_1.pt", folder) == ["epoch_1.pt"]
    assert found(str(folder / "a[2].pt")) == ["runs [1]/a[2].pt"]  # as it is written, it could be a pattern
    assert found("nothing_*.pt", folder) == []


def test_the_files_of_a_model_are_no_checkpoints_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "out/step_1/config.json", tmp_path / "out/step_1/model.safetensors", tmp_path / "out/step_2.pt")
    assert found("out/**/*", tmp_path) == ["step_1", "step_2.pt"]


def test_a_folder_that_is_no_model_folder_is_passed_over_until_it_is_one(tmp_path: Path) -> None:
    put(tmp_path / "out/step_1/model.safetensors", tmp_path / "out/step_1/deep/more.bin", tmp_path / "out/logs/a.log")
    assert found("out/*", tmp_path) == [] and found("out/step_1", tmp_path) == []
    put(tmp_path / "out/step_1/open_clip_config.json")
    assert found("out/*", tmp_path) == found("out/step_1", tmp_path) == ["step_1"]
    system = fsspec.filesystem("memory")
    system.pipe(f"/{tmp_path.name}/out/step_2/model.safetensors", b"x")
    url = f"memory://{tmp_path.name}/out/*"
    assert found(url) == []
    system.pipe(f"/{tmp_path.name}/out/step_2/config.json", b"x")
    assert found(url) == ["step_2"]


def test_a_stamp_changes_with_every_change(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    put(path)
    seen = {stamp(path)}
    assert stamp(path) in seen
    before = path.stat()
    path.write_bytes(b"y")  # as large as before
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # and as old
    seen.add(stamp(path))
    path.write_bytes(b"xyz")
    seen.add(stamp(path))
    path.unlink()
    put(path)
    seen.add(stamp(path))
    assert len(seen) == 4


def test_the_stamp_of_a_folder_is_that_of_all_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    put(folder / "config.json", folder / "deep" / "weights.bin")
    before = stamp(folder)
    assert stamp(folder) == before
    (folder / "deep" / "weights.bin").write_bytes(b"xy")
    after = stamp(folder)
    put(folder / "new.json")
    assert len({before, after, stamp(folder)}) == 3


def test_the_shards_of_an_index_are_the_checkpoint_too(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    put(tmp_path / "one.safetensors")
    before = stamp(index)
    (tmp_path / "one.safetensors").write_bytes(b"other")
    assert stamp(index) != before


def test_a_store_behind_a_url(tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    for name in ("a/epoch_10.pt", "a/epoch_2.pt", "a/.epoch_3.pt"):
        system.pipe(f"/{tmp_path.name}/{name}", b"x")
    url = f"memory://{tmp_path.name}/*/epoch_*.pt"
    assert found(url) == ["a/epoch_2.pt", "a/epoch_10.pt"]
    first = find(WatchConfig(path=url))[0]
    assert first.location == f"memory:///{tmp_path.name}/a/epoch_2.pt" and first.is_remote
    system.pipe(f"/{tmp_path.name}/a/epoch_2.pt", b"xy")
    assert find(WatchConfig(path=url))[0].stamp != first.stamp


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    put(tmp_path / "epoch_1.pt")
    assert found(f"file://{tmp_path}/epoch_*.pt") == ["epoch_1.pt"]
