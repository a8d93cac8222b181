"""Results of approximate search other than hits: its parameters, its measured recall, and the reason for a miss."""

from typing import NamedTuple


class TuningPoint(NamedTuple):
    """The recall measured for one `k` at one `nprobe`."""

    k: int
    """Number of neighbours."""
    nprobe: int
    """Number of cells or buckets visited. A query with many near cells visits more cells, other queries fewer."""
    recall: float
    """Share of the exact neighbours that was found."""
    error: float
    """Standard error of `recall`."""
    visited: float
    """Mean number of rows in the visited cells or buckets; a row in two visited cells counts twice."""


class Ann(NamedTuple):
    """The approximate search of an index, and the measurements that tuned it.

    An `Ann` equals the string of its kind: ``index.ann == "ivf"``.
    """

    kind: str
    """``"ivf"``, ``"lsh"``, or ``"exact"``, where every row is a candidate."""
    recall: float
    """Default recall of queries; 1 for ``"exact"``."""
    nlist: int
    """Number of cells of an ``"ivf"``; 0 for other kinds."""
    spill: bool
    """Whether every row is in the inverted lists of two cells."""
    tables: int
    """Number of tables of an ``"lsh"``; 0 for other kinds."""
    bits: int
    """Number of bits of a bucket number of an ``"lsh"``; 0 for other kinds."""
    queries: int
    """Number of queries used for tuning; an ``"lsh"`` uses at most 200. Of rows that are copies of each other one is
    used, and its copies are no neighbours: few queries here mean that the table consists of copies."""
    tuned_on: str
    """``"rows"`` held out of the training, the ``"queries"`` given to `tune`, or ``"nothing"`` for ``"exact"``.

    Rows promise nothing about queries of another kind, such as questions to a table of answers: tune on a sample of
    these. Nor is a recall below 0.95 promised on tables that consist of copies.
    """
    tuning: tuple[TuningPoint, ...]
    """The measurements, ordered by `k`, then by `nprobe`."""
    added: int
    """Rows added since the cells or buckets were made and tuned, which are searched exactly until a compaction."""
    deleted: int
    """Rows in the cells or buckets that have been deleted since."""

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
        given = self.tuned_on == "queries"
        source = "given queries" if given else "held-out rows, for queries like them (others: tune(queries=...))"
        changed = [
            f"{count} rows {what}" for count, what in ((self.added, "added"), (self.deleted, "deleted")) if count
        ]
        age = f"; {' and '.join(changed)} since" if changed else ""
        return f"{self.kind} of {size}, tuned for recall {self.recall:g} on {self.queries} {source}{age}"


class Recall(NamedTuple):
    """The recall of a sample of queries, measured against exact search."""

    recall: float
    """Share of the exact neighbours that was found."""
    low: float
    """Lower end of the 95 % confidence interval of the mean recall of such queries."""
    high: float
    """Upper end of that interval."""
    queries: int
    """Number of queries."""
    measured_on: str
    """``"rows"`` held out of the training and the tuning, or the ``"queries"`` given to `recall`.

    Rows tell the recall of unseen queries like them, not that of queries of another kind. Copies of such a row are no
    neighbours, but they have trained a cell: on tables of copies the recall told may be off by some hundredths.
    """
    visited: float
    """Mean share of the rows whose code or values a query read; centroids are not counted."""
    exact: float
    """Share of the answers that are proven to be exact, see `Certificate.exact`."""

    def __repr__(self) -> str:
        visited, exact = 100 * self.visited, 100 * self.exact
        given = self.measured_on == "queries"
        source = "given queries" if given else "held-out rows, for queries like them (others: recall(queries=...))"
        return (
            f"recall {self.recall:.4g} ({self.low:.4g} to {self.high:.4g} at 95% confidence) "
            f"on {self.queries} {source}; "
            f"{visited:.3g}% of the rows visited, {exact:.3g}% of the answers proven exact"
        )


class RankedCell(NamedTuple):
    """A cell or bucket that holds a row, with its rank in the order in which the query visits them."""

    number: int
    """Number of the cell; for ``"lsh"``, number of the table."""
    rank: int
    """1 for the nearest cell or the likeliest bucket. The query visits ranks up to `Miss.nprobe`."""


class Miss(NamedTuple):
    """The reason why a search finds or misses a row."""

    found: bool
    """Whether the row is among the best k."""
    reason: str
    """The reason as a sentence."""
    key: float
    """Float64 ranking key of the row, as in `Hits.keys`."""
    kth_key: float
    """Ranking key of the last row found."""
    cells: tuple[RankedCell, ...]
    """The cells or buckets that hold the row, by rank; empty where the search is exact."""
    nprobe: int
    """Number of cells or buckets that the query visits, before `ratio_threshold`; 0 where the search is exact."""

    def __repr__(self) -> str:
        return f"{'found' if self.found else 'missed'}: {self.reason}"
