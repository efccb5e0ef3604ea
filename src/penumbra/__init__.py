"""Penumbra: segmentation with ambiguous labels, reproduced, compared and audited."""

__version__ = "0.1.0"
