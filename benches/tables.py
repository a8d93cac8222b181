"""Tables made by rule: what is easy for codes, what is hard for them, and what is full of equal scores.

Each rule takes a random generator, rows and dims, and returns float64 rows, so that a level of float64
has something to keep.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def gaussian(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows that point everywhere alike."""
    return random.standard_normal((rows, dims))


def power_law(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows whose values vary less and less from dim to dim, in axes turned at random."""
    x = random.standard_normal((rows, dims)) / np.arange(1, dims + 1) ** 0.7
    return x @ np.linalg.qr(random.standard_normal((dims, dims)))[0]


def common(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows that share a direction: two have a cosine of 0.7 on average."""
    x = random.standard_normal((rows, dims))
    return x + np.sqrt(7 / 3) * random.choice([-1.0, 1.0], dims)


def duplicates(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows of which 30 % are exact copies of a few others."""
    x = random.standard_normal((rows, dims))
    copies = random.permutation(rows)[: rows * 3 // 10]
    x[copies] = x[random.integers(rows // 500 + 1, size=len(copies))]
    return x


def crowds(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows in crowds of about a hundred that lie close to each other."""
    centres = random.standard_normal((rows // 100 + 1, dims))
    return centres[random.integers(len(centres), size=rows)] + 0.2 * random.standard_normal((rows, dims))


def integers(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows of small whole numbers: many scores are equal, or very nearly."""
    return np.rint(random.standard_normal((rows, dims)))


def lengths(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows of very different lengths, one in a hundred of length 0."""
    x = random.standard_normal((rows, dims)) * np.exp(random.uniform(-8, 8, (rows, 1)))
    x[random.random(rows) < 0.01] = 0
    return x


def offset(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows far from the origin and close to each other."""
    return 100 * random.standard_normal(dims) + random.standard_normal((rows, dims))


RULES: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    rule.__name__: rule for rule in (gaussian, power_law, common, duplicates, crowds, integers, lengths, offset)
}
