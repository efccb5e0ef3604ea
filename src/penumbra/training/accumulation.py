"""The gradient of one batch, computed a part of the batch at a time, so that less memory is needed.

Losses here are not means over slices: the Dice loss is one ratio over the batch, and a normalised ReLU divides by the
batch's maximum. Adding up the gradients of the parts' own losses would minimise another loss. So each part passes
through the network twice: first without a gradient, for the logits of the whole batch, of which activation and loss
are computed as ever; then again, with the gradient of that loss at the part's logits. By the chain rule the sum over
the parts is the batch's gradient, for any activation and loss, at the price of one more forward pass.

What runs *inside the network* over a batch sees a part: batch normalisation takes mean and deviation of the part, in
both passes. Its running statistics move once a step, by their usual weight, towards the parts' statistics averaged by
the parts' sizes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from penumbra.training.model import Model


class _Running:
    """The buffers of a model (running statistics of normalisation), moved once by several parts."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.buffers = list(model.buffers())
        self.before = [buffer.clone() for buffer in self.buffers]
        self.after = [torch.zeros_like(b) if b.is_floating_point() else b.clone() for b in self.buffers]

    def restore(self) -> None:
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    def add(self, share: float) -> None:
        """Count the buffers as a part has left them; whole numbers (how many batches there were) count once."""
        for buffer, after in zip(self.buffers, self.after, strict=True):
            if buffer.is_floating_point():
                after.add_(buffer, alpha=share)
            else:
                after.copy_(buffer)

    def settle(self) -> None:
        for buffer, after in zip(self.buffers, self.after, strict=True):
            buffer.copy_(after)


def accumulate(
    model: Model,
    loss: Callable[..., torch.Tensor],
    images: torch.Tensor,
    target: torch.Tensor,
    *,
    parts: int,
    logits: Callable[[torch.Tensor], torch.Tensor],
    seed: Callable[[int], None],
) -> torch.Tensor:
    """The loss of a batch, a scalar; its gradient is added to that of the model's parameters.

    Parameters
    ----------
    images, target : (B, C, ...) and (B, K, ...). parts : how many, of sizes that differ by 1 at most.
    logits : the model's network, in the precision and layout of the training.
    seed : called with a part's number before each of its two passes, so that both draw the same dropout.
    """
    running = _Running(model)
    cut = images.tensor_split(parts)
    found = []
    with torch.no_grad():
        for number, part in enumerate(cut):
            running.restore()
            seed(number)
            found.append(logits(part))
            running.add(len(part) / len(images))
    whole = torch.cat(found).requires_grad_()
    value = loss(model.output(whole), target)
    (slope,) = torch.autograd.grad(value, whole)
    for number, (part, downhill) in enumerate(zip(cut, slope.tensor_split(parts), strict=True)):
        running.restore()
        seed(number)
        logits(part).backward(downhill)
    running.settle()
    return value.detach()
