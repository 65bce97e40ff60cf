"""The configuration of an audit: one YAML file, checked in full before anything runs."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from koda.errors import ConfigError

Side = Literal["lost", "gained"]
_DEFAULT_SHARE = 0.0005  # of the reference, where nothing else sets eps


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class ModelSpec(_Strict):
    """Where a model comes from, and how it is run.

    ``name`` is an open_clip name (with ``pretrained``, a tag or a checkpoint file), an ``hf-hub:`` id, a
    ``local-dir:`` folder or the path of such a folder, ``timm:`` and a timm name (images only), ``python:`` and
    ``module:function`` or ``file.py:function`` that makes a model of the team's own, or ``embeddings:`` and a folder
    of embeddings that another program made.
    """

    name: str = Field(min_length=1)
    pretrained: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: bf16 where the hardware is fast at it, else fp32"
    )
    image_size: int | None = Field(
        default=None, ge=1, description="pixels of a side; for python: models and timm: checkpoint files"
    )
    label: str | None = Field(default=None, description="the name the report uses")
    force_quick_gelu: bool = False
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    licence: str | None = None
    source: str | None = None

    @model_validator(mode="after")
    def _both_or_neither(self) -> ModelSpec:
        if (self.image_mean is None) != (self.image_std is None):
            raise ValueError("image_mean and image_std are stated together, or not at all")
        return self


class DataConfig(_Strict):
    """The image-caption pairs, where and how they lie."""

    path: str = Field(min_length=1, description="a table, a COCO JSON file, tar shards, a folder; or their URL")
    images: str | None = Field(default=None, description="folder of the images; default: beside the table")
    format: Literal["csv", "coco", "webdataset", "folder", "huggingface", "embeddings"] | None = Field(
        default=None, description="default: from the path; csv is any table"
    )
    image_column: str = "filepath"
    caption_column: str = "title"
    key_column: str | None = Field(default=None, description="default: `key` if there is one, else the image path")
    captions: Literal["first", "all", "random"] = Field(
        default="first", description="which caption of an image that has several; random is drawn with `seed`"
    )
    where: str | None = Field(
        default=None, min_length=1, description="SQL condition on key, caption and the metadata columns"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many pairs, chosen as `pick` says")
    pick: Literal["random", "first"] = Field(default="random", description="random is drawn with `seed`")
    seed: int = Field(default=0, ge=0)
    max_rejected: float = Field(default=0.25, ge=0, description="below 1 a share of the pairs, from 1 on a count")
    name: str | None = None
    licence: str | None = None
    source: str | None = None
    datasheet: str | None = None


class DiscrepancyConfig(_Strict):
    """How structure that one model has and the other lacks is looked for (method sections 1 to 5)."""

    modality: Literal["joint", "image", "text"] = "joint"
    kernel: Literal["gaussian", "cosine", "polynomial"] = "gaussian"
    sigma: Literal["auto"] | float = Field(
        default="auto", description="auto, or one bandwidth for both models and modalities; gaussian kernel only"
    )
    features: Literal["auto", "orf", "rff", "sketch", "tensorsketch", "exact"] = "auto"
    n_features: int | None = Field(
        default=None, ge=1, description="r: 2 r coordinates; default: 1000 on the CPU, 3000 on a GPU"
    )
    method: Literal["koda", "spec"] = Field(
        default="koda", description="koda: a limit on the reference; spec: leading eigenvectors of K_A - eta K_B"
    )
    eta: float = Field(default=1.0, gt=0, description="spec's fixed weight of the reference")
    n_directions: int = Field(default=10, ge=1)
    max_reference_share: float | None = Field(default=None, ge=0, lt=1)
    eps_quantile: float | None = Field(default=None, gt=0, le=1)
    eps: float | None = Field(default=None, gt=0)
    tolerance: float = Field(default=1e-6, gt=0, lt=1, description="certified relative gap asked for")
    seed: int = Field(default=0, ge=0)
    device: str = "auto"

    @field_validator("sigma")
    @classmethod
    def _positive_sigma(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value <= 0:
            raise ValueError("sigma is a positive bandwidth")
        return value

    @model_validator(mode="after")
    def _kernel_and_features_fit(self) -> DiscrepancyConfig:
        if self.kernel != "gaussian" and self.sigma != "auto":
            raise ValueError(f"sigma is for the gaussian kernel; the {self.kernel} kernel has no bandwidth")
        fourier, sketches = ("orf", "rff"), ("sketch", "tensorsketch")
        right, wrong = (fourier, sketches) if self.kernel == "gaussian" else (sketches, fourier)
        if self.features in wrong:
            raise ValueError(
                f"features: {self.features} do not approximate the {self.kernel} kernel; "
                f"use auto, exact, {' or '.join(right)}"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_method(self) -> DiscrepancyConfig:
        if self.method == "koda" and self.eta != 1:
            raise ValueError("eta is the fixed weight of method spec; method koda finds its multipliers itself")
        return self

    @model_validator(mode="after")
    def _one_way_to_set_eps(self) -> DiscrepancyConfig:
        given = [n for n in ("max_reference_share", "eps_quantile", "eps") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each set eps; give one of them")
        if not given:
            object.__setattr__(self, "max_reference_share", _DEFAULT_SHARE)
        elif self.method == "spec" and self.max_reference_share != _DEFAULT_SHARE:
            raise ValueError(f"{given[0]} is a limit of method koda; method spec has none, it weighs by eta")
        return self


class SignificanceConfig(_Strict):
    """How a finding is tested on samples that the search did not see (method section 7)."""

    confirmation_share: float = Field(default=0.5, gt=0, lt=1)
    max_samples: int = Field(default=8192, ge=2, description="of the confirmation part, at most")
    materiality: float = Field(default=0.001, ge=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=1)


class PolicyRule(_Strict):
    """A limit on one recorded figure."""

    figure: str
    warn: float | None = None
    fail: float | None = None
    direction: Literal["above", "below"] = Field(default="above", description="the side of the limit that is bad")
    max_reference_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="a finding counts up to this reference share; default: half its target share",
    )
    owner: str | None = None
    reason: str | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> PolicyRule:
        if self.warn is None and self.fail is None:
            raise ValueError(f"the rule on {self.figure!r} has neither a warn nor a fail limit")
        return self


class ReportConfig(_Strict):
    """What the report looks like."""

    title: str | None = None
    thumbnails: int = Field(default=160, ge=16, le=1024, description="pixels of the longer side")
    gallery: int = Field(default=12, ge=1, le=200, description="samples shown of each lobe")
    pdf: bool = True


DEFAULT_POLICY = (
    PolicyRule(figure="lost.max_share", warn=0.001, fail=0.002, reason="structure that the candidate no longer has"),
    PolicyRule(figure="gained.max_share", warn=0.002, reason="structure that the baseline does not have"),
    PolicyRule(figure="rejections.share", warn=0.01, reason="samples that could not be compared"),
)


class AuditConfig(_Strict):
    """Everything an audit needs: two models, a data set, and how to compare them."""

    baseline: ModelSpec
    candidate: ModelSpec
    data: DataConfig
    discrepancy: DiscrepancyConfig = DiscrepancyConfig()
    significance: SignificanceConfig = SignificanceConfig()
    policy: tuple[PolicyRule, ...] = DEFAULT_POLICY
    report: ReportConfig = ReportConfig()


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> AuditConfig:
    """Read and check a configuration file.

    Relative paths in it (the data, images, folders and files of models, checkpoint files) are relative
    to the file itself, so that a configuration means the same from every working directory.

    Args:
        path: the YAML file.
        overrides: dotted key -> value, as `--set discrepancy.seed=3` gives them.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (the nearest right one is named), or a
            value out of range.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.", "Give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.") from error
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where} is not YAML: {getattr(error, 'problem', None) or error}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{path} holds no settings.", "It needs at least the keys baseline, candidate and data; see the README."
        )
    for key, value in (overrides or {}).items():
        _set(raw, key, value)
    return check_config(raw, str(path), path.resolve().parent)


def check_config(raw: dict[str, Any], where: str, folder: Path) -> AuditConfig:
    """Check settings that were read from `where`; relative paths are relative to `folder`.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    try:
        config = AuditConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, where) for item in error.errors())) from None
    return _absolute(config, folder)


def parse_override(text: str) -> tuple[str, Any]:
    """Split `KEY=VALUE`; the value is read as YAML, so numbers and lists come out as such.

    Raises:
        ConfigError: no equals sign, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not KEY=VALUE.", "For example --set discrepancy.n_directions=5")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        if re.search(r"\{[^{}]*(\.\.|,)[^{}]*\}", value):  # a range of shards, which YAML takes for a mapping
            return key.strip(), value.strip()
        raise ConfigError(f"--set {key}: the value {value!r} is not YAML.") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML that refuses the same key twice, which plain YAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            if isinstance(key, str | int | float | bool):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _set(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings."""
    *parents, last = dotted.split(".")
    here = raw
    for parent in parents:
        inner = here.get(parent)
        if inner is None:
            inner = here[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {dotted}: {parent!r} is a single value, it has no keys under it.")
        here = inner
    here[last] = value


def _explain(error: Any, where: str) -> str:
    """Put one validation error in words: where it is, what is wrong, what would be right."""
    place = ".".join(str(part) for part in error["loc"] if part not in ("float", "int", "str", "literal['auto']"))
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        known = _fields_at(parents)
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5) or [
            name for name in _all_fields() if name.rsplit(".", 1)[-1] == str(key)
        ]
        hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}."
        return f"{where}: unknown key {place!r}; {hint}"
    if error["type"] == "missing":
        return f"{where}: the key {place!r} is missing."
    message = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "value_error" or isinstance(error["input"], dict) else f" (it is {error['input']!r})"
    return f"{where}: {place}: {message[0].lower() + message[1:]}{got}." if place else f"{where}: {message}."


def _fields_at(parents: list[Any]) -> list[str]:
    """The known keys of the settings at a place such as ("policy", 0)."""
    model: type[BaseModel] = AuditConfig
    for part in parents:
        if not isinstance(part, str) or part not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[part].annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _all_fields() -> list[str]:
    """Every key with its section, as `section.key`."""
    sections = ((name, _model_in(info.annotation)) for name, info in AuditConfig.model_fields.items())
    return [f"{name}.{key}" for name, model in sections if model is not None for key in model.model_fields]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model that an annotation holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple, list):
        return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
    return None


def _absolute(config: AuditConfig, folder: Path) -> AuditConfig:
    """Make the relative paths of a configuration absolute."""

    def resolve(text: str) -> str:
        if "://" in text:
            return text
        try:
            return str((folder / Path(text).expanduser()).resolve())
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, ~nobody
            raise ConfigError(f"{text!r} is not a path: {error}.") from error

    def model(spec: ModelSpec) -> ModelSpec:
        changes: dict[str, Any] = {}
        for prefix in ("local-dir:", "embeddings:"):
            if spec.name.startswith(prefix):
                changes["name"] = prefix + resolve(spec.name.removeprefix(prefix))
        if spec.name.startswith("python:"):
            place, _, function = spec.name.removeprefix("python:").rpartition(":")
            if place.endswith(".py"):
                changes["name"] = f"python:{resolve(place)}:{function}"
        if (folder / spec.name).is_dir() and (folder / spec.name / "open_clip_config.json").is_file():
            changes["name"] = "local-dir:" + resolve(spec.name)
        if spec.pretrained and (Path(spec.pretrained).suffix or (folder / spec.pretrained).is_file()):
            changes["pretrained"] = resolve(spec.pretrained)
        return spec.model_copy(update=changes)

    data = config.data.model_copy(
        update={
            "path": "::".join(resolve(part) if part else "" for part in config.data.path.split("::")),
            "images": None if config.data.images is None else resolve(config.data.images),
        }
    )
    return config.model_copy(
        update={"baseline": model(config.baseline), "candidate": model(config.candidate), "data": data}
    )
