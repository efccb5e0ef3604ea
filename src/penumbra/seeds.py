"""Named random generators: every random choice of Penumbra flows from here.

A generator is named by *what it is for*: ``generator(seed, "augmentation", "phantom_cord", "conv-staple", 3, epoch)``.
The name is hashed, not counted, so adding a candidate, a worker or a log line never shifts another's draws, and a
resumed training draws what an uninterrupted one would have drawn without any generator state being saved.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def _entropy(name: tuple[str | int, ...]) -> list[int]:
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in name)
    digest = hashlib.sha256(text.encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]


def generator(seed: int, purpose: str, *name: str | int) -> np.random.Generator:
    """A numpy generator (PCG64) for one purpose.

    Parameters
    ----------
    seed : the study's seed.
    purpose : what is drawn: ``"split"``, ``"initialisation"``, ``"order"``, ``"augmentation"``, ``"rater"``, ...
    name : what else tells this use apart: dataset, candidate, split, member, epoch, case, ...
    """
    import numpy as np

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *_entropy((purpose, *name))])))


def torch_seed(seed: int, purpose: str, *name: str | int) -> int:
    """A 63-bit seed for ``torch.manual_seed``, named in the same way."""
    import numpy as np

    return int(generator(seed, purpose, *name).integers(0, np.iinfo(np.int64).max))
