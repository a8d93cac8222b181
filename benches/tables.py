"""Generated tables: easy for codes, hard for codes, and with many equal scores.

Each function takes a random generator, the number of rows and the number of dims. It returns float64 rows that float32
cannot hold exactly, so that level f64 differs from the others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def gaussian(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Isotropic rows."""
    return random.standard_normal((rows, dims))


def power_law(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows whose variance falls from axis to axis by a power law, randomly rotated."""
    x = random.standard_normal((rows, dims)) / np.arange(1, dims + 1) ** 0.7
    return x @ np.linalg.qr(random.standard_normal((dims, dims)))[0]


def common(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows with a common direction: the mean cosine of two rows is 0.7."""
    x = random.standard_normal((rows, dims))
    return x + np.sqrt(7 / 3) * random.choice([-1.0, 1.0], dims)


def duplicates(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows of which 30 % are exact copies of a few rows."""
    x = random.standard_normal((rows, dims))
    copies = random.permutation(rows)[: rows * 3 // 10]
    x[copies] = x[random.integers(rows // 500 + 1, size=len(copies))]
    return x


def crowds(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows in groups of about a hundred near duplicates."""
    centres = random.standard_normal((rows // 100 + 1, dims))
    return centres[random.integers(len(centres), size=rows)] + 0.2 * random.standard_normal((rows, dims))


def integers(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows of small whole numbers: many scores are equal or nearly equal."""
    return np.rint(random.standard_normal((rows, dims)))


def lengths(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows with lengths from e^-8 to e^8 times those of gaussian rows; one in a hundred has length 0."""
    x = random.standard_normal((rows, dims)) * np.exp(random.uniform(-8, 8, (rows, 1)))
    x[random.random(rows) < 0.01] = 0
    return x


def offset(random: np.random.Generator, rows: int, dims: int) -> Array:
    """Rows that are far from the origin and close to each other."""
    return 100 * random.standard_normal(dims) + random.standard_normal((rows, dims))


RULES: dict[str, Callable[[np.random.Generator, int, int], Array]] = {
    rule.__name__: rule for rule in (gaussian, power_law, common, duplicates, crowds, integers, lengths, offset)
}
