"""What the argument `progress` takes: a callable, or True for a bar of tqdm."""

import importlib
from types import TracebackType
from typing import Any

from nseekfs import _arguments, _core
from nseekfs._errors import Error, InputTypeError
from nseekfs._typing import Progress

_LAYOUT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
"""A line of the bar: thousandths of a work mean nothing to its reader."""


class Told:
    """A context manager around a work, or `times` works of one cost, that `words` name.

    It gives what the extension module tells of, None where nobody listens. The caller hears that all is done once the
    block has ended without an error.
    """

    def __init__(self, progress: Progress, words: str, times: int = 1) -> None:
        self._bar: Any = _bar(words) if progress is True else None
        self._heard: _core.Progress | None = None
        if self._bar is not None:
            self._heard = _core.Progress(self._move, times)
        elif callable(progress):
            self._heard = _core.Progress(progress, times)
        elif progress is not None and progress is not False:
            raise InputTypeError(f"progress: expected a callable, True or None, got {_arguments.shown(progress)}")

    def __enter__(self) -> _core.Progress | None:
        return self._heard

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._heard is not None:
                self._heard.finish()
        finally:
            if self._bar is not None:
                self._bar.close()

    def _move(self, done: int, _total: int, /) -> None:
        self._bar.update(done - self._bar.n)


def _bar(words: str) -> Any:
    """A bar of tqdm; `Error` where tqdm is not installed."""
    try:
        tqdm = importlib.import_module("tqdm.auto").tqdm
    except ImportError:
        raise Error("progress: expected tqdm for True, which is not installed: pip install tqdm") from None
    return tqdm(total=_core.PROGRESS_TOTAL, desc=words, bar_format=_LAYOUT)
