"""Inference of the residual U-Net over a volume in 63 windows of 192 x 192 x 16, against MONAI's plain call.

::

    .venv/bin/python benchmarks/sliding_window.py [--rounds 3] [--threads 2] [--small]

Plain: MONAI's sliding-window inferer over the network as it is, channels first, float32. Penumbra: its predictor with
normalisation folded, channels last, in float32 and in bfloat16. Medians, in turn. The limit is the network's arithmetic
over the fastest that this machine convolves in float32, measured in the same run. The network's weights are random, its
normalisations spread; what differs between the three is printed: probabilities, and Dice of the thresholded maps.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from monai.inferers import sliding_window_inference
from torch.utils.flop_counter import FlopCounterMode

from penumbra import parts
from penumbra.heads.logits import Logits
from penumbra.networks.residual_unet3d import build
from penumbra.training.model import Model

WINDOW, OVERLAP, AT_ONCE = (192, 192, 16), 0.5, 1


def model() -> Model:
    torch.manual_seed(0)
    network = build(1, 2)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    activation = parts.build("activation", "sigmoid", {}, classes=2)
    return Model(network, activation, Logits(2)).eval().requires_grad_(False)


def seconds(call: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def fastest_convolution() -> float:
    """Floating-point operations a second of a plain 3 x 3 x 3 convolution, the best of several sizes."""
    best = 0.0
    for channels in (32, 64, 128):
        images = torch.randn(1, channels, 48, 48, 16).contiguous(memory_format=torch.channels_last_3d)
        layer = torch.nn.Conv3d(channels, channels, 3, padding=1).to(memory_format=torch.channels_last_3d)
        work = 2 * 27 * channels**2 * images[0, 0].numel()
        for _ in range(4):
            taken, _ = seconds(lambda layer=layer, images=images: layer(images))
            best = max(best, work / taken)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--small", action="store_true", help="9 windows of 64 x 64 x 16")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    window = (64, 64, 16) if arguments.small else WINDOW
    sides = (3, 3, 1) if arguments.small else (3, 3, 7)
    size = [w // 2 * (n + 1) for w, n in zip(window, sides, strict=True)]
    images = torch.randn(1, 1, *size)
    net = model()
    predict = parts.build(
        "predictor", "sliding_window", {"window": list(window), "overlap": OVERLAP, "windows_at_once": AT_ONCE}
    )
    last = images.contiguous(memory_format=torch.channels_last_3d)
    ours = model().to(memory_format=torch.channels_last_3d)

    def plain() -> torch.Tensor:
        return net.output(sliding_window_inference(images, window, AT_ONCE, net.network, overlap=OVERLAP)).probabilities

    def exact() -> torch.Tensor:
        return predict([ours], last).probabilities

    def rough() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return predict([ours], last).probabilities

    ways = {"MONAI, float32": plain, "Penumbra, float32": exact, "Penumbra, bfloat16": rough}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            net.network(torch.zeros(1, 1, *window))
        work = counter.get_total_flops() * sides[0] * sides[1] * sides[2]
        limit = work / fastest_convolution()
        for number in range(arguments.rounds + 1):
            for name, way in ways.items():
                spent, found[name] = seconds(way)
                if number:
                    taken[name].append(spent)
    base = statistics.median(taken["MONAI, float32"])
    print(f"{sides[0] * sides[1] * sides[2]} windows of {window}, {arguments.threads} threads, {work / 1e9:.0f} GFLOP")
    for name, values in taken.items():
        middle, gap = statistics.median(values), (found[name] - found["MONAI, float32"]).abs().max().item()
        a, b = found[name] >= 0.5, found["MONAI, float32"] >= 0.5
        dice = 2 * (a & b).sum().item() / (a.sum() + b.sum()).item()
        print(f"{name}: {middle:.2f} s, {base / middle:.2f} x; largest difference {gap:.1e}, Dice {dice:.5f}")
    print(f"limit in float32: {limit:.2f} s")


if __name__ == "__main__":
    main()
