"""A context manager that changes the floating-point mode of the current thread (x86-64 with glibc)."""

import contextlib
import ctypes

FLUSH = 0x8040
"""Bits of flush-to-zero and denormals-are-zero in MXCSR."""

ROUNDINGS = {"down": 0x2000, "up": 0x4000, "to zero": 0x6000}

_MXCSR = slice(28, 32)
"""Offset of MXCSR in glibc's fenv_t: after the 28 bytes of the x87 environment."""


@contextlib.contextmanager
def changed(bits):
    """Set `bits` of MXCSR, and restore the register at the end."""
    libm = ctypes.CDLL("libm.so.6")
    before, env = (ctypes.create_string_buffer(32) for _ in range(2))
    assert libm.fegetenv(before) == 0
    env.raw = before.raw
    env[_MXCSR] = (int.from_bytes(env[_MXCSR], "little") | bits).to_bytes(4, "little")
    assert libm.fesetenv(env) == 0
    try:
        yield
    finally:
        assert libm.fesetenv(before) == 0
