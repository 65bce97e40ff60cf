"""The model that is fine-tuned: which of its weights are, how it embeds, and its low-rank adapters."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from koda.config import ModelKind
from koda.errors import ConfigError, ModelError, PrerequisiteError
from koda.models import Encoder, ResolvedModel, load_encoder

_NOT_TEXT = ("visual.", "text_decoder.", "logit_scale", "logit_bias")  # of an open_clip model
_NOT_OPEN_CLIP: dict[ModelKind, str] = {
    "embeddings": "a folder of embeddings",
    "timm": "a timm model",
    "python": "a model of your own code",
}
_ADAPTED = (nn.Linear, nn.MultiheadAttention)


def check_student(model: ResolvedModel) -> None:
    """Refuse a model that cannot be fine-tuned and saved for open_clip.

    Raises:
        ModelError: a folder of embeddings, or a model that is not open_clip's.
    """
    words = _NOT_OPEN_CLIP.get(model.spec.kind)
    if "transformers" in model.fingerprint.config:
        words = "a model of transformers"
    if words is not None:
        raise ModelError(
            f"{model.label} cannot be aligned: it is {words}, and koda fine-tunes and saves open_clip models.",
            "It can be the teacher: alignment.student names which of the two is fine-tuned.",
        )


class Student:
    """An open_clip model with some of its towers to be trained.

    Weights are in fp32. Normalisation by batch statistics stays as it was trained. With a rank the towers' own weights
    stay, and low-rank adapters on their linear and attention layers are trained, which :meth:`state` merges.

    Args:
        model: what to load.
        towers: "image", "text" or both.
        device: where it is trained.
        rank: of the adapters; None trains all weights.

    Raises:
        ModelError: as :func:`koda.models.load_encoder`.
        ConfigError: a rank, but no layer that can be adapted.
        PrerequisiteError: a rank without the package peft.
    """

    def __init__(self, model: ResolvedModel, towers: tuple[str, ...], device: str, rank: int | None = None) -> None:
        self.encoder: Encoder = load_encoder(model.in_fp32(), device)
        self.towers = towers
        self.model: nn.Module = self.encoder.model
        self.n_total = sum(parameter.numel() for parameter in self.model.parameters())
        self._tokens: dict[str, Tensor] = {}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._in_towers(name))
        self._adapters = None if rank is None else self._with_adapters(rank)

    def _in_towers(self, name: str) -> bool:
        tower = "image" if name.startswith("visual.") else "text"
        return tower in self.towers and (tower == "image" or not name.startswith(_NOT_TEXT))

    def _with_adapters(self, rank: int) -> Any:
        if importlib.util.find_spec("peft") is None:
            raise PrerequisiteError("alignment.rank needs the package peft.", "pip install 'koda-audit[lora]'")
        from peft import LoraConfig, get_peft_model

        inner = [name for name, module in self.model.named_modules() if isinstance(module, nn.MultiheadAttention)]
        targets = [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, _ADAPTED)
            and self._in_towers(name)
            and not any(name.startswith(f"{parent}.") for parent in inner)
        ]
        if not targets:
            raise ConfigError(
                "alignment.rank: the towers have no linear or attention layer that adapters could be put on.",
                "Leave out alignment.rank to train all weights.",
            )
        settings = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=targets, bias="none")
        return get_peft_model(self.model, settings)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def train_mode(self) -> None:
        """Go to training mode, all but batch normalisation."""
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) or type(module).__name__ == "FrozenBatchNorm2d":
                module.eval()

    def embed(self, pixels: Tensor | None, captions: Sequence[str]) -> dict[str, Tensor]:
        """Return unit embeddings of the trained towers, (b, d) each.

        Args:
            pixels: (b, 3, h, w); not looked at where the image tower is not trained.
            captions: b of them.
        """
        device = self.encoder.device
        embeddings: dict[str, Tensor] = {}
        if "image" in self.towers:
            assert pixels is not None, "the image tower needs pictures"
            embeddings["image"] = self.model.encode_image(pixels.to(device, non_blocking=True), normalize=True)  # type: ignore[operator]
        if "text" in self.towers:
            embeddings["text"] = self.model.encode_text(self._tokenised(captions).to(device), normalize=True)  # type: ignore[operator]
        return embeddings

    def _tokenised(self, captions: Sequence[str]) -> Tensor:
        if missing := list(dict.fromkeys(text for text in captions if text not in self._tokens)):
            self._tokens.update(zip(missing, self.encoder.tokenizer(missing), strict=True))
        return torch.stack([self._tokens[text] for text in captions])

    def state(self) -> dict[str, Tensor]:
        """Return the weights as open_clip has them, adapters merged; the student is of no use afterwards."""
        model = self.model if self._adapters is None else self._adapters.merge_and_unload()
        return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
