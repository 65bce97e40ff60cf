"""The tokenizer of an open_clip model: whose files it is made of, and that it runs no code of theirs."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from koda.config import ModelSpec
from koda.errors import ModelError, PrerequisiteError, reason_of
from koda.models.fingerprint import TokenizerFiles
from koda.models.messages import fetching, first_line, needing, quiet
from koda.models.weight_files import check_regular
from koda.records import RECORD_FILE, SEEN_FILE
from koda.storage import digest_file, digest_json

_CLIP_VOCABULARY = 49408  # tokens of open_clip's own tokenizer
_CONFIGS = ("tokenizer_config.json", "config.json", "preprocessor_config.json", "processor_config.json")
_FILE_SETTINGS = ("bpe_path", "vocab_file", "tokenizer_file")
_SUFFIXES = (".json", ".model", ".jinja", ".tiktoken", ".bpe", ".codes", ".vocab", ".spm", ".txt")
_MAX_ARCHITECTURE = 1 << 16  # bytes; vocabularies are larger, and not worth reading twice
_WORDS_OF_TEXTS = ("vocab", "merges", "dict", "bpe", "token", "codes")  # in the name of a .txt that tokenizers read
# words in the names of JSON files of a model folder that none reads; training writes to some of them
_OTHERS = ("open_clip_config", "processor_config", "generation_config", "trainer_state", "log", "metrics", "results",
           "args", "params", Path(RECORD_FILE).stem, Path(SEEN_FILE).stem)  # fmt: skip


def find_tokenizer(spec: ModelSpec, config: Mapping[str, Any], beside: Path | None, always: bool) -> TokenizerFiles:
    """Find the files of a model's tokenizer and digest them.

    Args:
        spec: of the model, for messages.
        config: of the architecture.
        beside: the folder in which the configuration lies, where it is a file.
        always: the tokenizer lies there, whatever its name says, as in a local-dir: folder.

    Raises:
        ModelError: code that would run, files that cannot be fetched or read, or a vocabulary without its tokenizer.
        PrerequisiteError: a package that it needs.
    """
    text: dict[str, Any] = config["text_cfg"]
    _check(spec, text)
    folder = tower = None
    if name := text.get("hf_tokenizer_name"):
        folder = beside if always and beside is not None else _folder(spec, name, beside)
        refuse_code(folder, "AutoTokenizer")
    if name := text.get("hf_model_name"):
        tower = _folder(spec, name, None)
        refuse_code(tower, "AutoConfig", "AutoModel")
    return TokenizerFiles(folder, digest_tokenizer(config, folder, tower), tower)


def digest_tokenizer(config: Mapping[str, Any], folder: Path | None, tower: Path | None) -> dict[str, str]:
    """Return name -> digest of every file that a tokenizer, or a text tower's configuration, is made of.

    Raises:
        ModelError: a file that cannot be read, or is a pipe or a device.
    """
    settings: dict[str, Any] = config["text_cfg"].get("tokenizer_kwargs") or {}
    digests = {f"tokenizer_kwargs.{name}": _digest(path) for name, path in _paths(settings)}
    if folder is not None:
        digests |= digest_files(folder / str(settings.get("subfolder", "")))
    if tower is not None:
        check_regular(tower / "config.json", "The configuration of the text tower")
        digests["text_tower/config.json"] = _digest(tower / "config.json")
    return digests


def digest_files(folder: Path) -> dict[str, str]:
    """Return name -> digest of the files of :func:`files_in`.

    Raises:
        ModelError: a file that cannot be read, or is a pipe or a device.
    """
    return {f"tokenizer/{path.name}": _digest(path) for path in files_in(folder)}


def holds_tokenizer(folder: Path) -> bool:
    """Tell whether a tokenizer was saved to a folder."""
    return any((folder / file).is_file() for file in ("tokenizer_config.json", "tokenizer.json"))


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder that a tokenizer may read, by name; neither weights nor notes are among them.

    Raises:
        ModelError: one that is a pipe or a device.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [path for path in paths if _may_be_read(path.name.lower()) and not path.is_dir()]
    for path in files:
        check_regular(path, "The tokenizer's file")
    return [path for path in files if not _is_architecture(path)]


def _may_be_read(name: str) -> bool:
    if not name.endswith(_SUFFIXES) or name.startswith(".") or name.endswith(".index.json"):
        return False
    if name.endswith(".txt"):
        return any(word in name for word in _WORDS_OF_TEXTS)
    return not (name.endswith(".json") and any(word in name for word in _OTHERS))


def _is_architecture(path: Path) -> bool:
    """Tell whether a file is a configuration of open_clip's, which the fingerprint holds by itself."""
    try:
        if path.suffix != ".json" or path.stat().st_size > _MAX_ARCHITECTURE:
            return False
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(raw, dict) and ("model_cfg" in raw or {"embed_dim", "vision_cfg", "text_cfg"} <= raw.keys())


def _digest(path: Path) -> str:
    """Digest a file of a tokenizer; JSON by its content, since saving it again moves spaces alone."""
    try:
        return digest_json(json.loads(path.read_bytes())) if path.suffix == ".json" else digest_file(path)
    except (ValueError, RecursionError):
        return digest_file(path)
    except OSError as error:
        raise ModelError(f"The tokenizer's file {path} cannot be read: {reason_of(error)}.") from error


def _check(spec: ModelSpec, text: Mapping[str, Any]) -> None:
    """Refuse a tokenizer that is missing, would be fetched in silence, or is not the one of the text tower."""
    named = text.get("hf_tokenizer_name")
    if named or text.get("hf_model_name"):
        if importlib.util.find_spec("transformers") is None:
            raise PrerequisiteError(
                f"The tokenizer of {spec.name} ({named or text['hf_model_name']}) needs the package transformers.",
                "pip install 'koda-audit[siglip]'",
            )
    elif spec.kind == "open_clip" and "siglip" in spec.name.lower():
        raise ModelError(
            f"The configuration of {spec.name} names no tokenizer (text_cfg: hf_tokenizer_name); open_clip would "
            "fetch one from the internet because of the model's name.",
            "Make a local-dir: folder of it that states hf_tokenizer_name and holds the tokenizer's files.",
        )
    elif text.get("vocab_size", _CLIP_VOCABULARY) != _CLIP_VOCABULARY:
        raise ModelError(
            f"The text tower of {spec.name} has a vocabulary of {text['vocab_size']}, but its configuration names no "
            f"tokenizer, and open_clip's own has {_CLIP_VOCABULARY}.",
            "State text_cfg: hf_tokenizer_name and put the tokenizer's files beside open_clip_config.json.",
        )


def refuse_trust(config: Any, where: str) -> None:
    """Refuse a configuration that asks to run code which comes with a model.

    Raises:
        ModelError: `trust_remote_code` anywhere in it.
    """
    if isinstance(config, Mapping):
        if config.get("trust_remote_code"):
            raise ModelError(
                f"{where} asks to run code that comes with a model (trust_remote_code).",
                "Remove it; to run code of your own, make the model in a function: python:file.py:function.",
            )
        for inner in config.values():
            refuse_trust(inner, where)
    elif isinstance(config, list):
        for inner in config:
            refuse_trust(inner, where)


def refuse_code(folder: Path, *classes: str) -> None:
    """Refuse a folder whose configuration maps one of some classes to code beside it.

    Raises:
        ModelError: with the class and the code.
    """
    for name in _CONFIGS:
        path = folder / name
        if not path.exists():
            continue
        check_regular(path, "The tokenizer's file")
        try:
            raw = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {reason_of(error)}.") from error
        refuse_trust(raw, str(path))
        mapped = raw.get("auto_map") if isinstance(raw, dict) else None
        if isinstance(mapped, list) and "AutoTokenizer" in classes:  # an older form, of tokenizers alone
            mapped = {"AutoTokenizer": mapped}
        if isinstance(mapped, dict) and (asked := [each for each in classes if each in mapped]):
            raise ModelError(
                f"{path} names code that comes with the model for its {asked[0]} (auto_map: {mapped[asked[0]]}), "
                "which koda does not run.",
                "Use files of a class that transformers has, or make the model in a function: python:file.py:function.",
            )


def _paths(settings: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Return the settings of a tokenizer that are files, such as another vocabulary."""
    found = []
    for name, value in sorted(settings.items()):
        path = Path(value) if isinstance(value, str) else None
        if path is not None and (
            name in _FILE_SETTINGS or (path.is_absolute() and path.exists() and not path.is_dir())
        ):
            check_regular(path, f"The tokenizer's {name}")
            found.append((name, path))
    return found


def _folder(spec: ModelSpec, name: str, beside: Path | None) -> Path:
    """Return the folder of files that transformers names: on this machine, beside the configuration, or fetched."""
    places = [Path(name).expanduser()] if beside is None else [beside / Path(name).expanduser(), Path(name)]
    if place := next((place for place in places if place.is_dir()), None):
        return place
    if beside is not None and holds_tokenizer(beside):
        return beside
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in _SUFFIXES]
    remedy = "Without internet, make a local-dir: folder of the model that holds the tokenizer's files."
    with fetching(f"The tokenizer of {spec.name} ({name})", remedy), quiet():
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*", "*.index.json"]))


def load_tokenizer(label: str, config: Mapping[str, Any], found: TokenizerFiles) -> Any:
    """Load the tokenizer whose files were found, with open_clip's class for it.

    Raises:
        ModelError: it cannot be loaded.
        PrerequisiteError: a package that it needs.
    """
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = config["text_cfg"]
    length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    settings = dict(text.get("tokenizer_kwargs") or {})
    try:
        with quiet(), needing("koda-audit[siglip]", f"The tokenizer of {label}"):
            if found.folder is None:
                return SimpleTokenizer(context_length=length, **settings) if settings else _clip_tokenizer(length)
            mode = text.get("tokenizer_mode")
            settings |= {"trust_remote_code": False}
            return HFTokenizer(str(found.folder), context_length=length, tokenizer_mode=mode, **settings)
    except PrerequisiteError:
        raise
    except Exception as error:
        raise ModelError(
            f"{label}: its tokenizer cannot be loaded: {first_line(error)}",
            "Without internet, make a local-dir: folder of the model that holds the tokenizer's files.",
        ) from error


@lru_cache(maxsize=None, typed=True)
def _clip_tokenizer(length: int | None) -> Any:
    """Load open_clip's own tokenizer, whose vocabulary comes with the package, once for all models of a process.

    It takes 0.1 to 0.2 s, and an audit loads six models. Callers only ask it: what it keeps are tokens it has met.
    """
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length)
