"""Models that a team's own function makes: what they may be, and what is said when their code is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from koda.config import AuditConfig, ModelSpec, check_config
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model

STATED = {"image_size": 8, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
MODULE = """
    import torch

    def make():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5), torch.nn.Dropout(0.5))
"""
BOTH = """
    import torch

    class Both:
        def __init__(self):
            torch.manual_seed(0)
            self.vision = torch.nn.Linear(192, 4)

        def encode_image(self, images):
            return self.vision(images.flatten(1))

        def encode_text(self, captions):
            return torch.tensor([[float(len(c)), 1.0, 2.0] for c in captions])

    make = Both
"""


def write(tmp_path: Path, source: str, name: str = "model.py") -> Path:
    path = tmp_path / name
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def spec(path: Path, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"python:{path}:make", **STATED, **settings})


def test_a_module_is_an_image_model(tmp_path: Path) -> None:
    model = resolve_model(spec(write(tmp_path, MODULE)))
    encoder = load_encoder(model, "cpu")
    assert encoder.modalities == ("image",)
    assert encoder.dims == {"image": 5}
    assert model.label == "model.py:make"
    assert model.fingerprint.precision == "fp32"  # auto does not touch the team's own code
    torch.manual_seed(0)
    own = torch.nn.Linear(192, 5)
    pixels = torch.rand(3, 3, 8, 8)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(own(pixels.flatten(1)), dim=1).numpy()  # no dropout
    assert np.allclose(encoder.encode_images(pixels), expected, atol=1e-6)
    assert encoder.describe()["parameters"] == 192 * 5 + 5


def test_a_module_runs_in_the_stated_precision(tmp_path: Path) -> None:
    encoder = load_encoder(resolve_model(spec(write(tmp_path, MODULE), precision="bf16")), "cpu")
    assert next(encoder.model.parameters()).dtype == torch.bfloat16


def test_an_object_may_embed_both(tmp_path: Path) -> None:
    model = resolve_model(spec(write(tmp_path, BOTH)))
    encoder = load_encoder(model, "cpu")
    assert encoder.modalities == ("image", "text")
    assert encoder.dims == {"image": 4, "text": 3}
    assert encoder.encode_texts(["a", "bcd"]).shape == (2, 3)
    assert encoder.count_long(["word " * 1000]) == 0  # koda does not know its tokenizer
    with pytest.raises(ModelError, match="cannot change its precision"):
        resolve_model(spec(write(tmp_path, BOTH), precision="bf16"))


def test_a_text_model_needs_no_preprocessing(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        import torch

        class Text:
            def encode_text(self, captions):
                return torch.ones(len(captions), 2)

        def make():
            return Text()
        """,
    )
    encoder = load_encoder(resolve_model(ModelSpec(name=f"python:{path}:make")), "cpu")
    assert encoder.modalities == ("text",)
    assert encoder.describe()["image_size"] is None


def test_preprocessing_must_be_stated(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)does not say how its images are prepared.*image_size, image_mean"):
        resolve_model(ModelSpec(name=f"python:{write(tmp_path, MODULE)}:make"))


def test_the_fingerprint_holds_weights_source_and_preprocessing(tmp_path: Path) -> None:
    path = write(tmp_path, MODULE)
    first = resolve_model(spec(path)).fingerprint
    assert resolve_model(spec(write(tmp_path, MODULE, "copy.py"))).fingerprint.digest == first.digest
    assert resolve_model(spec(path, image_size=8, image_mean=[0.4] * 3)).fingerprint.digest != first.digest
    write(tmp_path, MODULE.replace("seed(0)", "seed(1)"))
    other = resolve_model(spec(path)).fingerprint
    assert other.weights != first.weights
    write(tmp_path, MODULE + "\n    # another line\n")
    again = resolve_model(spec(path)).fingerprint
    assert again.weights == first.weights
    assert again.digest != first.digest


def test_weights_that_cannot_be_seen_are_told_by_what_they_do(tmp_path: Path) -> None:
    """A callable may read its weights from a file that its source does not show to have changed."""
    weights = tmp_path / "w.pt"
    path = write(
        tmp_path,
        f"""
        import torch

        def make():
            hidden = [torch.load({str(weights)!r}, weights_only=True)]
            return lambda images: images.flatten(1) @ hidden[0]
        """,
    )
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        torch.save(torch.randn(192, 3), weights)
        found.append(resolve_model(spec(path)).fingerprint.digest)
    assert found[0] == found[1] != found[2]


def test_random_weights_are_never_audited(tmp_path: Path) -> None:
    model = resolve_model(spec(write(tmp_path, MODULE.replace("torch.manual_seed(0)", "torch.seed()"))))
    with pytest.raises(ModelError, match="other weights each time"):
        load_encoder(model, "cpu")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def make(:", r"cannot be imported: SyntaxError.*model\.py, line 1\)"),
        ("import no_such_package", r"cannot be imported: ModuleNotFoundError.*model\.py, line 1\)"),
        ("\n\nraise SystemExit(1)", r"cannot be imported: SystemExit.*model\.py, line 3\)"),
        ("x = 1", "has no function 'make'"),
        ("def make():\n    return 1 / 0", r"failed: ZeroDivisionError: division by zero\. \(.*model\.py, line 2\)"),
        ("def make():\n    return 3", "returned int, which is no model"),
        (
            "def make():\n    def f(images):\n        return images['x']\n    return f",
            r"failed on a batch of 1: .*model\.py, line 3\)",
        ),
        ("def make():\n    return lambda images: images", r"(?s)shape \(1, 3, 8, 8\).*of shape \(1, d\)"),
        ("def make():\n    return lambda images: images.flatten(1).long()", "int64"),
    ],
)
def test_wrong_code_is_told_with_file_and_line(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(spec(write(tmp_path, source)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("python:/no/such/file.py:make", "does not exist"),
        ("python:no_such_module:make", "there is no module 'no_such_module'"),
        ("python:json", "names no function"),
        ("python:json:no_such_function", "has no function 'no_such_function'"),
    ],
)
def test_a_function_that_is_not_there_is_said_so(name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        resolve_model(ModelSpec(name=name))


def test_a_module_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path, MODULE, "a_team_module.py")
    model = resolve_model(ModelSpec.model_validate({"name": "python:a_team_module:make", **STATED}))
    assert model.label == "a_team_module:make"


def test_relative_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    raw = {
        "baseline": {"name": "python:model.py:make"},
        "candidate": {"name": "python:package.module:make"},
        "data": {"path": "pairs.tsv"},
    }
    config: AuditConfig = check_config(raw, "here", tmp_path)
    assert config.baseline.name == f"python:{tmp_path / 'model.py'}:make"
    assert config.candidate.name == "python:package.module:make"
