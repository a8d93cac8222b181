"""k-means on all rows at once."""

from typing import Self

from nseekfs import _core
from nseekfs._clusters import Init, WholeRows, first_centroids, maybe_count, rows_of
from nseekfs._typing import ClusterMetric, Count, Progress, Vectors


class KMeans(WholeRows):
    """k-means on all rows at once.

    Parameters
    ----------
    n_clusters : int
        How many cells, from 1 to the number of rows.
    metric : {"l2", "cosine"}
        What rows are compared by; aliases as in `nseekfs.from_embeddings`. For ``"cosine"`` rows count with
        length 1, and so do centroids (spherical k-means).
    init : {"k-means++", "random"} or array_like, shape (n_clusters, dims)
        The first centroids: rows far from each other, chosen from a sample of four for each; any rows; or these.
    max_iter : int
        How many times the centroids are moved at most.
    tol : float
        Training ends once a move lowers the objective by no more than this part of it.
    max_points_per_centroid : int, optional
        Train on so many rows a cell at most, drawn at random. `labels` and `inertia` are then those of the sample.
    seed : int
        What every random choice starts from, from 0.
    threads : int, optional
        How many threads may work, from 1; all that the process may use if not given.
    progress : callable, optional
        Called with (iterations done, max_iter) after each.

    Notes
    -----
    Lloyd, *Least squares quantization in PCM*, IEEE Transactions on Information Theory 28 (1982); Arthur and
    Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007. A cell that has lost its rows takes
    over one of a costly cell, so none is empty as long as there are `n_clusters` different rows.

    Beside the rows, in float32, training keeps some 30 bytes a row and a few copies of the centroids.

    Examples
    --------
    >>> import numpy as np
    >>> from nseekfs.cluster import KMeans
    >>> vectors = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]], np.float32)
    >>> found = KMeans(2, seed=1).fit(vectors)
    >>> sorted(found.centroids.tolist())
    [[0.0, 0.5], [9.0, 8.5]]
    >>> bool(found.labels[0] == found.predict([[1.0, 1.0]])[0])
    True
    """

    def __init__(
        self,
        n_clusters: Count = 8,
        *,
        metric: ClusterMetric = "l2",
        init: Init = "k-means++",
        max_iter: Count = 300,
        tol: float = 1e-4,
        max_points_per_centroid: Count | None = None,
        seed: Count = 0,
        threads: Count | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(n_clusters, metric, max_iter, tol, seed, threads, progress)
        self.init = init
        self.max_points_per_centroid = maybe_count("max_points_per_centroid", max_points_per_centroid)

    def fit(self, vectors: Vectors) -> Self:
        """Find the centroids of the rows.

        `history` then holds the objective at the first centroids and after each iteration; it never grows.

        Parameters
        ----------
        vectors : array_like of real numbers, shape (rows, dims)
            Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU.
            Never changed. Every value is rounded once to float32.

        Returns
        -------
        KMeans
            Itself.

        Raises
        ------
        InputError
            If rows or parameters cannot be used: NaN, infinity, fewer rows than cells, ...; `InputTypeError` if
            a type is wrong.
        """
        rows = rows_of(vectors)
        self._keep(
            _core.train(
                rows,
                self.n_clusters,
                self.metric,
                self.max_iter,
                self.tol,
                first_centroids(self.init, self.n_clusters, rows.shape[1]),
                self.max_points_per_centroid,
                self.seed,
                self.threads,
                self.progress,
            )
        )
        return self
