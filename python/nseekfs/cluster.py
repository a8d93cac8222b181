"""k-means clustering: on all rows, on mini-batches, and on mini-batches of subspaces.

>>> import numpy as np
>>> from nseekfs.cluster import KMeans
>>> vectors = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
>>> KMeans(2, seed=1).fit(vectors).inertia
1.0

The label of a row is the number of its nearest centroid by float64 sums, and the lower number if two are equally near.
Rows, parameters and seed decide every bit of labels and centroids; CPU and number of threads do not.
"""

from nseekfs._clusters import NotFittedError
from nseekfs._lloyd import KMeans
from nseekfs._minibatch import MiniBatchKMeans
from nseekfs._subspaces import SubspaceMiniBatchKMeans

__all__ = ["KMeans", "MiniBatchKMeans", "NotFittedError", "SubspaceMiniBatchKMeans"]
