"""What approximate search is told: `IVF` or `LSH` when an index is built, `Effort` when it is asked.

Frozen dataclasses that refuse unusable values as they are made, with an error that names the field.
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
        How many cells there are, at most the number of rows; five times the root of the number of rows if not given,
        fewer of few rows.
    spill : bool
        Whether every row is in a second inverted list too, chosen to be near when the first is not (SOAR). That takes
        half as much room again as the codes, and fewer cells must be visited.

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
    """Locality-sensitive hashing: rows are hashed into the buckets of several tables, and a query visits the likeliest.

    Parameters
    ----------
    tables : int, optional
        How many tables there are, from 1 to 64.
    bits : int, optional
        How many bits number a bucket, from 1 to 24.

    What is not given is chosen, up to 8 tables: that with which queries cost least at the recall asked for.

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
    """How much of an index a query visits and reads, instead of a recall; what is not given is as tuned.

    Where the search is exact (a `method`, a `similarity` that the cells or buckets do not serve, a filter that allows
    few rows) none of it is a limit.

    Parameters
    ----------
    nprobe : int, optional
        How many cells of an ``"ivf"`` or buckets of an ``"lsh"`` to visit.
    ratio_threshold : float, optional
        Of an ``"ivf"``: cells whose centroid scores less than this share of the best one's are not visited, from 0 to
        1; 0 leaves out those that score below 0. Of a negative score the share is that much lower, not higher.
    reorder_k : int, optional
        Of an ``"ivf"`` whose rows have codes: how many rows at most are refined, that is read in full and scored; the
        number of neighbours asked for, or more. They are the best by their codes; as many as codes leave undecided if
        not given. Fewer save time where rows come from a disk, and may cost recall. No limit of a query of length 0.

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
"""How an index is to visit few rows: a word for the usual parameters, or a dataclass."""
