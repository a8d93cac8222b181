"""What an index says of its approximate search: how it visits few rows, what that gives, and why a row was missed."""

from typing import NamedTuple


class TuningPoint(NamedTuple):
    """What was measured at one setting."""

    k: int
    """Neighbours asked for."""
    nprobe: int
    """Cells or buckets visited; of cells, more by queries that have many near, and fewer by others."""
    recall: float
    """Share of the exact neighbours that was found."""
    error: float
    """Standard error of `recall`."""
    visited: float
    """Rows in them, on average; a row that is in two of the cells counts twice."""


class Ann(NamedTuple):
    """How an index visits few rows, and what that was tuned on.

    Compares with words: ``index.ann == "ivf"``.
    """

    kind: str
    """``"ivf"``, ``"lsh"``, or ``"exact"``: every row is a candidate."""
    recall: float
    """The recall that queries get unless they say otherwise; 1 for ``"exact"``."""
    nlist: int
    """How many cells an ``"ivf"`` has; 0 for others."""
    spill: bool
    """Whether every row is in two of them."""
    tables: int
    """How many tables an ``"lsh"`` has; 0 for others."""
    bits: int
    """Bits of a bucket's number in each."""
    queries: int
    """Queries that it was tuned on; an ``"lsh"`` takes 200 of a sample."""
    tuned_on: str
    """``"rows"`` held out of the training, ``"queries"`` that were given, or ``"nothing"`` for ``"exact"``."""
    tuning: tuple[TuningPoint, ...]
    """What was measured, by neighbours asked for, then by cells or buckets visited."""

    def __eq__(self, other: object) -> bool:
        return self.kind == other if isinstance(other, str) else tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        if self.kind == "exact":
            return "exact"
        twice = ", every row in two of them" if self.spill else ""
        size = f"{self.nlist} cells{twice}" if self.kind == "ivf" else f"{self.tables} tables of {self.bits} bits"
        source = "given queries" if self.tuned_on == "queries" else "held-out rows"
        return f"{self.kind} of {size}, tuned for recall {self.recall:g} on {self.queries} {source}"


class Recall(NamedTuple):
    """A measured recall."""

    recall: float
    """Share of the exact neighbours that was found."""
    low: float
    """Lower end of the 95% confidence interval of the recall of all such queries."""
    high: float
    """Its upper end."""
    queries: int
    """Queries asked."""
    visited: float
    """Codes or rows read by a query, on average, as a share of all rows; those of centroids are not counted."""
    exact: float
    """Share of the answers that were proven to be exact, see `Certificate`."""

    def __repr__(self) -> str:
        visited, exact = 100 * self.visited, 100 * self.exact
        return (
            f"recall {self.recall:.4g} ({self.low:.4g} to {self.high:.4g} at 95% confidence) of {self.queries} queries "
            f"that visited {visited:.3g}% of the rows; {exact:.3g}% of the answers are proven exact"
        )


class RankedCell(NamedTuple):
    """A cell that holds a row, or a bucket of an ``"lsh"``, and when the query visits it."""

    number: int
    """Of the cell; of an ``"lsh"``, of the table."""
    rank: int
    """1 for the cell nearest to the query or the likeliest bucket; visited if it is at most `Miss.nprobe`."""


class Miss(NamedTuple):
    """Why a search found a row, or did not."""

    found: bool
    """Whether it did."""
    reason: str
    """In words."""
    key: float
    """What the row is ranked by, as `Hits.keys`."""
    kth_key: float
    """That of the last row found."""
    cells: tuple[RankedCell, ...]
    """The row's cells or buckets, by rank; none where search is exact."""
    nprobe: int
    """Cells or buckets that the query visits, before ratio_threshold; 0 where search is exact."""

    def __repr__(self) -> str:
        return f"{'found' if self.found else 'missed'}: {self.reason}"
