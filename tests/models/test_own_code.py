"""The code of a python: model: every file of it is in the fingerprint, and what runs is what is on disk."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from importlib.machinery import FileFinder, SourceFileLoader
from pathlib import Path

import numpy as np
import pytest
import torch

from koda.config import ModelSpec
from koda.errors import ModelError
from koda.models import load_encoder, resolve_model
from koda.models.own_reads import _counts
from koda.storage import digests
from tests.models.test_tokenizers import WORDS, write_tokenizer

STATED = {"image_size": 8, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
MAIN = """
    from net import Net

    def make():
        return Net()
"""
NET = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.linear = torch.nn.Linear(192, 5)

        def forward(self, images):
            return self.linear(images.flatten(1)) * 2 + 0
"""
PIXELS = torch.linspace(-1, 1, 192).view(1, 3, 8, 8)


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


def spec(path: Path | str, **settings: object) -> ModelSpec:
    return ModelSpec.model_validate({"name": f"python:{path}:make", **STATED, **settings})


def embed(model: ModelSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return load_encoder(resolve_model(model, "cpu"), "cpu").encode_images(PIXELS)


@pytest.fixture
def main(tmp_path: Path) -> Path:
    write(tmp_path / "a" / "net.py", NET)
    return write(tmp_path / "a" / "model.py", MAIN)


def test_a_file_imports_what_lies_beside_it_as_a_program_does(main: Path) -> None:
    path = list(sys.path)
    model = resolve_model(spec(main))
    assert list(model.fingerprint.files) == ["code", "code/net.py"]
    assert load_encoder(model, "cpu").dims == {"image": 5}
    assert sys.path == path


def test_a_change_in_a_file_that_is_imported_is_another_model_in_the_same_process(main: Path) -> None:
    """The change is of the same second and size, which the cache of bytecode takes for no change."""
    first, before = resolve_model(spec(main)).fingerprint, embed(spec(main))
    write(main.parent / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    second = resolve_model(spec(main)).fingerprint
    assert second.weights == first.weights
    assert second.digest != first.digest
    assert not np.allclose(embed(spec(main)), before)


def test_so_it_is_where_a_library_has_put_a_loader_of_its_own_into_the_search(
    main: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beartype does, which Prefect brings along; its loader takes bytecode from the cache."""

    class Loader(SourceFileLoader):
        pass

    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "path_hooks", [FileFinder.path_hook((Loader, [".py"])), *sys.path_hooks])
    before = embed(spec(main))
    write(main.parent / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    assert not np.allclose(embed(spec(main)), before)


def test_a_module_on_the_path_that_changed_is_imported_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write(tmp_path / "team_of_tests" / "__init__.py", "")
    write(tmp_path / "team_of_tests" / "parts" / "net.py", NET)
    write(tmp_path / "team_of_tests" / "models.py", MAIN.replace("from net", "from .parts.net"))
    model = spec("team_of_tests.models")
    first, before = resolve_model(model).fingerprint, embed(model)
    assert list(first.files) == ["code", "code/__init__.py", "code/parts/net.py"]
    write(tmp_path / "team_of_tests" / "parts" / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    assert resolve_model(model).fingerprint.digest != first.digest
    assert not np.allclose(embed(model), before)


@pytest.mark.parametrize(
    "source",
    [
        "def make():\n    import net\n    return net.Net()\n",
        "import importlib\n\ndef make():\n    return importlib.import_module('net').Net()\n",
        "import sys, os\nsys.path.insert(0, os.path.dirname(__file__))\nimport net\nmake = net.Net\n",
        "from net import *\n\ndef make():\n    return Net()\n",
        "import middle\n\ndef make():\n    return middle.net.Net()\n",
    ],
)
def test_however_it_is_imported_it_counts(main: Path, source: str) -> None:
    write(main, source)
    write(main.parent / "middle.py", "import net\n")
    first = resolve_model(spec(main)).fingerprint
    assert "code/net.py" in first.files
    write(main.parent / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    assert resolve_model(spec(main)).fingerprint.digest != first.digest


def test_what_is_imported_when_it_runs_counts(main: Path) -> None:
    write(main.parent / "late.py", "FACTOR = 3\n")
    write(main.parent / "net.py", NET.replace("return self", "import late\n            return late.FACTOR * self"))
    first = resolve_model(spec(main)).fingerprint
    write(main.parent / "late.py", "FACTOR = 4\n")
    assert resolve_model(spec(main)).fingerprint.digest != first.digest
    load_encoder(resolve_model(spec(main)), "cpu")


READS = """
    import json
    from pathlib import Path
    import torch

    HERE = Path(__file__).parent
    {at_import}

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            {at_making}
            self.factor = SETTINGS["factor"]

        def forward(self, images):
            return images.flatten(1)[:, :5] * self.factor + self.factor
"""
SETTINGS = "SETTINGS = json.loads((HERE / 'settings.json').read_text())"


@pytest.mark.parametrize("when", ["at_import", "at_making"])
def test_a_file_that_the_code_reads_counts_and_is_read_anew(main: Path, when: str) -> None:
    """No weight shows it: the settings change what the model does, and nothing else."""
    write(main.parent / "net.py", READS.format(**{"at_import": "", "at_making": "", when: SETTINGS}))
    write(main.parent / "settings.json", '{"factor": 2}')
    first, before = resolve_model(spec(main)), embed(spec(main))
    assert sorted(first.fingerprint.files) == ["code", "code/net.py", "read/settings.json"]
    write(main.parent / "settings.json", '{"factor": 3}')
    with pytest.raises(ModelError, match="or a file that it reads, changed"):
        load_encoder(first, "cpu")
    assert resolve_model(spec(main)).fingerprint.digest != first.fingerprint.digest
    write(main.parent / "settings.json", '{"factor": -2}')
    assert not np.allclose(embed(spec(main)), before)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("/usr/src/app/vocabulary.json", True),
        ("/usr/local/models/vocabulary.json", True),
        ("/library/vocabulary.json", True),
        ("/data/weights.pth", True),
        ("/usr/lib/locale/locale-archive", False),
        ("/usr/share/zoneinfo/UTC", False),
        ("/lib/os-release", False),
        ("/lib64/settings.json", False),
        ("/etc/hosts", False),
        (f"{sys.base_prefix}/bin/python3", False),
        (f"{sys.prefix}/lib/python3/settings.json", False),
        ("/data/site-packages/easy.pth", False),
        ("/data/net.py", False),
    ],
)
def test_what_the_system_or_a_package_brought_does_not_count_and_all_else_does(
    monkeypatch: pytest.MonkeyPatch, name: str, counts: bool
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert _counts(Path(name)) == counts


def test_a_large_file_that_the_code_reads_is_digested_once(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(main.parent / "net.py", READS.format(at_import=SETTINGS, at_making=""))
    settings = write(main.parent / "settings.json", '{"factor": 2}')
    time.sleep(0.05)  # a file that has just changed could do so again unseen, and is read again
    read: list[str] = []
    digest = digests.digest_file
    monkeypatch.setattr(digests, "digest_file", lambda path: (read.append(path.name), digest(path))[1])
    load_encoder(resolve_model(spec(main)), "cpu")
    resolve_model(spec(main))
    assert read.count(settings.name) == 1


def test_a_tokenizer_that_the_code_loads_counts(tmp_path: Path) -> None:
    source = """
        from pathlib import Path
        import torch
        from transformers import AutoTokenizer

        class Text:
            def __init__(self):
                self.tokenizer = AutoTokenizer.from_pretrained(Path(__file__).parent / "words")

            def encode_text(self, captions):
                ids = self.tokenizer(list(captions), padding="max_length", max_length=8)["input_ids"]
                return torch.tensor(ids).float()

        make = Text
    """
    main = write(tmp_path / "model.py", source)
    write_tokenizer(tmp_path / "words")
    model = ModelSpec(name=f"python:{main}:make")
    first = resolve_model(model).fingerprint
    assert "read/words/tokenizer.json" in first.files
    write_tokenizer(tmp_path / "words", WORDS[::-1])
    assert resolve_model(model).fingerprint.digest != first.digest


def test_two_models_may_each_have_a_file_of_one_name(main: Path, tmp_path: Path) -> None:
    write(tmp_path / "b" / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    other = write(tmp_path / "b" / "model.py", MAIN)
    first = embed(spec(main))
    assert not np.allclose(embed(spec(other)), first)
    assert np.array_equal(embed(spec(main)), first)
    assert resolve_model(spec(main)).fingerprint.digest != resolve_model(spec(other)).fingerprint.digest


def test_a_copied_folder_is_the_same_model(main: Path, tmp_path: Path) -> None:
    write(tmp_path / "b" / "net.py", NET)
    other = write(tmp_path / "b" / "another_name.py", MAIN)
    assert resolve_model(spec(main)).fingerprint.digest == resolve_model(spec(other)).fingerprint.digest


def test_code_that_changes_after_it_was_digested_does_not_run_under_the_old_name(main: Path) -> None:
    model = resolve_model(spec(main))
    write(main.parent / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    with pytest.raises(ModelError, match=r"The code .* changed"):
        load_encoder(model, "cpu")


def test_a_file_behind_a_link_finds_what_lies_beside_the_link_and_then_beside_the_file(
    main: Path, tmp_path: Path
) -> None:
    link = tmp_path / "links" / "model.py"
    link.parent.mkdir()
    link.symlink_to(main)
    assert "code/../a/net.py" in resolve_model(spec(link)).fingerprint.files
    write(link.parent / "net.py", NET.replace("* 2 + 0", "* 2 + 1"))
    assert "code/net.py" in resolve_model(spec(link)).fingerprint.files
    assert not np.allclose(embed(spec(link)), embed(spec(main)))


def test_versions_of_the_packages_that_it_imports_are_in_the_fingerprint(main: Path) -> None:
    write(main.parent / "net.py", "import timm, numpy.linalg, json\n" + textwrap.dedent(NET))
    libraries = resolve_model(spec(main)).fingerprint.libraries
    assert {"torch", "torchvision", "pillow", "timm", "numpy"} <= set(libraries)
    assert "json" not in libraries


def test_an_object_that_answers_otherwise_each_time_is_refused(tmp_path: Path) -> None:
    """Its weights cannot be seen; what it gives for one picture stands for them, and has to stay."""
    source = """
        import random

        def make():
            factor = random.random()
            return lambda images: images.flatten(1) + factor
    """
    model = resolve_model(spec(write(tmp_path / "model.py", source)))
    with pytest.raises(ModelError, match="other embeddings of the same picture or caption each time"):
        load_encoder(model, "cpu")


def test_a_pipe_is_no_code(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.py")
    with pytest.raises(ModelError, match="is a named pipe"):
        resolve_model(spec(tmp_path / "model.py"))


def test_settings_of_other_kinds_are_refused(main: Path) -> None:
    with pytest.raises(ModelError, match="config is for an open_clip architecture"):
        resolve_model(spec(main, config="a.json"))
