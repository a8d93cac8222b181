"""k-means on all rows: Lloyd's algorithm."""

from dataclasses import KW_ONLY, dataclass

from nseekfs import _arguments, _core
from nseekfs._clusters import Clusterer, Fitted, Floats, documented
from nseekfs._typing import Count


@documented
@dataclass(eq=False, repr=False)
class KMeans(Clusterer[float]):
    """k-means on all rows: Lloyd's algorithm.

    Parameters
    ----------
    max_points_per_centroid : int, optional
        Maximum number of training rows for each cluster, drawn at random. `labels` and `inertia` are then those of the
        sample. The default trains on all rows.

    Notes
    -----
    Lloyd, *Least squares quantization in PCM*, IEEE Transactions on Information Theory 28 (1982); Arthur and
    Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007. An empty cluster gets a row of a cluster
    with a high cost, so no cluster is empty if there are `n_clusters` different rows.

    Training needs the rows in float32, about 30 bytes a row, and a few copies of the centroids.

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

    _: KW_ONLY
    max_points_per_centroid: Count | None = None

    def _train(self, rows: Floats, heard: _core.Progress | None) -> Fitted[float]:
        sample = _arguments.maybe_whole("max_points_per_centroid", self.max_points_per_centroid, 1)
        training = self._training(rows.shape[1])
        return Fitted(training.metric, *_core.train(rows, training, sample, heard))
