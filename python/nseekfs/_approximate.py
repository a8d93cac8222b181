"""What an index says and measures of approximate search: the part of `Index` that an exact one has no use for."""

from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from nseekfs import _arguments, _arrays, _core
from nseekfs._typing import Count, EuclideanWord, Metric, Vectors
from nseekfs.ann import Ann, Miss, Place, Point, Recall


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
        nprobe: Count | None = None,
        num_leaves_to_search: Count | None = None,
        probes: Count | None = None,
        ratio_threshold: float | None = None,
        reorder_k: Count | None = None,
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
        recall, nprobe, num_leaves_to_search, probes, ratio_threshold, reorder_k, threads
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
            effort(recall, nprobe, num_leaves_to_search, probes, ratio_threshold, reorder_k),
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
        nprobe: Count | None = None,
        num_leaves_to_search: Count | None = None,
        probes: Count | None = None,
        ratio_threshold: float | None = None,
        reorder_k: Count | None = None,
    ) -> Miss:
        """Say why a search finds a row, or why not.

        Parameters
        ----------
        query : array_like of real numbers, shape (dims,)
            What was asked.
        row : int
            The row that was expected.
        k, similarity, recall, nprobe, num_leaves_to_search, probes, ratio_threshold, reorder_k
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
        key, kth, places, visited, found = core.explain_miss(
            _arrays.vector("query", query, query_type(core)),
            _arguments.whole("row", row, 0),
            _arguments.whole("k", k),
            None if similarity is None else _arguments.word("similarity", similarity),
            effort(recall, nprobe, num_leaves_to_search, probes, ratio_threshold, reorder_k),
        )
        held = tuple(Place(*place) for place in places)
        nearer = key < kth if (similarity or core.metric) in get_args(EuclideanWord) else key > kth
        limits = {"ratio_threshold": ratio_threshold, "reorder_k": reorder_k}
        reason = _reason(found, held, visited, key, kth, nearer, [name for name in limits if limits[name] is not None])
        return Miss(found, reason, key, kth, held, visited)

    @property
    def ann(self) -> Ann:
        """How few rows are visited, and what that was tuned on."""
        told = self._open().ann
        if told is None:
            return Ann("exact", 1.0, 0, False, 0, 0, 0, "nothing", ())
        kind, count, more, recall, queries, given, points = told
        cells, tables = (count, 0) if kind == "ivf" else (0, count)
        return Ann(
            kind,
            recall,
            cells,
            bool(cells and more),
            tables,
            more if tables else 0,
            queries,
            "queries" if given else "rows",
            tuple(Point(*point) for point in points),
        )


def query_type(core: _core.Index) -> type[np.floating[Any]]:
    """What queries are rounded to before they come to the index."""
    return np.float64 if core.level == "f64" else np.float32


def effort(
    recall: object, nprobe: object, leaves: object, probes: object, ratio_threshold: object, reorder_k: object
) -> tuple[float | None, int | None, int | None, float | None, int | None]:
    """How many rows an approximate search visits, in the types of the extension module."""
    return (
        _arguments.maybe_real("recall", recall),
        _arguments.either("nprobe", nprobe, "num_leaves_to_search", leaves),
        _arguments.maybe_whole("probes", probes),
        _arguments.maybe_real("ratio_threshold", ratio_threshold),
        _arguments.maybe_whole("reorder_k", reorder_k),
    )


def _maybe_queries(queries: Vectors | None, core: _core.Index) -> npt.NDArray[Any] | None:
    return None if queries is None else _arrays.matrix("queries", queries, query_type(core))[0]


def _reason(
    found: bool, places: tuple[Place, ...], probes: int, key: float, kth: float, nearer: bool, limits: list[str]
) -> str:
    if found:
        return "it was found"
    if nearer and places and places[0].place < probes:
        left_out = "".join(f"{name} left it out, or " for name in limits)
        return f"{left_out}its codes made it most unlikely to be among the best"
    if not places or places[0].place < probes:
        return f"its key, {key:.6g}, is not among the best: the last row found has {kth:.6g}, or comes first of equals"
    shown = " and ".join(str(place.place + 1) for place in places[:2])
    return f"what holds it comes {shown} in the query's order, and {probes} were visited"
