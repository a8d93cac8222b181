"""What an index says and measures of approximate search: the part of `Index` that an exact one has no use for."""

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import InputError, InputTypeError
from nseekfs._typing import Count, EuclideanWord, Metric, Vectors
from nseekfs.ann import Ann, Miss, RankedCell, Recall, TuningPoint
from nseekfs.params import Effort


class Approximate:
    """Methods of `Index`."""

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
        """Measure the recall that searches have, against the exact answers.

        Parameters
        ----------
        queries : array_like of real numbers, shape (q, dims), optional
            What to ask. If not given, rows of the index that neither trained its cells nor chose how much is
            visited; none of them counts as its own neighbour.
        k : int
            Neighbours of each query, from 1.
        recall, effort, threads
            As in `query`.

        Returns
        -------
        Recall

        Raises
        ------
        InputError
            If an argument cannot be used, or the index is closed; `InputTypeError` for a wrong type.
        """
        core = self._open()
        measured = core.recall(
            _maybe_queries(queries, core),
            _arguments.whole("k", k),
            *how_much(recall, effort),
            _arguments.maybe_whole("threads", threads),
        )
        return Recall(*measured)

    def tune(
        self,
        recall: float | None = None,
        *,
        queries: Vectors | None = None,
        threads: Count | None = None,
    ) -> Ann:
        """Measure again how many cells or buckets a recall takes, without building anything.

        Parameters
        ----------
        recall : float, optional
            What queries get from now on unless they say otherwise; as before if not given.
        queries : array_like of real numbers, shape (q, dims), optional
            A sample of the queries to come; some hundreds or more. Queries of another kind than the rows may need
            more than rows do. If not given, rows held out of the training.
        threads : int, optional
            As in `query`.

        Returns
        -------
        Ann
            What `ann` says from now on. `save` writes it.

        Raises
        ------
        InputError
            If the index is exact or closed, or an argument cannot be used; `InputTypeError` for a wrong type.
        """
        core = self._open()
        core.tune(
            _arguments.maybe_real("recall", recall),
            _maybe_queries(queries, core),
            _arguments.maybe_whole("threads", threads),
        )
        return self.ann

    def explain_miss(
        self,
        query: Vectors,
        row: Count,
        *,
        k: Count = 10,
        similarity: Metric | None = None,
        recall: float | None = None,
        effort: Effort | None = None,
    ) -> Miss:
        """Say why a search finds a row, or why not.

        Parameters
        ----------
        query : array_like of real numbers, shape (dims,)
            What was asked.
        row : int
            The row that was expected.
        k, similarity, recall, effort
            As in `query`, where `k` is `top_k`.

        Returns
        -------
        Miss

        Raises
        ------
        InputError
            If an argument cannot be used, or the index is closed; `InputTypeError` for a wrong type.
        """
        core = self._open()
        found, key, kth_key, held, nprobe = core.explain_miss(
            _arrays.vector("query", query, query_type(core)),
            _arguments.whole("row", row, 0),
            _arguments.whole("k", k),
            None if similarity is None else _arguments.word("similarity", similarity),
            *how_much(recall, effort),
        )
        cells = tuple(RankedCell(*cell) for cell in held)
        better = key < kth_key if (similarity or core.metric) in get_args(EuclideanWord) else key > kth_key
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
        """How few rows are visited, and what that was tuned on."""
        told = self._open().ann
        if told is None:
            return Ann("exact", 1.0, 0, False, 0, 0, 0, "nothing", ())
        kind, recall, nlist, spill, tables, bits, queries, given, tuning = told
        points = tuple(TuningPoint(*point) for point in tuning)
        return Ann(kind, recall, nlist, spill, tables, bits, queries, "queries" if given else "rows", points)


def query_type(core: _core.Index) -> type[np.floating[Any]]:
    """What queries are rounded to before they come to the index."""
    return np.float64 if core.level == "f64" else np.float32


def how_much(recall: object, effort: object) -> tuple[float | None, Effort | None]:
    """The recall or the effort of an approximate search, in the types of the extension module."""
    if effort is not None and not isinstance(effort, Effort):
        raise InputTypeError(f"effort: expected an nseekfs.Effort, got {_arguments.shown(effort)}")
    if effort is not None and recall is not None:
        raise InputError("effort: expected effort or recall, either of which says how much is visited, got both")
    return _arguments.maybe_real("recall", recall), effort


def _maybe_queries(queries: Vectors | None, core: _core.Index) -> npt.NDArray[Any] | None:
    return None if queries is None else _arrays.matrix("queries", queries, query_type(core))[0]


def _not_visited(kind: str, cells: tuple[RankedCell, ...], nprobe: int) -> str:
    """Where a row is that was not visited."""
    visited = f"{nprobe} {'was' if nprobe == 1 else 'were'} visited"
    if not cells:
        return f"its buckets are among the least likely for the query; {visited}"
    ranks = " and ".join(_ordinal(cell.rank) for cell in cells[:2])
    many = "s are" if len(cells) > 1 else " is"
    if kind == "ivf":
        return f"its cell{many} the {ranks} nearest to the query; {visited}"
    return f"its likeliest bucket{many} the {ranks} for the query; {visited}"


def _ordinal(number: int) -> str:
    """A rank as people say it."""
    teens = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
