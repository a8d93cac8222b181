"""k-means on all rows at once."""

from dataclasses import KW_ONLY, dataclass

from nseekfs import _arguments, _core
from nseekfs._clusters import Clusterer, Fitted, Floats, documented
from nseekfs._typing import Count


@documented
@dataclass(eq=False, repr=False)
class KMeans(Clusterer[float]):
    """k-means on all rows at once.

    Parameters
    ----------
    max_points_per_centroid : int, optional
        Train on so many rows a cluster at most, drawn at random. `labels` and `inertia` are then those of the sample.

    Notes
    -----
    Lloyd, *Least squares quantization in PCM*, IEEE Transactions on Information Theory 28 (1982); Arthur and
    Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007. A cluster that has lost its rows takes
    over one of a costly cluster, so none is empty as long as there are `n_clusters` different rows.

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

    _: KW_ONLY
    max_points_per_centroid: Count | None = None

    def _train(self, rows: Floats) -> Fitted[float]:
        sample = _arguments.maybe_whole("max_points_per_centroid", self.max_points_per_centroid, 1)
        training = self._training(rows.shape[1])
        return Fitted(training.metric, *_core.train(rows, training, sample, self._progress()))
