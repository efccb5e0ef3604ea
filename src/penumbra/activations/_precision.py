"""Activations and losses are computed in float32 or better, whatever precision the network ran in."""

from __future__ import annotations

import torch


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself if it is float32 or float64, else a float32 copy."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
