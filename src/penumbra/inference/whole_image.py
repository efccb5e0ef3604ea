"""What a model gives for a whole image, at once or stitched together from windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from penumbra.networks.dimensions import check_sides
from penumbra.networks.output import ModelOutput
from penumbra.networks.windows import stitched
from penumbra.training.model import Model


def whole_image(
    predictor: str, window: Sequence[int] | None, context: int, windows_at_once: int
) -> Callable[[Model, torch.Tensor], ModelOutput]:
    """A function from a model and images (B, C, ...) to the output for all their voxels.

    Parameters
    ----------
    predictor : whose options these are, for the error. window, context, windows_at_once : as for
        :func:`penumbra.networks.windows.stitched`; without a window the model sees the whole image.

    Raises
    ------
    PenumbraError : by that function, where the window has not as many sides as the images.
    """

    def output(model: Model, images: torch.Tensor) -> ModelOutput:
        if window is None:
            found: ModelOutput = model(images)
            return found
        check_sides(f"predictor.{predictor}.window", window, images.shape[2:])
        return model.output(stitched(model.network, images, window, context=context, at_once=windows_at_once))

    return output
