"""The section runner: keys that do not fit its kind are refused in words, and it is no part of what an audit is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from koda.config import AuditConfig, RunnerConfig
from koda.config.audit import check_config
from koda.errors import ConfigError

MODELS = {"baseline": {"name": "ViT-B-32"}, "candidate": {"name": "ViT-B-16"}, "data": {"path": "pairs.tsv"}}


def checked(**runner: Any) -> AuditConfig:
    return check_config({**MODELS, "runner": runner}, "audit.yaml", Path("/work"))


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        ({"workers": 2}, "workers is of a cluster, and kind: threads has none"),
        ({"address": "tcp://a:1", "storage": "s3://b"}, "address and storage are of a cluster"),
        ({"kind": "dask", "address": "tcp://a:1", "workers": 2}, "the one at the address has its own workers"),
        ({"kind": "dask", "address": "ray://a:1"}, "ray://a:1 is no address of kind: dask; it is one of kind: ray"),
        ({"kind": "ray", "address": "tls://a:1"}, "it is one of kind: dask"),
        ({"kind": "ray", "address": "http://a:1"}, "http://a:1 is no address of kind: ray; it begins with ray"),
        ({"kind": "dask", "address": "somewhere"}, "'somewhere' is not the address of a cluster"),
        ({"kind": "dask", "address": "tcp://a:99999"}, "is not the address of a cluster"),
        ({"kind": "dask", "workers": 0}, "greater than or equal to 1"),
        ({"kind": "spark"}, "threads.*dask.*ray"),
        ({"kind": "dask", "adress": "a:1"}, "did you mean 'address'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(runner: dict[str, Any], words: str):
    with pytest.raises(ConfigError, match=words):
        checked(**runner)


def test_what_fits_is_taken_and_a_folder_is_relative_to_the_file():
    assert checked().runner == RunnerConfig()
    assert checked(kind="dask").runner.local_workers == 2
    assert checked(kind="ray", address="10.0.0.5:6379").runner.address == "10.0.0.5:6379"
    assert checked(kind="dask", storage="shared").runner.storage == "/work/shared"
    assert checked(kind="ray", storage="s3://bucket/koda").runner.storage == "s3://bucket/koda"


def test_the_runner_is_no_part_of_what_an_audit_is():
    config = checked(kind="dask", workers=4)
    assert config.settings() == checked().settings()
    assert config.audited() == checked().audited()
