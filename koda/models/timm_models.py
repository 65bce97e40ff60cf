"""Image models of timm: an architecture with a tag or a file of weights; embeddings are its pooled features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.config import ModelSpec
from koda.errors import ModelError, did_you_mean, nearest
from koda.models.encoder import Encoder
from koda.models.fingerprint import ModelContents, ResolvedModel
from koda.models.libraries import versions_of
from koda.models.messages import fetching, loading
from koda.models.pixels import Pixels
from koda.models.precision import dtype_of
from koda.models.state_dicts import TIMM_ORDER
from koda.models.weight_files import weights_at
from koda.models.weights import check_finite, look_at_weights, read_weights

if TYPE_CHECKING:
    import torch

_WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # as repositories of the hub name them, the safe one first


def find(spec: ModelSpec, device: str) -> ModelContents:
    """Find a timm model's weights and preprocessing.

    A tag brings its preprocessing along; a checkpoint file does not, so the configuration states it. Crop and
    interpolation are then those of the architecture.

    Raises:
        ModelError: no such architecture or tag, no weights, or preprocessing that nobody stated.
    """
    import timm

    if spec.force_quick_gelu:
        raise ModelError(f"{spec.name}: force_quick_gelu is for open_clip models.", "Remove it.")
    name, _, tag = spec.place.partition(".")
    if not timm.is_model(name):
        hint = did_you_mean(nearest(name, timm.list_models(), alike=0.4))
        raise ModelError(
            f"timm knows no model {name!r}. {hint}".rstrip(),
            "timm.list_models() names them all.",
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    remedy = f"Give a tag ({', '.join(tags) or 'timm has none for it'}) or a checkpoint file."
    weights = spec.pretrained or tag
    if not weights:
        raise ModelError(f"The model {spec.name} has no weights: `pretrained` is missing.", remedy)
    file = Path(weights)
    if os.path.lexists(file):
        checkpoint, known = weights_at(file), timm.get_pretrained_cfg(name)
        if spec.image_mean is None:
            raise ModelError(
                f"The checkpoint file {file} does not say how its images were normalised.",
                "Wrong means change every embedding, so koda does not guess. State image_mean and image_std for the "
                "model. For one trained with timm's defaults:\n"
                "    image_mean: [0.485, 0.456, 0.406]\n    image_std: [0.229, 0.224, 0.225]",
            )
    elif weights in tags:
        known = timm.get_pretrained_cfg(f"{name}.{weights}")
        checkpoint = _fetch(spec, known)
    else:
        raise ModelError(f"{weights!r} is neither a checkpoint file nor a tag of {name}.", remedy)
    preprocessing = _preprocessing(spec, {} if known is None else known.to_dict())
    config = {"timm": name, "image_size": preprocessing["size"]}
    found = look_at_weights(checkpoint, TIMM_ORDER)
    return ModelContents(
        found.digest,
        config,
        preprocessing,
        checkpoint,
        ("image",),
        entry=found.entry,
        libraries=versions_of("torch", "torchvision", "PIL", "timm"),
    )


def _fetch(spec: ModelSpec, known: Any) -> Path:
    """Return the file of a tag's weights, from the cache or the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models._hub import download_cached_file, hf_split

    remedy = "Without internet, put the checkpoint on this machine and give its path as `pretrained`."
    with fetching(f"The weights of {spec.name}", remedy):
        if not known.hf_hub_id:
            return Path(download_cached_file(known.url))
        repository, revision = hf_split(known.hf_hub_id)
        *others, last = [known.hf_hub_filename] if known.hf_hub_filename else _WEIGHT_FILES
        for file in others:
            try:
                return Path(hf_hub_download(repository, file, revision=revision))
            except LocalEntryNotFoundError:  # no connection; it is a kind of EntryNotFoundError
                raise
            except EntryNotFoundError:
                continue
        return Path(hf_hub_download(repository, last, revision=revision))


def _preprocessing(spec: ModelSpec, known: dict[str, Any]) -> dict[str, Any]:
    """Return timm's own preprocessing for the weights, with what the configuration states in its place."""
    from timm.data import resolve_data_config

    stated: dict[str, Any] = {}
    if spec.image_mean is not None and spec.image_std is not None:
        stated = {"mean": spec.image_mean, "std": spec.image_std}
    if spec.image_size is not None:
        stated["input_size"] = (3, spec.image_size, spec.image_size)
    settings = resolve_data_config(stated, pretrained_cfg=known)
    size = list(settings.pop("input_size"))[1:]
    return {
        "size": size,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
    }


def load(resolved: ResolvedModel, place: torch.device) -> Encoder:
    """Load a timm model without its classifier.

    Raises:
        ModelError: as :func:`koda.models.load_encoder`.
    """
    import torch
    from timm.data import create_transform

    fingerprint = resolved.fingerprint
    assert resolved.checkpoint is not None
    with loading(resolved, "The architecture and image_size must be those they were trained with."):
        state = read_weights(resolved.checkpoint, fingerprint.weights, TIMM_ORDER)
        model = _build(fingerprint.config["timm"], fingerprint.config["image_size"], state)
    check_finite(resolved.label, model)
    dtype = dtype_of(fingerprint.precision)
    model.eval().to(place, dtype)
    settings = dict(fingerprint.preprocessing)
    transform = create_transform(input_size=(3, *settings.pop("size")), is_training=False, **settings)
    pixels = Pixels.of(transform, dtype)
    with torch.inference_mode():
        width = model(pixels.empty(1).zero_().to(place)).shape[-1]
    return Encoder(
        resolved=resolved,
        device=place,
        dtype=dtype,
        architecture=f"timm {fingerprint.config['timm']}",
        dims={"image": int(width)},
        image=model,
        pixels=pixels,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        model=model,
    )


def _build(name: str, size: list[int], state: dict[str, Any]) -> Any:
    """Make a model and load weights, every one of them; then take its classifier off.

    With the number of classes that the weights have, timm demands that all names fit. Asked for no classes at
    once, it would leave what is missing at random values in silence.
    """
    import timm

    known = timm.get_pretrained_cfg(name)
    classifier = None if known is None else known.classifier
    first = classifier if isinstance(classifier, str) or classifier is None else classifier[0]
    head = state.get(f"{first}.weight")
    usual = 1000 if known is None else known.num_classes
    # weights in the layout of the original authors have other names until timm has translated them
    n_classes = [0 if head is None else head.shape[0], usual]
    for number, classes in enumerate(n_classes):
        given = {"state_dict": dict(state), "num_classes": classes, "label_offset": 0, "source": "timm"}
        sized = {} if known is None or list(known.input_size[1:]) == size else {"img_size": tuple(size)}
        try:
            model = _create(name, sized, num_classes=classes, pretrained_cfg_overlay=given)
            break
        except RuntimeError:
            if number + 1 == len(n_classes):
                raise
    model.pretrained_cfg.pop("state_dict", None)  # it would keep a second copy of the weights
    model.reset_classifier(0)
    return model


def _create(name: str, sized: dict[str, Any], **settings: Any) -> Any:
    """Make a model; those that take pictures of any size have no setting for it."""
    import timm

    try:
        return timm.create_model(name, pretrained=True, **sized, **settings)
    except TypeError:
        return timm.create_model(name, pretrained=True, **settings)
