"""Throughput and memory of the extraction, beside the bare forward pass of the same model in the same run.

    python benchmarks/extract.py
    python benchmarks/extract.py --images 256 --rounds 2 --memory 2048

The model is ViT-B-32 with random weights, which compute no slower than others, in bf16; the images are synthetic JPEGs
of 224 pixels. Bare is the forward pass on one batch that lies in memory. It and extract() are measured by turns, in
short rounds; a round's ratio is extract()'s rate over the mean of the bare rates before and after it, and the figure
is the median of the rounds. Beside it stands the ratio of the processor's seconds a sample, which other processes
disturb less: what extract() would reach if it lost nothing by waiting.

The time of extract() is that from the loaded model to the finished artifact: reading, decoding, normalising, the
forward pass, writing and digesting the shards. With one caption for all images only these count ("images"); with a
caption for each, the text tower comes on top ("images and captions"), and its yardstick is both bare passes.

Memory is the peak of anonymous memory of a process that extracts 2k and 20k pairs with a caption each, with a model of
one layer: whether it grows depends on what koda keeps, not on how long the model computes. Results are written to
extract.json and extract.md beside this file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from koda.config import DataConfig, ModelSpec  # noqa: E402
from koda.datasets import PairDataset, read_dataset  # noqa: E402
from koda.devices import device_of  # noqa: E402
from koda.extraction import artifact, extract  # noqa: E402
from koda.extraction.batches import Batches  # noqa: E402
from koda.models import Encoder, load_encoder, resolve_model  # noqa: E402
from koda.storage import ArtifactStore  # noqa: E402

ARCHITECTURE, SIDE, FILES = "ViT-B-32", 224, 2048
BARE_SECONDS = 6.0  # of one bare measurement


def write_model(folder: Path, layers: int = 12) -> ModelSpec:
    """Write the model as a local-dir folder."""
    torch.manual_seed(0)
    folder.mkdir()
    model = open_clip.get_model_config(ARCHITECTURE)
    for tower in ("vision_cfg", "text_cfg"):
        model[tower]["layers"] = layers
    state = open_clip.model.CLIP(**model).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
    preprocessing = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": preprocessing}))
    return ModelSpec(name=f"local-dir:{folder}", precision="bf16")


def write_images(folder: Path, n: int) -> None:
    """Write synthetic photographs: smooth colours with grain, as large on disk as real ones of their size."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(min(n, FILES)):
        colours = Image.fromarray(rng.integers(0, 255, (14, 14, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-12, 13, smooth.shape, dtype=np.int16)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)


def write_table(folder: Path, n: int, captions: bool) -> PairDataset:
    """Write and read a table of n pairs; beyond 2048 the files are used again under other keys."""
    path = folder / f"{n}-{captions}.tsv"
    rows = [
        f"{i:06d}\t{i % FILES}.jpg\t{f'a photo of thing number {i} in a garden' if captions else 'a photo'}"
        for i in range(n)
    ]
    path.write_text("\n".join(["key\tfilepath\ttitle", *rows]) + "\n")
    return read_dataset(DataConfig(path=str(path)))


class Clock:
    """Seconds on the wall, and of all cores."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __call__(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def bare(encoder: Encoder, size: int, captions: bool = False) -> tuple[float, float]:
    """Return (wall, core) seconds a sample of the forward pass alone."""
    pixels = torch.randn(size, 3, SIDE, SIDE, device=encoder.device).to(encoder.dtype)
    texts = [f"a photo of thing number {i} in a garden" for i in range(size)]

    def work() -> None:
        encoder.encode_images(pixels)
        if captions:
            encoder.encode_texts(texts)

    work()
    clock, done = Clock(), 0
    while clock()[0] < BARE_SECONDS or done == 0:
        work()
        done += size
    wall, cpu = clock()
    return wall / done, cpu / done


def koda(encoder: Encoder, dataset: PairDataset) -> tuple[float, float]:
    """Return (wall, core) seconds a sample of extract(), from the loaded model to the finished artifact."""
    began: list[Clock] = []

    def loaded(*_: Any) -> Encoder:
        began.append(Clock())
        return encoder

    load = artifact.load_encoder
    artifact.load_encoder = loaded
    try:
        with tempfile.TemporaryDirectory() as root:
            artifact.extract(ArtifactStore(Path(root)), dataset, encoder.resolved, device=str(encoder.device))
            wall, cpu = began[0]()
    finally:
        artifact.load_encoder = load
    return wall / len(dataset.pairs), cpu / len(dataset.pairs)


def rounds(encoder: Encoder, dataset: PairDataset, size: int, n: int, captions: bool) -> dict[str, Any]:
    """Measure bare and extract() by turns."""
    measured: list[dict[str, float]] = []
    before = bare(encoder, size, captions)
    for number in range(n):
        seconds = koda(encoder, dataset)
        after = bare(encoder, size, captions)
        wall, cpu = ((b + a) / 2 for b, a in zip(before, after, strict=True))
        measured.append(
            {"bare": 1 / wall, "koda": 1 / seconds[0], "ratio": wall / seconds[0], "ratio_of_cores": cpu / seconds[1]}
        )
        print(f"captions {captions}, round {number + 1}: {json.dumps(measured[-1])}", flush=True)
        before = after
    return {"rounds": measured, **{name: statistics.median(m[name] for m in measured) for name in measured[0]}}


def memory(place: Path, n: int, device: str) -> dict[str, float]:
    """Return the peak of anonymous memory of an extraction of n pairs, in a process of its own."""
    code = [sys.executable, __file__, "--memory-of", str(place), "--images", str(n), "--device", device]
    done = subprocess.run(code, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _memory_of(place: Path, n: int, device: str) -> None:
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            status = Path("/proc/self/status").read_text()
            peak[0] = max(peak[0], int(status.split("RssAnon:")[1].split()[0]))

    dataset = write_table(place / "images", n, captions=True)
    model = resolve_model(ModelSpec(name=f"local-dir:{place / 'shallow'}", precision="bf16"), device)
    thread = threading.Thread(target=watch)
    thread.start()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        extract(ArtifactStore(Path(root)), dataset, model, device=device)
    seconds = time.perf_counter() - began
    stop.set()
    thread.join()
    print(json.dumps({"peak_mb": peak[0] / 2**10, "seconds": seconds}))


def write(results: dict[str, Any], out: Path) -> None:
    """Write the figures as JSON and Markdown."""
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    sizes = ", ".join(f"{size}: {rate:.0f}" for size, rate in results["bare_by_batch"].items())
    lines = [
        "# The extraction: throughput and memory", "",
        f"{results['device']}, {results['threads']} threads, torch {results['torch']}, open_clip "
        f"{results['open_clip']}, Python {results['python']}, {results['date']}. {ARCHITECTURE} in bf16, JPEGs of "
        f"{SIDE} pixels, {results['n_images']} in each of {results['n_rounds']} rounds, batches of {results['batch']}.",
        "",
        "| what | bare, samples/s | extract(), samples/s | ratio | ratio of core seconds |",
        "| --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for what in ("images", "images and captions"):
        if rates := results.get(what):
            lines.append(
                f"| {what} | {rates['bare']:.1f} | {rates['koda']:.1f} | **{rates['ratio']:.3f}** "
                f"| {rates['ratio_of_cores']:.3f} |"
            )
    lines += ["", f"Bare images/s by batch size: {sizes}."]
    if results["memory"]:
        lines += ["", "| pairs, with one layer | peak anonymous memory | seconds |", "| --: | --: | --: |"]
        lines += [f"| {m['n']} | {m['peak_mb']:.0f} MB | {m['seconds']:.0f} |" for m in results["memory"]]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512, help="in a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", type=int, nargs="*", default=[2_000, 20_000], metavar="N")
    parser.add_argument("--out", type=Path, default=HERE / "extract")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        _memory_of(arguments.memory_of, arguments.images, arguments.device)
        return
    device = device_of(arguments.device)
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        spec = write_model(place / "model")
        write_model(place / "shallow", layers=1)
        write_images(place / "images", max([arguments.images, *arguments.memory]))
        encoder = load_encoder(resolve_model(spec, str(device)), str(device))
        batch = Batches(encoder).size
        results: dict[str, Any] = {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu or platform.machine()} "
            f"({torch.backends.cpu.get_cpu_capability()})",
            "threads": torch.get_num_threads(), "torch": torch.__version__, "open_clip": open_clip.__version__,
            "python": platform.python_version(), "date": time.strftime("%Y-%m-%d"), "n_images": arguments.images,
            "n_rounds": arguments.rounds, "batch": batch, "memory": [],
            "bare_by_batch": {size: 1 / bare(encoder, size)[0] for size in (16, 32, 64, 128)},
        }  # fmt: skip
        print(json.dumps(results["bare_by_batch"]), flush=True)
        for what, captions in (("images", False), ("images and captions", True)):
            dataset = write_table(place / "images", arguments.images, captions)
            results[what] = rounds(encoder, dataset, batch, arguments.rounds, captions)
            write(results, arguments.out)
        del encoder
        for n in arguments.memory:
            results["memory"].append({"n": n, **memory(place, n, str(device))})
            write(results, arguments.out)
    print(arguments.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
