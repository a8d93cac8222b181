"""Making an index from vectors, and opening one from its file."""

import os
from typing import Any, NamedTuple, get_args

import numpy as np

from nseekfs import _arguments, _arrays, _core
from nseekfs._errors import InputError, InputTypeError
from nseekfs._typing import Ann, AnyPath, Count, Level, Method, Metric, Mode, Progress, Vectors, Verify
from nseekfs.index import Index

_STORED: dict[str, type[np.floating[Any]]] = {"f16": np.float16, "f32": np.float32}
"""What an extended float is rounded to, once, by level; float64 for the others."""


def from_embeddings(
    embeddings: Vectors,
    metric: Metric = "cosine",
    *,
    level: Level = "f32",
    ann: Ann = False,
    recall: float = 0.95,
    nlist: Count | None = None,
    num_leaves: Count | None = None,
    spill: bool = True,
    tables: Count | None = None,
    bits: Count | None = None,
    method: Method = "auto",
    normalized: bool | None = None,
    codes: bool = True,
    output_dir: AnyPath | None = None,
    base_name: str | None = None,
    seed: Count = 0,
    threads: Count | None = None,
    progress: Progress | None = None,
) -> Index:
    """Build an index, in memory unless `output_dir` is given.

    Parameters
    ----------
    embeddings : array_like of real numbers, shape (rows, dims)
        Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on
        the CPU. Never changed. Every value is rounded once to what `level` stores.
    metric : str
        What queries compare by unless they say otherwise: ``"cosine"``, ``"dot"``, ``"euclidean"``
        or an alias. All three can be asked of every index.
    level : {"f32", "f64", "f16", "f8"}
        How precisely a row is stored. ``"f8"`` is one signed byte per value and a float32 scale per
        row.
    ann : bool or {"ivf", "lsh"}
        Whether an approximate answer will do, of the recall asked for. ``"ivf"`` groups rows into cells around
        centroids, of which queries visit few; ``"lsh"`` hashes them into buckets of several tables, is built in no
        time, and serves near duplicates; True takes cells if they are measured to cost less than an exact search,
        which those of less than 4 MB of rows never do.
    recall : float
        The share of the exact neighbours that approximate queries find, on average, unless they say otherwise;
        measured on rows held out of the training, see `Index.ann` and `Index.recall`.
    nlist, num_leaves : int, optional
        How many cells there are, two names of one number; five times the root of the number of rows if not given,
        fewer of few rows.
    spill : bool
        Whether every row stands in a second cell, chosen to be near when the first is not (SOAR). It takes half as
        much room again as the codes, and fewer cells must be visited.
    tables, bits : int, optional
        How many tables of buckets there are, 1 to 64, and how many bits number a bucket, 1 to 24; what is not given
        is chosen, up to 8 tables: that with which queries cost least at `recall`.
    method : {"auto", "simd", "scalar"}
        What queries use unless they say otherwise; ``"simd"`` and ``"scalar"`` always answer exactly.
    normalized : bool, optional
        Whether the rows have length 1, within 0.002. Measured if not given, checked if True; never
        changes an answer.
    codes : bool
        Whether a large table gets compact codes beside its rows, a quarter of the size of float32 rows.
        They make exact search several times faster and never change an answer.
    output_dir : path, optional
        Folder, made if missing, for the file ``{base_name}_{level}.bin``; the index is then opened
        from that file. Nothing is written if not given.
    base_name : str, optional
        Start of the file's name; ``"index"`` if not given.
    seed : int
        What every random choice starts from, from 0.
    threads : int, optional
        How many threads may work, from 1; all that the process may use if not given.
    progress : callable, optional
        Called with (rows done, all rows) after each block.

    Returns
    -------
    Index

    Raises
    ------
    InputError
        If an argument cannot be used; `InputTypeError` if its type is wrong.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np, nseekfs
    >>> embeddings = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
    >>> index = nseekfs.from_embeddings(embeddings, level="f16")
    >>> index.query(embeddings[7], top_k=1)[0]["idx"]
    7
    """
    cells = _arguments.either("nlist", nlist, "num_leaves", num_leaves)
    few = _Ann(ann, recall, cells, spill, tables, bits)
    options = _Options(metric, level, few, method, normalized, codes, seed, threads, progress)
    if output_dir is None:
        if base_name is not None:
            raise InputError("base_name: expected output_dir with it, got a base_name alone, which names no file")
        return Index(options.build(embeddings), options.method)
    path = options.write(embeddings, output_dir, "index" if base_name is None else base_name)
    return Index(_core.load(path, "mmap", "header", True), options.method)


def create_index(
    embeddings: Vectors,
    output_dir: AnyPath,
    *,
    base_name: str = "index",
    metric: Metric = "cosine",
    level: Level = "f32",
    ann: Ann = False,
    recall: float = 0.95,
    nlist: Count | None = None,
    num_leaves: Count | None = None,
    spill: bool = True,
    tables: Count | None = None,
    bits: Count | None = None,
    method: Method = "auto",
    normalized: bool | None = None,
    codes: bool = True,
    seed: Count = 0,
    threads: Count | None = None,
    progress: Progress | None = None,
) -> str:
    """Build an index and write it to ``{output_dir}/{base_name}_{level}.bin``, replacing it whole.

    Parameters
    ----------
    embeddings, metric, level, ann, recall, nlist, num_leaves, spill, tables, bits, method, normalized, codes, seed,
    threads, progress
        As in `from_embeddings`.
    output_dir : path
        Folder for the file, made if missing.
    base_name : str
        Start of the file's name, without separators.

    Returns
    -------
    str
        The absolute path of the file, for `load_index`.

    Raises
    ------
    InputError
        If an argument cannot be used; `InputTypeError` if its type is wrong.
    OSError
        If the file cannot be written; a file that was there is then as before.

    Examples
    --------
    >>> import tempfile, nseekfs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = nseekfs.create_index([[1.0, 0.0], [0.0, 1.0]], folder, base_name="two")
    ...     with nseekfs.load_index(path) as index:
    ...         index.rows
    2
    """
    cells = _arguments.either("nlist", nlist, "num_leaves", num_leaves)
    few = _Ann(ann, recall, cells, spill, tables, bits)
    options = _Options(metric, level, few, method, normalized, codes, seed, threads, progress)
    return options.write(embeddings, output_dir, base_name)


def load_index(path: AnyPath, *, ann: bool | None = None, mode: Mode = "mmap", verify: Verify = "auto") -> Index:
    """Open an index from its file.

    Parameters
    ----------
    path : path
        A file that `from_embeddings`, `create_index` or `Index.save` wrote.
    ann : bool, optional
        Whether an index that was built for approximate search is asked so; False makes every answer exact, and `save`
        then writes the index without its cells or buckets.
    mode : {"mmap", "ram"}
        Whether the file is mapped, so that processes share it, it opens in milliseconds and may be larger
        than memory, or read.
    verify : {"auto", "header", "full"}
        How much is checked against the checksums at once: header and tables, or every byte.
        ``"auto"`` is all of a file under 64 MiB.

    Returns
    -------
    Index

    Raises
    ------
    FormatError
        If the file is not a whole nseekfs index.
    OSError
        If the file cannot be read.
    InputError
        If an argument cannot be used; `InputTypeError` if its type is wrong.
    """
    approximate = _arguments.maybe_flag("ann", ann) is not False
    mode_word = _arguments.word("mode", mode)
    core = _core.load(_arguments.path("path", path), mode_word, _arguments.word("verify", verify), approximate)
    return Index(core, mode=mode_word, ann=approximate)


class _Options:
    """What the two ways of building have in common, in the types of the extension module."""

    def __init__(
        self,
        metric: object,
        level: object,
        ann: "_Ann",
        method: object,
        normalized: object,
        codes: object,
        seed: object,
        threads: object,
        progress: Progress | None,
    ) -> None:
        self.metric = _arguments.word("metric", metric)
        self.level = _arguments.word("level", level)
        self.method = _arguments.word("method", method)
        if self.method not in get_args(Method):
            raise InputError(f"method: expected one of {', '.join(get_args(Method))}, got {self.method!r}")
        self.ann = ann.words()
        self.normalized = _arguments.maybe_flag("normalized", normalized)
        self.codes = _arguments.flag("codes", codes)
        self.seed = _arguments.whole("seed", seed, 0, 2**64 - 1)
        self.threads = _arguments.maybe_whole("threads", threads)
        self.progress = _arguments.maybe_callable("progress", progress)

    def build(self, embeddings: object) -> _core.Index:
        """The index in memory."""
        source = _arrays.Rows("embeddings", embeddings)
        rows, dims = source.shape
        builder = _core.Builder(
            self.level, self.metric, rows, dims, self.normalized, self.seed, self.codes, self.ann, self.threads
        )
        done = 0
        for block in source.blocks(_STORED.get(self.level, np.float64)):
            builder.push(block)
            done += len(block)
            if self.progress is not None:
                self.progress(done, rows)
        return builder.finish()

    def write(self, embeddings: object, output_dir: object, base_name: object) -> str:
        """The index in a file; its path."""
        folder = _arguments.path("output_dir", output_dir)
        stem = _arguments.file_stem("base_name", base_name)
        core = self.build(embeddings)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"{stem}_{core.level}.bin")
        core.save(path)
        return path


class _Ann(NamedTuple):
    """How queries are to visit few rows, as it was given."""

    ann: object
    recall: object
    nlist: int | None
    spill: object
    tables: object
    bits: object

    def words(self) -> tuple[str | None, float, int | None, bool, int | None, int | None] | None:
        """The same in the types of the extension module; None for exact search."""
        if not isinstance(self.ann, str | bool | np.bool_):
            raise InputTypeError(f"ann: expected True, False, 'ivf' or 'lsh', got {_arguments.shown(self.ann)}")
        kinds = {"nlist": "ivf", "tables": "lsh", "bits": "lsh"}
        for name, kind in kinds.items():
            if getattr(self, name) is not None and self.ann != kind and not (kind == "ivf" and self.ann is True):
                raise InputError(f"{name}: expected ann={kind!r} with it, got ann={self.ann!r}")
        given = (
            self.ann if isinstance(self.ann, str) else None,
            _arguments.real("recall", self.recall),
            self.nlist,
            _arguments.flag("spill", self.spill),
            _arguments.maybe_whole("tables", self.tables),
            _arguments.maybe_whole("bits", self.bits),
        )
        return given if isinstance(self.ann, str) or self.ann else None
