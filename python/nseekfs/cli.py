"""``python -m nseekfs verify FILE``, ``info FILE`` and ``tune FILE``.

Exit codes: 0 fine, 1 failed (the file cannot be read), 2 wrong usage, 3 the file is damaged or is
no nseekfs index. What went wrong is one line on stderr, never a traceback.
"""

import argparse
import sys
from collections.abc import Sequence

from nseekfs import _tuning
from nseekfs._core import __version__
from nseekfs._errors import Error, FormatError
from nseekfs.build import load_index

FINE, FAILED, DAMAGED = 0, 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are those of the process if not given."""
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
        description="Look at an nseekfs index file.",
        epilog="exit codes: 0 fine, 1 failed, 2 wrong usage, 3 damaged or no nseekfs index",
    )
    parser.add_argument("--version", action="version", version=f"nseekfs {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser("verify", help="check every byte of the file")
    verify.set_defaults(run=_verify)
    info = commands.add_parser("info", help="tell what the file holds, from its header")
    info.set_defaults(run=_info)
    tune = commands.add_parser(
        "tune", help="print recall against speed of approximate search, and set what queries get"
    )
    tune.set_defaults(run=_tune)
    tune.add_argument("--recall", type=float, metavar="R", help="what queries get from now on; written to the file")
    tune.add_argument(
        "--queries", metavar="NPY", help="a sample of the queries to come; rows of the index if not given"
    )
    tune.add_argument("-k", type=int, default=10, help="neighbours of each query (default 10)")
    tune.add_argument("--plot", metavar="IMAGE", help="also draw the table, as .png, .svg or .pdf; takes matplotlib")
    for command in (verify, info, tune):
        command.add_argument("file", metavar="FILE", help="an index file, such as index_f32.bin")
    return parser


def _verify(asked: argparse.Namespace) -> None:
    with load_index(asked.file, verify="header") as index:
        index.verify()
        print(f"{asked.file}: fine, {index.rows} rows x {index.dims} dims, {index.nbytes} bytes")


def _info(asked: argparse.Namespace) -> None:
    with load_index(asked.file, verify="header") as index:
        for name in ("rows", "dims", "level", "metric", "normalized", "ann", "codes", "seed", "nbytes"):
            print(f"{name}: {getattr(index, name)}")


def _tune(asked: argparse.Namespace) -> None:
    with load_index(asked.file, verify="header") as index:
        queries = None if asked.queries is None else _tuning.read_queries(asked.queries, index.dims)
        if asked.recall is not None or queries is not None:
            index.tune(asked.recall, queries=queries)
        lines = _tuning.measure(index, queries, asked.k)
        _tuning.show(index, lines, asked.k)
        if asked.recall is not None:
            index.save(asked.file)
            print(f"{asked.file}: queries get recall {asked.recall:g} from now on")
        if asked.plot is not None:
            _tuning.plot(lines, asked.plot)
            print(f"{asked.plot}: drawn")


def _fail(code: int, reason: object) -> int:
    print(f"nseekfs: {reason}", file=sys.stderr)
    return code
