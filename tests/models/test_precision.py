"""The precision that auto means."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from koda.config import ModelSpec
from koda.devices import is_fast_at_bf16
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model
from koda.models.precision import resolve_precision
from tests.tiny import write_tiny_model

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
AUTO = ModelSpec(name="ViT-B-32")


@pytest.mark.parametrize(
    ("amx", "avx", "precision"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_auto_is_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert resolve_precision(AUTO, CPU) == precision


def test_a_torch_without_these_questions_is_taken_for_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not is_fast_at_bf16(CPU)
    assert not is_fast_at_bf16(torch.device("meta"))


@pytest.mark.parametrize(("capability", "precision"), [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp32")])
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_precision(AUTO, GPU) == precision


def test_a_stated_precision_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert resolve_precision(ModelSpec(name="ViT-B-32", precision="fp32"), CPU) == "fp32"
    assert resolve_precision(ModelSpec(name="ViT-B-32", precision="fp16"), GPU) == "fp16"
    with pytest.raises(ModelError, match="fp16 needs a GPU"):
        resolve_precision(ModelSpec(name="ViT-B-32", precision="fp16"), CPU)


def test_the_resolved_precision_stands_in_the_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(name=f"local-dir:{write_tiny_model(tmp_path / 'tiny', seed=0)}")
    monkeypatch.setattr("koda.models.precision.is_fast_at_bf16", lambda place: True)
    model = resolve_model(spec, "cpu")
    assert model.fingerprint.precision == "bf16"
    assert load_encoder(model, "cpu").dtype == torch.bfloat16
    assert load_encoder(model.in_fp32(), "cpu").dtype == torch.float32
    monkeypatch.setattr("koda.models.precision.is_fast_at_bf16", lambda place: False)
    assert resolve_model(spec, "cpu").fingerprint.digest != model.fingerprint.digest
