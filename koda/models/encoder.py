"""A loaded model: images and captions in, unit-length embeddings out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from koda.models.fingerprint import ResolvedModel
from koda.typing import FloatArray

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from koda.models.pixels import Pixels


@dataclass(frozen=True)
class Encoder:
    """A loaded model, whatever kind it is of.

    Args:
        resolved: what it was loaded from.
        device, dtype: where it runs, and the type of the pixels it wants.
        architecture: in words.
        dims: modality -> dimension of its embeddings; the modalities it has.
        image: preprocessed pixels (b, 3, h, w) on the device -> (b, d).
        text: captions -> (b, d).
        pixels: the preprocessing; None for a model without images.
        tokenizer: where koda knows it.
        context_length: in tokens; longer captions are cut.
        parameters: their number, where it can be counted.
    """

    resolved: ResolvedModel
    device: torch.device
    dtype: torch.dtype
    architecture: str
    dims: dict[str, int]
    image: Callable[[torch.Tensor], torch.Tensor] | None = None
    text: Callable[[Sequence[str]], torch.Tensor] | None = None
    pixels: Pixels | None = None
    tokenizer: Any = None
    context_length: int | None = None
    parameters: int | None = None
    model: Any = field(default=None, repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities it embeds: of "image" and "text"."""
        return self.resolved.modalities

    def preprocess(self, image: Image) -> torch.Tensor:
        """Return one RGB picture as the model wants it: (3, height, width)."""
        assert self.pixels is not None, "a model without images"
        row = self.pixels.empty(1)[0]
        self.pixels.write(image, row)
        return row

    def encode_images(self, pixels: torch.Tensor) -> FloatArray:
        """Encode preprocessed images (b, 3, h, w); returns (b, d) of unit length, float32."""
        assert self.image is not None, "a model without images"
        return self._unit(self.image, pixels.to(self.device, self.dtype, non_blocking=True))

    def encode_texts(self, captions: Sequence[str]) -> FloatArray:
        """Encode captions; returns (b, d) of unit length, float32. Longer ones are cut, see :meth:`count_long`."""
        assert self.text is not None, "a model without text"
        return self._unit(self.text, list(captions))

    def _unit(self, encode: Callable[[Any], torch.Tensor], batch: Any) -> FloatArray:
        import torch

        with torch.inference_mode():
            features = encode(batch).float()
            features = features / features.norm(dim=-1, keepdim=True)
        array: FloatArray = features.cpu().numpy()
        return array

    def count_long(self, captions: Sequence[str]) -> int:
        """Count the captions that the tokenizer cuts at the context length."""
        if self.context_length is None or not captions:
            return 0
        counts = Counter(captions)
        if hasattr(self.tokenizer, "encode"):  # CLIP's own byte-pair encoding; two places go to start and end
            lengths = [len(self.tokenizer.encode(text)) + 2 for text in counts]
        elif inner := getattr(self.tokenizer, "tokenizer", None):
            lengths = [len(ids) for ids in inner(list(counts))["input_ids"]]
        else:
            return 0
        return sum(n for n, length in zip(counts.values(), lengths, strict=True) if length > self.context_length)

    def describe(self) -> dict[str, Any]:
        """Return what the audit record says of the loaded model; it depends on the fingerprint alone."""
        fingerprint = self.resolved.fingerprint
        return {
            "architecture": self.architecture,
            "weights_digest": fingerprint.weights,
            "config_digest": fingerprint.config_digest,
            "fingerprint": fingerprint.digest,
            "activation": fingerprint.activation,
            "image_size": None if self.pixels is None else self.pixels.size,
            "preprocessing": fingerprint.preprocessing,
            "tokenizer": None if self.tokenizer is None else type(self.tokenizer).__name__,
            "context_length": self.context_length,
            "embedding_dim": next(self.dims[name] for name in self.modalities),
            "parameters": self.parameters,
            "precision": fingerprint.precision,
        }
