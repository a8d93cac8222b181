"""k-means: rows grouped around centroids, on all rows or on batches, whole or by parts of the dimensions.

>>> import numpy as np
>>> from nseekfs.cluster import KMeans
>>> vectors = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
>>> KMeans(2, seed=1).fit(vectors).inertia
1.0

A row belongs to the cell of its nearest centroid by float64 sums, of equally near ones to the lower, so labels
and centroids are the same on every CPU and for any number of threads: seed, rows and parameters decide them.
"""

from nseekfs._clusters import NotFittedError
from nseekfs._lloyd import KMeans
from nseekfs._minibatch import MiniBatchKMeans
from nseekfs._subspaces import SubspaceMiniBatchKMeans

__all__ = ["KMeans", "MiniBatchKMeans", "NotFittedError", "SubspaceMiniBatchKMeans"]
