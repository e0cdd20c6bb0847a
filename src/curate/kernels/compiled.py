"""How functions are compiled, said once: `kernel` for what Python calls, `inner` and `maker` for what kernels call.

All are kept in Numba's cache and let go of the interpreter lock. Two things that Numba gives every function are left
out where nobody needs them. Entries from Python and from C take up to a third of the time to compile one. Counting
references to every array that is passed costs more than the work on a block of 64 bytes: without it some kernels run
at three times the speed.

While Numba compiles, Python's garbage collector rests: Numba makes millions of objects that stay for the while, and
looking through them again and again takes a tenth of the time.

The catch: an `inner` function may look at and fill the arrays that it is given, and parts of them; it must not make
arrays or give any back. Numba refuses to compile `np.empty` there, but an array given back is freed too early.
"""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit
from numba.core import event

Function = TypeVar("Function", bound=Callable[..., Any])

_KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}
_MAKER: dict[str, Any] = {**_KERNEL, "no_cpython_wrapper": True, "_nrt": True}
_INNER: dict[str, Any] = {**_MAKER, "_nrt": False}


class _Rest(event.Listener):  # type: ignore[misc]
    """Turns the garbage collector off at the first of nested compilations, and on again after it if it was on.

    Numba tells of compilations under its lock, so no two threads are in here.
    """

    depth = 0
    was_on = False

    def on_start(self, event: Any) -> None:
        if self.depth == 0:
            self.was_on = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, event: Any) -> None:
        self.depth -= 1
        if self.depth == 0 and self.was_on:
            gc.enable()


event.register("numba:compile", _Rest())


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
