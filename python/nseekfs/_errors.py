"""The exceptions of nseekfs; the extension module raises these same classes.

Every message names the argument, the expected value and the given value. Errors of the operating system are raised as
`OSError`, and failed allocations as `MemoryError`.
"""


class Error(Exception):
    """Base of all exceptions that nseekfs defines."""


class InputError(Error, ValueError):
    """An argument of the right type has a value that is not allowed."""


class InputTypeError(InputError, TypeError):
    """An argument has a wrong type."""


class MissingIdError(InputError, KeyError, IndexError):
    """The index has no row with an id that was asked for."""

    __str__ = Exception.__str__


class BusyError(Error, OSError):
    """Another writer, in this process or in another one, holds the file."""


class FormatError(Error, ValueError):
    """A file is not a whole nseekfs index: it is damaged, truncated, or of another format."""
