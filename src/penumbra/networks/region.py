"""The region of interest of images that are 0 outside it, as scans of brains without their skull.

Prepared images of a data set with ``geometry.region: nonzero`` are 0 in all contrasts outside the region, and stay so
through augmentation and beyond the border of patches; inside, at least one contrast is not 0. So an image itself says
where its region is.
"""

from __future__ import annotations

import torch


def inside(images: torch.Tensor) -> torch.Tensor:
    """Where some contrast of images (B, C, ...) is not 0: (B, 1, ...) booleans."""
    return (images != 0).any(dim=1, keepdim=True)
