"""The exceptions of nseekfs; the extension module raises these same classes.

Every message names the argument, what was expected and what came. What the operating system
refuses is the matching `OSError`, memory that cannot be had a `MemoryError`.
"""


class Error(Exception):
    """What every exception of nseekfs's own derives from."""


class InputError(Error, ValueError):
    """An argument of the right type has a value that cannot be used."""


class InputTypeError(InputError, TypeError):
    """An argument has a type that cannot be used."""


class FormatError(Error, ValueError):
    """A file is not a whole nseekfs index: damaged, cut short, or something else altogether."""
