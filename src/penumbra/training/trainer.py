"""Steps, validation and state of one training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from penumbra import device as devices
from penumbra import parts
from penumbra.augmentation.epoch import Epoch
from penumbra.errors import PenumbraError
from penumbra.networks.dimensions import check_sides, check_turns
from penumbra.networks.latent import LatentDistribution
from penumbra.networks.output import ModelOutput
from penumbra.networks.region import inside
from penumbra.networks.windows import centre, stitched, within
from penumbra.seeds import generator, torch_seed
from penumbra.training.accumulation import accumulate
from penumbra.training.early_stopping import Patience
from penumbra.training.memory import used_up
from penumbra.training.model import Model, build_model, copy_state, memory_format
from penumbra.training.patches import Sampler
from penumbra.training.progression import Progression
from penumbra.training.slices import Slices, smoothed

if TYPE_CHECKING:
    from penumbra.config.models import Candidate, Dataset, Training

Loss = Callable[..., torch.Tensor]
"""Of an output and a target; one that takes a mask is given it by name."""


@dataclass(frozen=True)
class Names:
    """What tells one training apart from all others; every draw carries these names."""

    seed: int
    dataset: str
    candidate: str
    split: int
    member: int

    def generator(self, purpose: str, *more: str | int) -> np.random.Generator:
        """A generator of this training for one purpose."""
        return generator(self.seed, purpose, self.dataset, self.candidate, self.split, self.member, *more)

    def torch_seed(self, purpose: str, *more: str | int) -> int:
        """A seed for torch of this training for one purpose."""
        return torch_seed(self.seed, purpose, self.dataset, self.candidate, self.split, self.member, *more)

    def __str__(self) -> str:
        return f"{self.dataset} / {self.candidate} / split {self.split} / member {self.member}"


@dataclass
class State:
    """Where the training is, beside model, optimiser and scheduler."""

    epoch: int = 1
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[tuple[int, float, float, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = math.inf
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    devices: list[str] = field(default_factory=list)
    parts: int = 1
    changes: list[dict[str, int]] = field(default_factory=list)


def learning_rate(options: Training, epoch: int) -> float:
    """Learning rate of an epoch (from 1).

    The cosine is torch's ``CosineAnnealingLR(T_max=epochs, eta_min=0)`` in closed form, milestones its ``MultiStepLR``.
    """
    if options.schedule == "cosine":
        return options.learning_rate * (1 + math.cos(math.pi * (epoch - 1) / options.epochs)) / 2
    if options.schedule == "constant":
        return options.learning_rate
    passed = sum(epoch > milestone for milestone in options.schedule.epochs)
    return float(options.learning_rate * options.schedule.factor**passed)


def optimiser(options: Training, parameters: Iterator[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of a training."""
    chosen, rate = options.optimiser, options.learning_rate
    if chosen.name == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=chosen.weight_decay, fused=True)
    return torch.optim.RMSprop(
        parameters, lr=rate, alpha=chosen.alpha, momentum=chosen.momentum, weight_decay=chosen.weight_decay
    )


class Trainer:
    """One training under way; ``state`` says how far it is.

    ``where`` tells cases and positions of slices, numbered through training and then validation slices.
    """

    def __init__(
        self,
        names: Names,
        candidate: Candidate,
        dataset: Dataset,
        training: Slices,
        validation: Slices,
        where: Callable[[np.ndarray], str],
        device: torch.device,
    ) -> None:
        self.names, self.options, self.device, self.where = names, candidate.training, device, where
        self.training, self.validation = training, validation
        self.hard, self.smoothing = candidate.labels.encoding == "hard", candidate.labels.smoothing
        torch.manual_seed(names.torch_seed("initialisation"))
        self.format = memory_format(device, self.options.precision, len(training.size))
        self.model: Model = build_model(candidate, dataset).to(device=device, memory_format=self.format)  # type: ignore[call-overload]
        self.loss: Loss = parts.build("loss", candidate.loss.name, candidate.loss.options)
        self.region = dataset.geometry.region == "nonzero"
        self.masked = self.region and parts.constant("loss", candidate.loss.name, "TAKES_MASK", False)
        self.optimiser = optimiser(self.options, self.model.parameters())
        self.patience = Patience(self.options.early_stopping)
        asked = self.options.gradient_accumulation
        parts_of_a_batch = asked if isinstance(asked, int) else 1
        self.state = State(devices=[devices.describe(device)["name"]], parts=parts_of_a_batch)
        self.waiting: list[torch.Tensor] = []
        self.batches: list[np.ndarray] = []
        self.patches = self.options.patches
        if self.patches is not None:
            check_sides("training.patches.size", self.patches.size, dataset.geometry.crop)
        self.shown = training.size if self.patches is None else self.patches.shown
        check_turns(self.options.augmentation, self.shown)
        self.of_each = 1 if self.patches is None else self.patches.of_each
        every = training.count * self.of_each
        self.used = min(self.options.slices_per_epoch or every, every)
        self.steps = math.ceil(self.used / self.options.batch_size)
        self._prepare_validation()
        self.progression = Progression(frozenset(self.options.progression), *validation.watched())

    def _prepare_validation(self) -> None:
        """Which raters, and which patches, validation sees: the same in all epochs and for all candidates (patches: for
        all of the same labels, which say where foreground is)."""
        names, validation = self.names, self.validation
        chosen = generator(names.seed, "validation-rater", names.dataset, names.split)
        variants = chosen.integers(validation.variants, size=validation.count)
        self.validation_items = np.arange(validation.count).repeat(self.of_each)
        self.validation_variants = variants.repeat(self.of_each)
        if self.patches is not None:
            self.samplers = tuple(Sampler(s, self.patches, region=self.region) for s in (self.training, validation))
            rng = generator(names.seed, "validation-patch", names.dataset, names.split)
            self.validation_middles = self.samplers[1].middles(rng, self.validation_items)

    # ------------------------------------------------------------ saved and restored

    def saved(self) -> dict[str, Any]:
        """All that the training needs to go on, for :meth:`restore`; random draws need no state."""
        state = self.state
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "patience": [self.patience.previous, self.patience.count],
            "progress": vars(state) | {"history": [list(row) for row in state.history]},
            "progression": [self.progression.kept_epochs, self.progression.kept],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.patience.previous, self.patience.count = saved["patience"]
        self.progression.kept_epochs, self.progression.kept = saved["progression"]
        here = self.state.devices
        self.state = State(**saved["progress"])
        self.state.devices += here
        self.state.history = [(row[0], row[1], row[2], row[3]) for row in self.state.history]
        self.state.best = {name: value.to(self.device) for name, value in self.state.best.items()}

    # ------------------------------------------------------------ one epoch

    def _features(self, images: torch.Tensor) -> torch.Tensor | LatentDistribution:
        bfloat16 = self.options.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            images = images.contiguous(memory_format=self.format)
            context = 0 if self.patches is None else self.patches.context
            found: torch.Tensor | LatentDistribution = within(self.model.network, images, context)
        return found.float() if bfloat16 and isinstance(found, torch.Tensor) else found

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """The network's last channels for a part of a batch, which can be put together with others."""
        found = self._features(images)
        assert isinstance(found, torch.Tensor), "the configuration lets no batch with latent variables be cut"
        return found

    def _parts(self, count: int) -> int:
        """In how many parts a batch of ``count`` passes, so that none is larger than those of a whole batch."""
        return math.ceil(count / math.ceil(self.options.batch_size / self.state.parts))

    def _forward(self, images: torch.Tensor) -> ModelOutput:
        """Outputs of a batch without gradients, its parts through the network one by one."""
        parts = self._parts(len(images))
        if parts == 1:
            return self.model.output(self._features(images))
        return self.model.output(torch.cat([self._logits(part) for part in images.tensor_split(parts)]))

    def _loss_for(self, images: torch.Tensor, target: torch.Tensor) -> Loss:
        """The loss of a batch, which is told the images' region of interest if it takes one."""
        if not self.masked:
            return self.loss
        return partial(self.loss, mask=centre(inside(images), target.shape[2:])[:, 0])

    def _seed_part(self, part: int) -> None:
        torch.manual_seed(self.names.torch_seed("dropout", self.state.epoch, self.state.step, part))

    def _gradient(self, images: torch.Tensor, target: torch.Tensor, seed: int) -> torch.Tensor:
        """The loss of a batch; its gradient is left with the parameters."""
        self.optimiser.zero_grad(set_to_none=True)
        parts, loss = self._parts(len(images)), self._loss_for(images, target)
        if parts > 1:
            return accumulate(self.model, loss, images, target, parts=parts, logits=self._logits, seed=self._seed_part)
        torch.manual_seed(seed)
        value = loss(self.model.output(self._features(images)), target)
        value.backward()
        return value.detach()

    def _gradient_that_fits(self, images: torch.Tensor, target: torch.Tensor, seed: int) -> torch.Tensor:
        """:meth:`_gradient`, with twice as many parts each time that memory is used up, where that is asked for."""
        if self.options.gradient_accumulation != "auto":
            return self._gradient(images, target, seed)
        before = [buffer.clone() for buffer in self.model.buffers()]
        while True:
            try:
                return self._gradient(images, target, seed)
            except (RuntimeError, MemoryError) as error:
                if not used_up(error) or self.state.parts >= self.options.batch_size:
                    raise
            # Out of the handler, so that the failed attempt's tensors are gone.
            self.optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            self.state.parts = min(2 * self.state.parts, self.options.batch_size)
            self.state.changes.append(
                {"epoch": self.state.epoch, "step": self.state.step + 1, "parts": self.state.parts}
            )

    def _finite(self, losses: list[float], first_step: int, batches: list[np.ndarray], what: str) -> None:
        for number, value in enumerate(losses, start=first_step):
            if not math.isfinite(value):
                raise PenumbraError(
                    f"the {what} loss became {value} in epoch {self.state.epoch}, step {number + 1} of {len(batches)} "
                    f"({self.names}); the batch: {self.where(batches[number])}",
                    cure=f"lower training.learning_rate (now {self.options.learning_rate:g}), look at these images and "
                    "labels, and use training.precision: float32 if it is not",
                )

    def collect(self) -> None:
        """Read the losses that are still on the device into the state, and check them."""
        if self.waiting:
            values = torch.stack(self.waiting).tolist()
            self.waiting.clear()
            self._finite(values, len(self.state.losses), self.batches, "training")
            self.state.losses += values

    def epoch_steps(self) -> Iterator[None]:
        """Take the steps left of the epoch under way, yielding after each; losses are collected in the state."""
        names, options, state = self.names, self.options, self.state
        order = names.generator("order", state.epoch).permutation(self.training.count * self.of_each)[: self.used]
        order //= self.of_each
        variants = names.generator("rater", state.epoch).integers(self.training.variants, size=self.used)
        seeds = names.generator("dropout", state.epoch).integers(np.iinfo(np.int64).max, size=self.steps)
        batches = [order[k : k + options.batch_size] for k in range(0, self.used, options.batch_size)]
        augment = None
        if options.augmentation is not None:
            drawn = partial(names.generator, "augmentation", state.epoch)
            contrasts = self.training.contrasts
            augment = Epoch(
                options.augmentation, self.used, contrasts, self.shown, drawn, self.device, region=self.region
            )
        self.model.train()
        self.batches = batches
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(options, state.epoch)
        gathered = self._gathered(order, variants)
        while state.step < self.steps:
            chosen = slice(state.step * options.batch_size, (state.step + 1) * options.batch_size)
            images, target = gathered(chosen)
            if augment is not None:
                images, target = augment(images, target, chosen)
                if self.hard:
                    target = (target >= 0.5).float()
            if self.patches is not None:
                target = centre(target, self.patches.size)
            if self.smoothing:
                target = smoothed(target, self.smoothing)
            self.waiting.append(self._gradient_that_fits(images, target, int(seeds[state.step])))
            self.optimiser.step()
            state.step += 1
            # Reading a value waits for a GPU but costs nothing on a CPU.
            if self.device.type == "cpu" or state.step == self.steps:
                self.collect()
            yield

    def _gathered(
        self, items: np.ndarray, variants: np.ndarray
    ) -> Callable[[slice], tuple[torch.Tensor, torch.Tensor]]:
        """What gives images and labels of some of the epoch's items: whole ones, or a patch of each."""
        if self.patches is None:
            place = self.training.item_device
            whole, raters = torch.from_numpy(items).to(place), torch.from_numpy(variants).to(place)
            return lambda chosen: self.training.gather(whole[chosen], raters[chosen])
        sampler = self.samplers[0]

        def patches(chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
            rng = self.names.generator("patch", self.state.epoch, self.state.step)
            return sampler.gather(items[chosen], variants[chosen], sampler.middles(rng, items[chosen]))

        return patches

    def _validation_batch(self, chosen: slice) -> tuple[torch.Tensor, torch.Tensor]:
        items, variants = self.validation_items[chosen], self.validation_variants[chosen]
        if self.patches is None:
            place = self.validation.item_device
            return self.validation.gather(torch.from_numpy(items).to(place), torch.from_numpy(variants).to(place))
        images, target = self.samplers[1].gather(items, variants, self.validation_middles[chosen])
        return images, centre(target, self.patches.size)

    @torch.no_grad()
    def validate(self) -> float:
        """The mean loss over the validation batches."""
        self.model.eval()
        torch.manual_seed(self.names.torch_seed("validation", self.state.epoch))
        size, losses, batches = self.options.batch_size, [], []
        for k in range(0, len(self.validation_items), size):
            images, target = self._validation_batch(slice(k, k + size))
            losses.append(self._loss_for(images, target)(self._forward(images), target))
            batches.append(self.validation_items[k : k + size] + self.training.count)
        values = torch.stack(losses).tolist()
        self._finite(values, 0, batches, "validation")
        return math.fsum(values) / len(values)

    @torch.no_grad()
    def watch(self) -> None:
        """Keep the prediction of the watched validation slice."""
        self.model.eval()
        item = self.progression.item
        place = self.validation.item_device
        variants = torch.from_numpy(self.validation_variants[item * self.of_each, None]).to(place)
        images, _ = self.validation.gather(torch.tensor([item], device=place), variants)
        if self.patches is None:
            output = self._forward(images)
        else:
            bfloat16 = self.options.precision == "bfloat16"
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bfloat16):
                found = stitched(self.model.network, images, self.patches.size, context=self.patches.context)
            output = self.model.output(found.float())
        maps = output.probabilities
        self.progression.keep(self.state.epoch, maps * inside(images) if self.region else maps)

    def finish_epoch(self) -> bool:
        """Validate and keep the best weights; true when the training is over."""
        state = self.state
        rate = learning_rate(self.options, state.epoch)
        train_loss, validation_loss = math.fsum(state.losses) / len(state.losses), self.validate()
        state.history.append((state.epoch, train_loss, validation_loss, rate))
        if validation_loss < state.best_loss:
            state.best_epoch, state.best_loss, state.best = state.epoch, validation_loss, copy_state(self.model)
        over = self.patience.update(validation_loss) or state.epoch >= self.options.epochs
        if over or state.epoch in self.progression.epochs:
            self.watch()
        state.epoch, state.step, state.losses = state.epoch + 1, 0, []
        return over
