"""What an index says of its approximate search: how it visits few rows, what that gives, and why a row was missed."""

from typing import NamedTuple


class Point(NamedTuple):
    """What was measured at one setting."""

    k: int
    """Neighbours asked for."""
    probes: int
    """Cells or buckets visited; of cells, more by queries that have many near, and fewer by others."""
    recall: float
    """Share of the exact neighbours that was found."""
    error: float
    """Standard error of `recall`."""
    visited: float
    """Rows in them, on average; a row that stands in two of the cells counts twice."""


class Ann(NamedTuple):
    """How an index visits few rows, and what that was tuned on.

    Compares with words: ``index.ann == "ivf"``.
    """

    kind: str
    """``"ivf"``, ``"lsh"``, or ``"exact"``: every row is a candidate."""
    recall: float
    """The recall that queries get unless they say otherwise; 1 for ``"exact"``."""
    cells: int
    """How many cells an ``"ivf"`` has; 0 for others."""
    spilled: bool
    """Whether rows stand in two cells each."""
    tables: int
    """How many tables an ``"lsh"`` has; 0 for others."""
    bits: int
    """Bits of a bucket's number in each."""
    queries: int
    """Queries that it was tuned on; an ``"lsh"`` takes 200 of a sample."""
    tuned_on: str
    """``"rows"`` held out of the training, ``"queries"`` that were given, or ``"nothing"`` for ``"exact"``."""
    points: tuple[Point, ...]
    """What was measured, by neighbours asked for, then by cells or buckets visited."""

    def __eq__(self, other: object) -> bool:
        return self.kind == other if isinstance(other, str) else tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.kind)

    def __str__(self) -> str:
        if self.kind == "exact":
            return "exact"
        twice = ", rows in two each" if self.spilled else ""
        size = f"{self.cells} cells{twice}" if self.kind == "ivf" else f"{self.tables} tables of {self.bits} bits"
        return f"{self.kind} of {size}, tuned to recall {self.recall:g} on {self.queries} {self.tuned_on}"


class Recall(NamedTuple):
    """A measured recall."""

    recall: float
    """Share of the exact neighbours that was found."""
    low: float
    """Lower end of the interval that holds the recall of all such queries 19 times in 20."""
    high: float
    """Its upper end."""
    queries: int
    """Queries asked."""
    visited: float
    """Codes or rows read by a query, on average, as a share of all rows; those of centroids are not counted."""
    exact: float
    """Share of the answers that were known to be exact, see `Certificate`."""


class Place(NamedTuple):
    """What holds a row, and where that comes in a query's order, from 0."""

    number: int
    """Of the cell; of an ``"lsh"``, of the table."""
    place: int
    """Of the cell, or of the row's bucket in that table."""


class Miss(NamedTuple):
    """Why a search found a row, or did not."""

    found: bool
    """Whether it did."""
    reason: str
    """In words."""
    key: float
    """What the row is ranked by, as `Hits.keys`."""
    kth: float
    """That of the last row found."""
    places: tuple[Place, ...]
    """The row's cells or buckets, the first to be visited first; none where search is exact."""
    probes: int
    """Cells or buckets that the query visits, before ratio_threshold; 0 where search is exact."""
