"""The methods of `Index` that concern approximate search: measured recall, tuning and explanations of misses."""

from typing import Any

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core, _progress
from nseekfs._errors import InputError, InputTypeError
from nseekfs._typing import Count, Ids, Metric, Progress, Vectors
from nseekfs.ann import Ann, Miss, RankedCell, Recall, TuningPoint
from nseekfs.params import Effort


class Approximate:
    """Base of `Index` that holds the methods of approximate search."""

    __slots__ = ()

    def _open(self) -> _core.Index:
        raise NotImplementedError

    def recall(
        self,
        queries: Vectors | None = None,
        k: Count = 10,
        *,
        recall: float | None = None,
        effort: Effort | None = None,
        threads: Count | None = None,
    ) -> Recall:
        """Measure the recall of searches against exact search.

        Parameters
        ----------
        queries : array_like of real numbers, shape (q, dims), optional
            Queries to search for. The default is a sample of rows that were held out of the training of the cells and
            of the tuning. Such a row and its copies do not count as its neighbours, and of copies one is a query. The
            measurement holds for unseen queries like the rows, not for queries of another kind.
        k : int
            Number of neighbours of each query, at least 1.
        recall, effort, threads
            As in `query`.

        Returns
        -------
        Recall
            The mean recall, its 95 % confidence interval, on what it was measured, and the share of rows visited.

        Raises
        ------
        InputError
            If a value is not allowed or the index is closed; `InputTypeError` if a type is wrong.
        """
        core = self._open()
        mean, low, high, count, given, visited, exact = core.recall(
            _maybe_queries(queries, core),
            _arguments.whole("k", k),
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        return Recall(mean, low, high, count, "queries" if given else "rows", visited, exact)

    def tune(
        self,
        recall: float | None = None,
        *,
        queries: Vectors | None = None,
        threads: Count | None = None,
        progress: Progress = None,
    ) -> Ann:
        """Measure again how many cells or buckets a recall takes; cells and buckets stay as they are.

        Parameters
        ----------
        recall : float, optional
            The new default recall of queries, above 0 and at most 1. The default stays as it is if not given.
        queries : array_like of real numbers, shape (q, dims), optional
            A sample of the expected queries, some hundreds or more. Queries that are unlike the rows may have to visit
            more cells than rows do. The default is a sample of rows held out of the training.
        threads : int, optional
            As in `query`.
        progress : callable or True, optional
            As in `from_embeddings`.

        Returns
        -------
        Ann
            The new value of `ann`. `save` writes it to the file.

        Raises
        ------
        InputError
            If the index is exact or closed, or a value is not allowed; `InputTypeError` if a type is wrong.
        """
        core = self._open()
        with _progress.Told(progress, "nseekfs tune") as heard:
            core.tune(
                _arguments.maybe_real("recall", recall),
                _maybe_queries(queries, core),
                _arguments.maybe_whole("threads", threads),
                heard,
            )
        return self.ann

    def explain_miss(
        self,
        query: Vectors,
        id: Ids,  # noqa: A002
        *,
        k: Count = 10,
        similarity: Metric | None = None,
        recall: float | None = None,
        effort: Effort | None = None,
    ) -> Miss:
        """Explain why a search finds or misses a row.

        Parameters
        ----------
        query : array_like of real numbers, shape (dims,)
            The query vector.
        id : int or str
            The id of the expected row.
        k, similarity, recall, effort
            As in `query`, where `k` is named `top_k`.

        Returns
        -------
        Miss
            Whether the row was found, its key, the rank of its cells, and the reason as a sentence.

        Raises
        ------
        InputError
            If a value is not allowed or the index is closed; `InputTypeError` if a type is wrong; `MissingIdError` if
            the index has no such row.
        """
        core = self._open()
        flat, shape = _arrays.ids("id", id)
        if shape is not None:
            raise InputTypeError(f"id: expected an int or a str, got {_arguments.shown(id)}")
        found, key, kth_key, held, nprobe = core.explain_miss(
            _arrays.vector("query", query, query_type(core)),
            flat,
            _arguments.whole("k", k),
            None if similarity is None else _arguments.word("similarity", similarity),
            *how_much(recall, effort),
        )
        cells = tuple(RankedCell(*cell) for cell in held)
        better = key < kth_key if _arguments.is_distance(similarity or core.metric) else key > kth_key
        if found:
            reason = f"it is among the best: its key is {key:.6g}, that of the last row found {kth_key:.6g}"
        elif cells[0].rank > nprobe if cells else better:
            reason = _not_visited(self.ann.kind, cells, nprobe)
        elif better:
            limits = [name for name in ("ratio_threshold", "reorder_k") if getattr(effort, name, None) is not None]
            skipped = "".join(f"{name} left it out, or " for name in limits)
            reason = f"{skipped}its code made it unlikely to be among the best, so that it was not read in full"
        else:
            equal = ", and comes first of equals" if key == kth_key else ""
            reason = f"its key, {key:.6g}, is not among the best: the last row found has {kth_key:.6g}{equal}"
        return Miss(found, reason, key, kth_key, cells, nprobe)

    @property
    def ann(self) -> Ann:
        """The approximate search of this index, and the measurements that tuned it."""
        told = self._open().ann
        if told is None:
            return Ann("exact", 1.0, 0, False, 0, 0, 0, "nothing", (), 0, 0)
        kind, recall, nlist, spill, tables, bits, queries, given, tuning, added, deleted = told
        points = tuple(TuningPoint(*point) for point in tuning)
        return Ann(
            kind, recall, nlist, spill, tables, bits, queries, "queries" if given else "rows", points, added, deleted
        )


def query_type(core: _core.Index) -> _arrays.Store:
    """The type that queries are rounded to, or that of packed bits."""
    if core.level == "b1":
        return np.uint8
    return np.float64 if core.level == "f64" else np.float32


def how_much(recall: object, effort: object) -> tuple[float | None, Effort | None]:
    """Recall and effort of an approximate search, in the types of the extension module; at most one may be given."""
    if effort is not None and not isinstance(effort, Effort):
        raise InputTypeError(f"effort: expected an nseekfs.Effort, got {_arguments.shown(effort)}")
    if effort is not None and recall is not None:
        raise InputError("effort: expected effort or recall, either of which says how much is visited, got both")
    return _arguments.maybe_real("recall", recall), effort


def _maybe_queries(queries: Vectors | None, core: _core.Index) -> npt.NDArray[Any] | None:
    return None if queries is None else _arrays.matrix("queries", queries, query_type(core))[0]


def _not_visited(kind: str, cells: tuple[RankedCell, ...], nprobe: int) -> str:
    """Why a row was not visited: the ranks of its cells or buckets."""
    visited = f"{nprobe} {'was' if nprobe == 1 else 'were'} visited"
    if not cells:
        return f"its buckets are among the least likely for the query; {visited}"
    ranks = " and ".join(_ordinal(cell.rank) for cell in cells[:2])
    many = "s are" if len(cells) > 1 else " is"
    if kind == "ivf":
        return f"its cell{many} the {ranks} nearest to the query; {visited}"
    return f"its likeliest bucket{many} the {ranks} for the query; {visited}"


def _ordinal(number: int) -> str:
    """A rank as an ordinal number, such as 22nd."""
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
