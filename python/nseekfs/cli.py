"""``python -m nseekfs verify FILE``, ``info FILE`` and ``tune FILE``.

Exit codes: 0 success; 1 an error, such as a file that cannot be read; 2 wrong usage; 3 the file is damaged or is no
nseekfs index. An error is one line on stderr, never a traceback.
"""

import argparse
import sys
from collections.abc import Sequence

from nseekfs import _arguments, _tuning
from nseekfs._core import __version__
from nseekfs._errors import Error, FormatError
from nseekfs.build import load_index

FINE, FAILED, DAMAGED = 0, 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; the default of `arguments` is ``sys.argv[1:]``."""
    command = _parser().parse_args(arguments)
    try:
        command.run(command)
        sys.stdout.flush()
    except FormatError as error:
        return _fail(DAMAGED, error)
    except (Error, OSError, MemoryError) as error:
        return _fail(FAILED, error)
    except KeyboardInterrupt:
        return _fail(FAILED, "interrupted")
    return FINE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nseekfs",
        description="Check, describe or tune an nseekfs index file.",
        epilog="exit codes: 0 success, 1 error, 2 wrong usage, 3 damaged file or no nseekfs index",
    )
    parser.add_argument("--version", action="version", version=f"nseekfs {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser("verify", help="check every byte of the file against its checksum")
    verify.set_defaults(run=_verify)
    info = commands.add_parser("info", help="print the properties of the index, from its header")
    info.set_defaults(run=_info)
    tune = commands.add_parser(
        "tune", help="print recall against speed of approximate search, and set the default recall of queries"
    )
    tune.set_defaults(run=_tune)
    tune.add_argument("--recall", type=float, metavar="R", help="new default recall of queries; written to the file")
    tune.add_argument(
        "--queries", metavar="NPY", help="a sample of the expected queries, shape (q, dims); default: rows of the index"
    )
    tune.add_argument("-k", type=int, default=10, help="number of neighbours (default: 10)")
    tune.add_argument("--plot", metavar="IMAGE", help="also plot the table to a .png, .svg or .pdf; needs matplotlib")
    for command in (verify, info, tune):
        command.add_argument("file", metavar="FILE", help="an index file, such as index_f32.bin")
    return parser


def _verify(options: argparse.Namespace) -> None:
    with load_index(options.file, verify="header") as index:
        index.verify()
        print(
            f"{_arguments.printable(options.file)}: fine, {index.rows} rows x {index.dims} dims, {index.nbytes} bytes"
        )


def _info(options: argparse.Namespace) -> None:
    with load_index(options.file, verify="header") as index:
        for name in ("rows", "dims", "level", "metric", "normalized", "ann", "codes", "seed", "nbytes"):
            print(f"{name}: {getattr(index, name)}")


def _tune(options: argparse.Namespace) -> None:
    with load_index(options.file, verify="header") as index:
        queries = None if options.queries is None else _tuning.read_queries(options.queries, index.dims)
        if options.recall is not None or queries is not None:
            index.tune(options.recall, queries=queries)
        lines = _tuning.show(index, _tuning.measure(index, queries, options.k), options.k)
        if options.recall is not None:
            index.save(options.file)
            print(f"{_arguments.printable(options.file)}: the default recall of queries is now {options.recall:g}")
        if options.plot is not None:
            _tuning.plot(lines, options.plot)
            print(f"{_arguments.printable(options.plot)}: written")


def _fail(code: int, reason: object) -> int:
    print(f"nseekfs: {reason}", file=sys.stderr)
    return code
