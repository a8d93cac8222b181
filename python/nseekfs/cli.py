"""``python -m nseekfs verify FILE`` and ``python -m nseekfs info FILE``.

Exit codes: 0 fine, 1 failed (the file cannot be read), 2 wrong usage, 3 the file is damaged or is
no nseekfs index. What went wrong is one line on stderr, never a traceback.
"""

import argparse
import sys
from collections.abc import Sequence

from nseekfs._core import __version__
from nseekfs._errors import Error, FormatError
from nseekfs.build import load_index

FINE, FAILED, DAMAGED = 0, 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `arguments` are those of the process if not given."""
    command = _parser().parse_args(arguments)
    try:
        command.run(command.file)
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
    for command in (verify, info):
        command.add_argument("file", metavar="FILE", help="an index file, such as index_f32.bin")
    return parser


def _verify(file: str) -> None:
    with load_index(file, verify="header") as index:
        index.verify()
        print(f"{file}: fine, {index.rows} rows x {index.dims} dims, {index.nbytes} bytes")


def _info(file: str) -> None:
    with load_index(file, verify="header") as index:
        for name in ("rows", "dims", "level", "metric", "normalized", "ann", "codes", "seed", "nbytes"):
            print(f"{name}: {getattr(index, name)}")


def _fail(code: int, reason: object) -> int:
    print(f"nseekfs: {reason}", file=sys.stderr)
    return code
