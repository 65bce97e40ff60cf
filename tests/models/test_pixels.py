"""The quick way from a picture to a model's pixels: bit for bit that of the whole transform."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision import transforms

from koda.models.pixels import Pixels

CLIP = image_transform_v2(PreprocessCfg(size=48), is_train=False)
TRANSFORMS = {
    "open_clip": CLIP,
    "open_clip, padded": image_transform_v2(
        PreprocessCfg(size=48, resize_mode="longest", fill_color=7), is_train=False
    ),
    "open_clip, squashed": image_transform_v2(PreprocessCfg(size=(40, 56), resize_mode="squash"), is_train=False),
    "timm": timm.data.create_transform(input_size=(3, 48, 48), is_training=False, mean=(0.1, 0.5, 0.9)),
}
OTHERS = {
    "grey": transforms.Compose([transforms.Grayscale(3), transforms.Resize((20, 30)), transforms.ToTensor()]),
    "a function": lambda image: torch.from_numpy(np.asarray(image.resize((20, 30)))).permute(2, 0, 1) / 255,
    "numbers to normalise": transforms.Compose(
        [transforms.Resize((20, 30)), transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float32),
         transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    ),
}  # fmt: skip


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(48, 48), (100, 60), (31, 90), (1, 1), (4, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_split_transforms_give_the_same_bits(name: str, dtype: torch.dtype, size: tuple[int, int]) -> None:
    pixels = Pixels.of(TRANSFORMS[name], dtype)
    assert pixels.table is not None
    batch = pixels.empty(2)
    pixels.write(picture(size), batch[1])
    assert torch.equal(batch[1], TRANSFORMS[name](picture(size)).to(dtype))


@pytest.mark.parametrize("name", OTHERS)
def test_other_transforms_are_used_whole(name: str) -> None:
    transform: Any = OTHERS[name]
    pixels = Pixels.of(transform, torch.bfloat16)
    assert pixels.table is None
    row = pixels.empty(1)[0]
    pixels.write(picture((100, 60)), row)
    assert torch.equal(row, transform(picture((100, 60))).to(torch.bfloat16))


def test_a_picture_of_another_size_than_the_rest_is_an_error() -> None:
    uncropped = transforms.Compose([transforms.Resize(20), *CLIP.transforms[-2:]])
    pixels = Pixels.of(uncropped, torch.float32)
    assert pixels.table is not None
    with pytest.raises(RuntimeError):
        pixels.write(picture((90, 45)), pixels.empty(1)[0])
