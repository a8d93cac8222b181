"""Building an index from vectors, and opening one from its file."""

import os
from typing import TypedDict, Unpack, get_args

import numpy as np

from nseekfs import _arguments, _arrays, _core, _progress
from nseekfs._errors import InputError, InputTypeError
from nseekfs._living import STORED, several
from nseekfs._typing import AnyPath, Count, Embeddings, Ids, Level, Method, Metric, Mode, Progress, Verify
from nseekfs.index import Index
from nseekfs.params import IVF, LSH, AnnKind

_KINDS: dict[str, type[IVF] | type[LSH]] = {"ivf": IVF, "lsh": LSH}
"""The dataclass of each word of `ann`."""


def from_embeddings(
    embeddings: Embeddings,
    metric: Metric | None = None,
    *,
    ids: Ids | None = None,
    level: Level = "f32",
    ann: AnnKind = None,
    recall: float = 0.95,
    method: Method = "auto",
    normalized: bool | None = None,
    codes: bool = True,
    output_dir: AnyPath | None = None,
    base_name: str = "index",
    seed: Count = 0,
    threads: Count | None = None,
    progress: Progress = None,
) -> Index:
    """Build an index in memory, or in a file if `output_dir` is given.

    Parameters
    ----------
    embeddings : array_like of real numbers, shape (rows, dims)
        Any float or integer dtype, layout and byte order; nested lists; buffers; DLPack tensors on the CPU; columns of
        vectors; an iterator of blocks of rows. The array is never changed. Every value is rounded once to the type that
        `level` stores.
    metric : str, optional
        Default metric of queries: ``"cosine"``, ``"dot"``, ``"euclidean"`` or an alias. Every index answers all three,
        except at level ``"b1"``, whose one metric is ``"hamming"``. The default is cosine, at level ``"b1"`` hamming.
    ids : array_like of int or str, shape (rows,), optional
        The ids of the rows, each once. The default are 0, 1, 2, ...
    level : {"f32", "f64", "f16", "f8", "b1"}
        Type of a stored value. ``"f8"`` is one signed byte a value and one float32 scale a row. ``"b1"`` is one bit,
        and rows are compared by the number of bits in which they differ; a row has a multiple of 8 bits. The dtype of
        the rows, and of queries, says what their bits are: uint8 are packed bits as `numpy.packbits` gives them, shape
        (rows, dims / 8); bools are bits; of any other numbers those above 0 are 1, and 0 and negative ones are 0.
        Search is then always exact, and without codes.
    ann : {None, True, "ivf", "lsh"} or IVF or LSH
        Kind of approximate search; None or False is exact search. ``"ivf"`` groups rows into cells around centroids,
        and a query visits the nearest cells. ``"lsh"`` hashes rows into buckets of several tables; it is built quickly
        and suits near duplicates. `IVF` and `LSH` set their parameters. True builds cells if they are measured to cost
        less than exact search; tables of up to 4 MB of rows stay exact.
    recall : float
        Default recall of approximate queries, above 0 and at most 1: the mean share of the exact neighbours that is
        found. It is measured on rows held out of the training, without their copies, see `Index.ann` and
        `Index.recall`. The effort is chosen so that the measured recall is at least ``recall`` + 1.645 sqrt(2) standard
        errors: 19 of 20 fresh samples of such queries, as large as the measured one, reach ``recall``. For queries of
        another kind than the rows, see `Index.tune`.
    method : {"auto", "simd", "scalar"}
        Default method of queries. ``"simd"`` and ``"scalar"`` always search exactly.
    normalized : bool, optional
        Whether the rows have length 1, within 0.002. None measures it; True is checked on every row. The value never
        changes an answer.
    codes : bool
        Whether a table of more than 4 MB of rows gets compact codes, which take about a quarter of the size of float32
        rows. Codes make exact search faster and never change an answer.
    output_dir : path, optional
        Folder of the file ``{base_name}_{level}.bin``; it is created if it is missing. The index is then opened from
        that file. Nothing is written if `output_dir` is not given.
    base_name : str
        First part of the file name, without separators.
    seed : int
        Seed of all random choices, from 0 to 2**64 - 1.
    threads : int, optional
        Maximum number of threads, at least 1. The default is the number of CPUs that the process may use.
    progress : callable or True, optional
        Called with (done, total) as the work goes on: whole numbers whose ratio estimates the share of the time that
        has passed. `done` grows, and reaches `total` once, when the work is over. What the callable raises ends the
        work and leaves no file behind. True shows a bar of tqdm, which must be installed.

    Returns
    -------
    Index

    Raises
    ------
    InputError
        If a value is not allowed, such as NaN; `InputTypeError` if a type is wrong.
    Error
        If `progress` is True and tqdm is not installed.
    MemoryError
        If the index does not fit in memory.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import numpy as np, nseekfs
    >>> embeddings = np.random.default_rng(0).standard_normal((1000, 64), dtype=np.float32)
    >>> index = nseekfs.from_embeddings(embeddings, level="f16")
    >>> index.query(embeddings[7], top_k=1)[0]["idx"]
    7
    >>> bits = nseekfs.from_embeddings(embeddings, level="b1")
    >>> bits.query(embeddings[7], top_k=1)[0]
    {'idx': 7, 'score': 0.0}
    >>> bits[7].dtype, bits[7].shape
    (dtype('uint8'), (8,))
    """
    folder = None if output_dir is None else _arguments.path("output_dir", output_dir)
    stem = _arguments.file_stem("base_name", base_name)
    if folder is None and stem != "index":
        raise InputError("base_name: expected output_dir with it, got a base_name alone, which names no file")
    method_word = _method(method)
    level_word = _arguments.word("level", level)
    given = None if ids is None else several("ids", ids)
    params = _core.BuildParams(
        level_word,
        _arguments.maybe_word("metric", metric),
        _arguments.maybe_flag("normalized", normalized),
        _arguments.whole("seed", seed, 0, 2**64 - 1),
        _arguments.flag("codes", codes),
        _ann(ann),
        _arguments.real("recall", recall),
        _arguments.maybe_whole("threads", threads),
    )
    with _progress.Told(progress, "nseekfs build") as heard:
        # Rows come last: the blocks of an iterator can be read but once.
        source = _arrays.Rows("embeddings", embeddings, STORED.get(level_word, np.float64))
        if given is not None and len(given) != source.shape[0]:
            raise InputError(f"ids: expected {source.shape[0]} ids, one for each row, got {len(given)} ids")
        builder = _core.Builder(params, *source.shape, heard, folder is not None)
        for block in source.blocks():
            builder.push(block, heard)
        core = builder.finish(given, heard)
        if folder is not None:
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, f"{stem}_{core.level}.bin")
            core.save(path, heard)
            core = _core.load(path, "mmap", "header", True, False)
    return Index(core, method_word)


class BuildOptions(TypedDict, total=False):
    """The keywords of `from_embeddings` that `create_index` passes on to it."""

    base_name: str
    metric: Metric | None
    ids: Ids | None
    level: Level
    ann: AnnKind
    recall: float
    method: Method
    normalized: bool | None
    codes: bool
    seed: Count
    threads: Count | None
    progress: Progress


def create_index(embeddings: Embeddings, output_dir: AnyPath, **options: Unpack[BuildOptions]) -> str:
    """Build an index and write it to the file ``{output_dir}/{base_name}_{level}.bin``.

    An existing file of that name is replaced as a whole.

    Parameters
    ----------
    embeddings, output_dir
        As in `from_embeddings`.
    **options
        Any other keyword of `from_embeddings`.

    Returns
    -------
    str
        The absolute path of the file, for `load_index`.

    Raises
    ------
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.
    OSError
        If the file cannot be written. An existing file is then unchanged.

    Examples
    --------
    >>> import tempfile, nseekfs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = nseekfs.create_index([[1.0, 0.0], [0.0, 1.0]], folder, base_name="two")
    ...     with nseekfs.load_index(path) as index:
    ...         index.rows
    2
    """
    folder = _arguments.path("output_dir", output_dir)
    with from_embeddings(embeddings, output_dir=folder, **options) as index:
        return str(index.path)


def empty(
    dims: Count | None = None,
    metric: Metric | None = None,
    *,
    level: Level = "f32",
    method: Method = "auto",
    seed: Count = 0,
    path: AnyPath | None = None,
) -> Index:
    """An index without rows, in memory or in a new file, to which rows can be added.

    Parameters
    ----------
    dims : int, optional
        Number of values in a row. If it is not given, the first rows tell; until then any query finds nothing.
    metric, level, method, seed
        As in `from_embeddings`.
    path : path, optional
        Name of a file, which is replaced if it exists, and is open for writing.

    Returns
    -------
    Index

    Raises
    ------
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.
    BusyError
        If another writer holds the file; another `OSError` if it cannot be written.

    Examples
    --------
    >>> import nseekfs
    >>> index = nseekfs.empty(metric="dot")
    >>> index.query([1.0, 2.0]).to_list()
    []
    >>> index.add([[3.0, 4.0]], ids=["first"])
    array(['first'], dtype=object)
    >>> index.query([1.0, 2.0]).to_list()
    [{'idx': 'first', 'score': 11.0}]
    """
    core = _core.empty(
        0 if dims is None else _arguments.whole("dims", dims, 1),
        _arguments.word("level", level),
        _arguments.maybe_word("metric", metric),
        _arguments.whole("seed", seed, 0, 2**64 - 1),
        None if path is None else _arguments.path("path", path),
    )
    return Index(core, _method(method))


def load_index(
    path: AnyPath,
    *,
    ann: bool | None = None,
    mode: Mode = "mmap",
    verify: Verify = "auto",
    writable: bool = False,
) -> Index:
    """Open an index from its file.

    Parameters
    ----------
    path : path
        A file that `from_embeddings`, `create_index` or `Index.save` wrote.
    ann : bool, optional
        Whether to use the cells or buckets of the file. False makes every answer exact, and `save` then writes the
        index without them.
    mode : {"mmap", "ram"}
        ``"mmap"`` maps the file: it opens in milliseconds, processes share it, and it may be larger than memory.
        ``"ram"`` reads it into memory.
    verify : {"auto", "header", "full"}
        Which checksums to check now: those of the header and the section table, or those of every byte. ``"auto"``
        checks every byte of files under 64 MiB, and the header of larger ones.
    writable : bool
        Whether to open the file for changes, too. A file has one writer at a time and any number of readers, which see
        its changes when they call `Index.refresh`.

    Returns
    -------
    Index

    Raises
    ------
    FormatError
        If the file is not a whole nseekfs index.
    BusyError
        If `writable` is True and another writer holds the file; it is an `OSError`.
    OSError
        If the file cannot be read.
    InputError
        If a value is not allowed; `InputTypeError` if a type is wrong.
    """
    if _arguments.flag("writable", writable) and (mode != "mmap" or ann is False):
        raise InputError("writable: expected it with mode 'mmap' and with the cells or buckets of the file, got others")
    approximate = _arguments.maybe_flag("ann", ann) is not False
    mode_word = _arguments.word("mode", mode)
    core = _core.load(
        _arguments.path("path", path), mode_word, _arguments.word("verify", verify), approximate, bool(writable)
    )
    return Index(core, mode=mode_word, ann=approximate)


def _method(method: object) -> str:
    word = _arguments.word("method", method)
    if word not in get_args(Method):
        raise InputError(f"method: expected one of {', '.join(get_args(Method))}, got {word!r}")
    return word


def _ann(ann: object) -> bool | IVF | LSH | None:
    """The argument `ann` in the types of the extension module."""
    if isinstance(ann, str) and ann in _KINDS:
        return _KINDS[ann]()
    if ann is None or isinstance(ann, bool | np.bool_ | IVF | LSH):
        return bool(ann) if isinstance(ann, np.bool_) else ann
    refused = InputError if isinstance(ann, str) else InputTypeError
    raise refused(
        f"ann: expected None, True, False, 'ivf', 'lsh', an nseekfs.IVF or an nseekfs.LSH, got {_arguments.shown(ann)}"
    )
