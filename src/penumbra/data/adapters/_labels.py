"""Label maps of classes from label maps of other numbers: what the adapters' option ``labels`` does."""

from __future__ import annotations

import numpy as np

from penumbra.errors import PenumbraError


def checked_labels(
    labels: dict[str, list[int]], classes: list[str], background: str | None = None
) -> dict[str, list[int]]:
    """The option ``labels`` as it was given, checked.

    Parameters
    ----------
    labels : the labels of each class.
    classes : the data set's classes.
    background : a further name that may be given, for the labels that become background.

    Raises
    ------
    PenumbraError : a class has no labels or no class has the name, a label belongs to two classes, or 0 to one.
    """
    given = [number for numbers in labels.values() for number in numbers]
    named = set(labels) - {background}
    if named != set(classes) or len(set(given)) < len(given) or not all(labels.values()) or 0 in given:
        raise PenumbraError(
            f"the adapter's option `labels` is {labels}, the classes are {', '.join(classes)}",
            cure="give every class its labels, none to two of them and none to 0, the background",
        )
    return {name: list(numbers) for name, numbers in labels.items()}


def classes_of(array: np.ndarray, numbers: list[list[int]], known: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """A label map of classes from one of labels.

    Parameters
    ----------
    array : ``(X, Y, Z)`` labels, of any type of plain numbers.
    numbers : the labels of each class, disjoint.
    known : all labels that may occur.

    Returns
    -------
    ``(X, Y, Z)`` uint8 (uint16 beyond 255 classes), 0 for background and k for the k-th class; and the values of
    ``array`` that are not ``known``.
    """
    values, where = np.unique(array, return_inverse=True)
    new = np.zeros(len(values), dtype=np.uint8 if len(numbers) < 256 else np.uint16)
    for k, of_class in enumerate(numbers, start=1):
        new[np.isin(values, of_class)] = k
    return new[where].reshape(array.shape), values[~np.isin(values, [0, *known])]


def some(values: np.ndarray, most: int = 6) -> str:
    """The first few of many values, for a message."""
    shown = ", ".join(f"{v:g}" for v in values[:most])
    return shown + (", ..." if len(values) > most else "")
