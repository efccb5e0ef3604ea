"""The pixels that figures of images show, and the numbers that stand for them in the marks.

Figures cut and binarise through these functions as they draw, and whoever checks a mark does so again from its files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Place = Sequence[int]
"""Which pixels of a volume ``(..., X, Y, Z)`` are shown: ``x0, x1, y0, y1, z``; of a slice without the last."""


def cut(volume: np.ndarray, place: Place) -> np.ndarray:
    """The shown part ``(..., x, y)`` of ``(..., X, Y, Z)``, or of ``(..., X, Y)`` where the place names no z."""
    x0, x1, y0, y1, *z = place
    return volume[..., x0:x1, y0:y1, z[0]] if z else volume[..., x0:x1, y0:y1]


def disagreement(raters: np.ndarray, classes: int) -> np.ndarray:
    """How much raters disagree on each slice: the sum over voxels and classes of ``f (1 - f)``.

    Parameters
    ----------
    raters : ``(R, X, Y, Z)`` label maps, k = k-th class.
    classes : K.

    Returns
    -------
    ``(Z,)``, 0 where all raters agree; f is the share of raters that give a voxel the class.
    """
    import numpy as np

    total = np.zeros(raters.shape[-1])
    for k in range(1, classes + 1):
        share = (raters == k).mean(axis=0)
        total += (share * (1 - share)).sum(axis=(0, 1))
    return total


def reference_of(maps: np.ndarray, k: int, smallest: Sequence[int]) -> np.ndarray:
    """Class ``k`` of the hard reference as a boolean map, without components of fewer voxels than are evaluated.

    ``smallest`` : least number of voxels, and the connectivity of components.
    """
    from penumbra.metrics.lesions import remove_small

    return remove_small(maps[k] >= 0.5, smallest[0], smallest[1])  # type: ignore[arg-type]


def binarised(
    maps: np.ndarray, k: int, rule: str, thresholds: np.ndarray, smallest: Sequence[int]
) -> tuple[np.ndarray, bool]:
    """Class ``k`` of a prediction binarised as for the metrics, and whether it could be."""
    from penumbra.metrics.binarisation import BINARISATIONS
    from penumbra.metrics.lesions import remove_small

    marked, usable = BINARISATIONS[rule](maps, thresholds)
    return remove_small(marked[k], smallest[0], smallest[1]), bool(usable[k])  # type: ignore[arg-type]


def entropy_of(samples: np.ndarray, classes: int, place: Place) -> np.ndarray:
    """The shown part ``(x, y)`` of the marginal entropy over samples, in [0, 1].

    Parameters
    ----------
    samples : label maps ``(S, X, Y, Z)``. classes : K, without the background.
    """
    import numpy as np

    from penumbra.metrics.distribution import marginal_entropy, marginals

    return marginal_entropy(marginals(cut(samples, place).astype(np.uint8), classes))


def case_scores(prediction: np.ndarray, samples: np.ndarray, readers: np.ndarray, classes: int) -> np.ndarray:
    """Dice scores ``(1 + S,)`` of the prediction and of each sample of one case, the mean over readers.

    Against one reader it is the mean over classes that are not empty on both sides; readers without such a class are
    left out, and what has none is NaN. The k-th samples of a case's slices are taken together.

    Parameters
    ----------
    prediction : label map ``(X, Y, Z)``. samples ``(S, X, Y, Z)``, readers ``(R, X, Y, Z)`` : label maps likewise.
    """
    import numpy as np

    from penumbra.metrics.distribution import Comparison, class_mean

    drawn = np.concatenate([prediction[np.newaxis], samples])
    scores = class_mean(Comparison(drawn, readers, classes).sample_dice(), "skip")
    defined = ~np.isnan(scores)
    total, count = np.where(defined, scores, 0.0).sum(axis=1), defined.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def score_summary(scores: np.ndarray, of: str | float) -> float:
    """One number of :func:`case_scores`: ``prediction``, ``better`` (the share of scored samples above the prediction),
    or a quantile of the scored samples, by its number."""
    import numpy as np

    prediction, drawn = scores[0], scores[1:][~np.isnan(scores[1:])]
    if of == "prediction":
        return float(prediction)
    if not len(drawn) or (of == "better" and np.isnan(prediction)):
        return float("nan")
    return float((drawn > prediction).mean()) if of == "better" else float(np.quantile(drawn, float(of)))


def read_scores(files: Sequence[Path], classes: int) -> np.ndarray:
    """:func:`case_scores` of files: the probability map, the samples, and each reader's mask."""
    import numpy as np

    from penumbra.data.case import read_class_map, read_nifti
    from penumbra.metrics.binarisation import most_probable_class

    probabilities, samples = read_class_map(files[0]), read_class_map(files[1])
    readers = np.stack([read_nifti(file)[0] for file in files[2:]]).astype(np.uint8)
    return case_scores(most_probable_class(probabilities).astype(np.uint8), samples.astype(np.uint8), readers, classes)


def shown_pixels(files: Sequence[Path], argument: Mapping[str, Any]) -> np.ndarray:
    """The pixels that a mark stands for, read from its files.

    ``argument`` names the ``array``: ``image`` (one ``channel`` of an ingested case), ``classes`` (all classes of a
    map), ``class`` (class ``k`` of it), ``entropy`` (over samples of ``labels`` classes), ``reference`` and ``binary``
    (``k``, binarised; the latter by ``rule`` and the thresholds in the second file), ``label`` and ``prediction`` (of
    ``progression.npz``: class ``k``, at position ``at``); and the ``place``, see :data:`Place`.
    """
    import numpy as np

    from penumbra.data.case import read_class_map, read_nifti

    kind, place = argument["array"], argument["place"]
    if kind in ("label", "prediction"):
        with np.load(files[0], allow_pickle=False) as content:
            slices = content["label"] if kind == "label" else content["predictions"][argument["at"]]
        return cut(np.asarray(slices, dtype=np.float64)[argument["k"]], place)
    if kind == "image":
        image = read_nifti(files[0])[0]
        channels = image[np.newaxis] if image.ndim == 3 else np.moveaxis(image, 3, 0)
        return cut(channels[argument["channel"]].astype(np.float32), place)
    maps = read_class_map(files[0])
    if kind == "entropy":
        return entropy_of(maps, argument["labels"], place)
    if kind == "classes":
        return cut(maps, place)
    if kind == "class":
        return cut(maps[argument["k"]].astype(np.float64), place)
    if kind == "reference":
        return cut(reference_of(maps, argument["k"], argument["smallest"]), place)
    thresholds = np.full(len(maps), np.nan)
    if len(files) > 1:
        from penumbra.metrics.inputs import read_thresholds

        thresholds = read_thresholds(files[1], list(argument["classes"]))
    return cut(binarised(maps, argument["k"], argument["rule"], thresholds, argument["smallest"])[0], place)


def slice_disagreement(files: Sequence[Path], argument: Mapping[str, Any]) -> float:
    """:func:`disagreement` of the raters' files on one ``slice``, with the number of ``classes``."""
    import numpy as np

    from penumbra.data.case import read_nifti

    raters = np.stack([read_nifti(file)[0] for file in files]).astype(np.uint8)
    return float(disagreement(raters, int(argument["classes"]))[int(argument["slice"])])


def last_epoch(files: Sequence[Path], argument: Mapping[str, Any]) -> float:
    """The last epoch in a ``progression.npz``."""
    import numpy as np

    with np.load(files[0], allow_pickle=False) as content:
        return float(content["epochs"][-1])


def sum_of(pixels: np.ndarray) -> tuple[float, int]:
    """Sum over pixels in float64, and how many there are."""
    return float(pixels.sum(dtype="float64")), int(pixels.size)
