"""Loading and augmentation of a batch: resident and batched, against one slice at a time.

::

    .venv/bin/python benchmarks/augmentation.py [--rounds N] [--device cpu|cuda]

Batches of 8 slices of 128 x 128 with a hard label; one thread. Sides take turns, and medians of processor time are
printed:

* *per sample*: a plain loop, each slice read from the mapped file, image and label transformed by ``scipy.ndimage``
  with the same drawn parameters, then stacked: what released code does in a worker;
* *MONAI*: its dictionary transform ``RandAffined`` with the same ranges, slice by slice, where MONAI is installed;
* *Penumbra*: the training's own ``gather`` and ``transform``, with the draws' share of an epoch.

The plain loop and Penumbra get equal parameters, and images must agree to 0.002, labels but for rounding at 0.5. The
limit printed beside is the time to copy the batch's bytes once, in and out, which any loader must.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).resolve().parent)]

from training_step import BATCH, SIDE, items, medians  # noqa: E402

from penumbra.augmentation.affine import AffineParameters, affine_parameters, transform  # noqa: E402
from penumbra.config.models import Augmentation  # noqa: E402
from penumbra.training.slices import Slices  # noqa: E402

ITEMS = 256
Batch = tuple[torch.Tensor, torch.Tensor]


def per_sample(images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, drawn: AffineParameters) -> Batch:
    """One slice after the other with ``scipy.ndimage``; ``drawn`` has the parameters of ``chosen``."""
    found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    centre = 0.5 * np.asarray(images.shape[2:])
    for item, matrix, shift in zip(chosen, drawn.matrices(), drawn.translation, strict=True):
        offset = centre + shift - matrix @ centre
        for array, to in ((images[item], found[0]), ((labels[item, 0] >= 0.5).astype(np.float32), found[1])):
            planes = [
                ndimage.affine_transform(plane, matrix, offset, order=1, mode="grid-constant", output=np.float32)
                for plane in array
            ]
            to.append(torch.from_numpy(np.stack(planes)))
    return torch.stack(found[0]), (torch.stack(found[1]) >= 0.5).float()


def with_monai(images: np.ndarray, labels: np.ndarray, options: Augmentation) -> Callable[[np.ndarray], Batch] | None:
    """The same ranges by MONAI's dictionary transforms, or None without MONAI."""
    try:
        from monai.transforms import Compose, EnsureTyped, RandAffined
    except ImportError:
        return None
    shift = options.translation * SIDE
    chain = Compose(
        [
            EnsureTyped(keys=("image", "label")),
            RandAffined(
                keys=("image", "label"),
                prob=1.0,
                rotate_range=np.deg2rad(options.rotation_degrees),
                scale_range=(options.scale, options.scale),
                translate_range=(shift, shift),
                mode="bilinear",
                padding_mode="zeros",
            ),
        ]
    )
    chain.set_random_state(seed=1)

    def load(chosen: np.ndarray) -> Batch:
        made = [
            chain({"image": np.array(images[k]), "label": (labels[k, 0] >= 0.5).astype(np.float32)}) for k in chosen
        ]
        return (
            torch.stack([m["image"].as_tensor() for m in made]),
            (torch.stack([m["label"].as_tensor() for m in made]) >= 0.5).float(),
        )

    return load


class Resident:
    """An epoch's draws at once, then batches by index, as the training takes them."""

    def __init__(self, slices: Slices, options: Augmentation, place: torch.device) -> None:
        self.slices, self.options, self.place = slices, options, place
        self.step = ITEMS

    def draw(self, seed: int) -> None:
        """Draw the parameters of an epoch."""
        self.drawn = affine_parameters(np.random.default_rng(seed), ITEMS, self.options, (SIDE, SIDE))
        self.theta = torch.from_numpy(self.drawn.normalised((SIDE, SIDE))).to(self.place, torch.float32)
        self.order = np.random.default_rng(seed).permutation(ITEMS)
        self.items = torch.from_numpy(self.order).to(self.slices.item_device)
        self.variants = torch.zeros_like(self.items)
        self.step = 0

    def load(self) -> Batch:
        """The next batch."""
        if self.step >= ITEMS:
            self.draw(3)
        chosen = slice(self.step, self.step + BATCH)
        self.step += BATCH
        images, labels = self.slices.gather(self.items[chosen], self.variants[chosen])
        images, labels = transform(images, labels, self.theta[chosen])
        return images, (labels >= 0.5).float()


def part(drawn: AffineParameters, chosen: slice) -> AffineParameters:
    """Parameters of some of the items."""
    return AffineParameters(drawn.angle[chosen], drawn.scale[chosen], drawn.translation[chosen])


def sides(folder: Path, place: torch.device) -> tuple[dict[str, Callable[[], object]], Resident]:
    """What is measured, after a check that the loop and the batch agree."""
    images, labels = items(ITEMS)
    arrays = []
    for name, array in (("images.npy", images), ("labels.npy", labels)):
        np.save(folder / name, array)
        arrays.append(np.load(folder / name, mmap_mode="r"))
    options = Augmentation()
    resident = Resident(Slices(arrays[0], arrays[1], np.arange(ITEMS), hard=True, device=place), options, place)
    resident.draw(2)
    first = slice(0, BATCH)
    plain = per_sample(*arrays, resident.order[first], part(resident.drawn, first))
    batched = [t.cpu() for t in resident.load()]
    apart = float((plain[0] - batched[0]).abs().max())
    labels_apart = float((plain[1] != batched[1]).float().mean())
    print(f"agreement        images within {apart:.1e}, {100 * labels_apart:.4f} % of the labels' pixels differ")
    if apart > 2e-3 or labels_apart > 1e-4:
        sys.exit("the sides do not agree")
    rng = np.random.default_rng(4)

    def loop() -> object:
        drawn = affine_parameters(rng, BATCH, options, (SIDE, SIDE))
        return per_sample(*arrays, rng.integers(ITEMS, size=BATCH), drawn)

    found: dict[str, Callable[[], object]] = {"per sample": loop}
    if (monai := with_monai(*arrays, options)) is not None:
        found["MONAI"] = lambda: monai(rng.integers(ITEMS, size=BATCH))
    found["Penumbra"] = resident.load
    return found, resident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    place = torch.device(asked.device)
    with tempfile.TemporaryDirectory() as folder:
        measured, _ = sides(Path(folder), place)
        batch = torch.zeros(BATCH, 2, SIDE, SIDE, device=place)
        found = medians({**measured, "copy": batch.clone}, asked.rounds, place, times=4)
    own = found["Penumbra"]
    for name, seconds in found.items():
        beside = "" if name in ("Penumbra", "copy") else f", {seconds / own:.1f}x Penumbra's"
        beside = ", the limit of memory" if name == "copy" else beside
        print(f"{name:16} {1e3 * seconds:.2f} ms a batch of {BATCH}{beside}")


if __name__ == "__main__":
    main()
