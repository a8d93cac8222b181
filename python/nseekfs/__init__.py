"""Vector search: exact, with the float64 answer bit for bit, or approximate, with a recall that you name.

>>> import nseekfs
>>> index = nseekfs.from_embeddings([[1.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
>>> index.query([0.0, 1.0], top_k=2).indices
array([1, 2])

`from_embeddings` builds an index, `create_index` builds one and writes it to a file, `load_index` opens a file.
`Index.query` searches for one vector, `Index.search` for several. `Index.add`, `Index.upsert` and `Index.delete` change
an index.
"""

from nseekfs._core import __version__, simd_info
from nseekfs._errors import BusyError, Error, FormatError, InputError, InputTypeError, MissingIdError
from nseekfs.ann import Ann, Miss, RankedCell, Recall, TuningPoint
from nseekfs.build import create_index, empty, from_embeddings, load_index
from nseekfs.hits import Certificate, Hit, Hits, SearchResult
from nseekfs.index import Index
from nseekfs.params import IVF, LSH, Effort

__all__ = [
    "IVF",
    "LSH",
    "Ann",
    "BusyError",
    "Certificate",
    "Effort",
    "Error",
    "FormatError",
    "Hit",
    "Hits",
    "Index",
    "InputError",
    "InputTypeError",
    "Miss",
    "MissingIdError",
    "RankedCell",
    "Recall",
    "SearchResult",
    "TuningPoint",
    "__version__",
    "create_index",
    "empty",
    "from_embeddings",
    "load_index",
    "simd_info",
]
