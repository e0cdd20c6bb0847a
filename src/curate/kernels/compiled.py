"""How functions are compiled, said once: `kernel` for what Python calls, `inner` and `maker` for what kernels call.

All are kept in Numba's cache and let go of the interpreter lock. Two things that Numba gives every function are left
out where nobody needs them. Entries from Python and from C take up to a third of the time to compile one. Counting
references to every array that is passed costs more than the work on a block of 64 bytes: without it some kernels run
at three times the speed.

The catch: an `inner` function may look at and fill the arrays that it is given, and parts of them; it must not make
arrays, give any back or take one from a `maker`. Numba refuses to compile `np.empty` there, but an array that is given
back would be freed too early.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])

_KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}
_MAKER: dict[str, Any] = {**_KERNEL, "no_cpython_wrapper": True, "_nrt": True}
_INNER: dict[str, Any] = {**_MAKER, "_nrt": False}


def kernel(function: Function) -> Function:
    """Compile a function that Python calls."""
    compiled: Function = njit(**_KERNEL)(function)
    return compiled


def inner(function: Function) -> Function:
    """Compile a function that only compiled ones call, and that neither makes arrays nor gives any back."""
    compiled: Function = njit(**_INNER)(function)
    return compiled


def maker(function: Function) -> Function:
    """Compile a function that only compiled ones call, and that makes arrays or gives back one that it was given."""
    compiled: Function = njit(**_MAKER)(function)
    return compiled
