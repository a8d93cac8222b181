"""Parameters of approximate search: `IVF` and `LSH` for builds, `Effort` for queries.

They are frozen dataclasses. Their constructors refuse values that are not allowed, with an error that names the field.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nseekfs import _arguments, _core
from nseekfs._errors import InputError
from nseekfs._typing import Count


@dataclass(frozen=True, kw_only=True)
class IVF:
    """An inverted file: rows are grouped into cells around centroids, and a query visits the nearest cells.

    Parameters
    ----------
    nlist : int, optional
        Number of cells, from 1 to the number of rows. The default is about five times the square root of the number of
        rows, and about one cell for 16 rows where that is fewer.
    spill : bool
        Whether every row is also in a second inverted list, chosen by SOAR. Queries then visit fewer cells, and the
        lists take twice the space.

    Raises
    ------
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.

    Examples
    --------
    >>> import nseekfs
    >>> nseekfs.IVF(nlist=2000)
    IVF(nlist=2000, spill=True)
    """

    nlist: Count | None = None
    spill: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "nlist", _arguments.maybe_whole("nlist", self.nlist, 1))
        object.__setattr__(self, "spill", _arguments.flag("spill", self.spill))


@dataclass(frozen=True, kw_only=True)
class LSH:
    """Locality-sensitive hashing: a query visits the most probable buckets of several hash tables of rows.

    Parameters that are not given get the values of least estimated cost at the recall of the build. LSH serves cosine,
    and other metrics if all rows have length 1.

    Parameters
    ----------
    tables : int, optional
        Number of tables, from 1 to 64; a chosen number is at most 8.
    bits : int, optional
        Number of bits of a bucket number, from 1 to 24.

    Raises
    ------
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.

    Examples
    --------
    >>> import nseekfs
    >>> nseekfs.LSH(tables=4, bits=12)
    LSH(tables=4, bits=12)
    """

    tables: Count | None = None
    bits: Count | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", _arguments.maybe_whole("tables", self.tables, 1, _core.MAX_TABLES))
        object.__setattr__(self, "bits", _arguments.maybe_whole("bits", self.bits, 1, _core.MAX_BITS))


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Limits of the work of an approximate query, in place of a recall.

    Parameters that are not given keep their tuned values. An exact search ignores all of them. A search is exact for
    the methods ``"simd"`` and ``"scalar"``, for a `similarity` that the cells or buckets do not serve, and, unless
    `nprobe` is given, where exact search costs less.

    Parameters
    ----------
    nprobe : int, optional
        Number of cells of an ``"ivf"`` or buckets of an ``"lsh"`` to visit, at least 1.
    ratio_threshold : float, optional
        For ``"ivf"``, from 0 to 1: a cell is not visited if the score of its centroid is below this share of the best
        centroid's score. 0 skips cells with negative scores. If the best score s is negative, the limit is
        ``s - (1 - ratio_threshold) * abs(s)``.
    reorder_k : int, optional
        For ``"ivf"`` with codes: maximum number of rows that are refined, that is read in full and scored; at least the
        number of neighbours. Rows with the best bounds are refined first. A small number saves time where rows come
        from a disk, and may lower the recall. A query of length 0 has no such limit.

    Raises
    ------
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.

    Examples
    --------
    >>> import nseekfs
    >>> nseekfs.Effort(nprobe=8, reorder_k=100)
    Effort(nprobe=8, ratio_threshold=None, reorder_k=100)
    """

    nprobe: Count | None = None
    ratio_threshold: float | None = None
    reorder_k: Count | None = None

    def __post_init__(self) -> None:
        ratio = _arguments.maybe_real("ratio_threshold", self.ratio_threshold)
        if ratio is not None and not 0 <= ratio <= 1:
            raise InputError(f"ratio_threshold: expected a number from 0 to 1, got {ratio}")
        object.__setattr__(self, "nprobe", _arguments.maybe_whole("nprobe", self.nprobe, 1))
        object.__setattr__(self, "ratio_threshold", ratio)
        object.__setattr__(self, "reorder_k", _arguments.maybe_whole("reorder_k", self.reorder_k, 1))


AnnKind: TypeAlias = bool | Literal["ivf", "lsh"] | IVF | LSH | None
"""Values of the argument `ann`: a word for default parameters, or a dataclass."""
