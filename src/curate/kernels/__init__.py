"""Arrays in, arrays out: the inner loops, compiled by Numba.

A kernel takes NumPy arrays of fixed types and an array to fill; it holds no Python object, runs on one thread
and lets go of the interpreter lock. Its slow twin, in plain Python, is in `tests/oracles.py`.

Importing this package does two things. It points Numba's cache, unless NUMBA_CACHE_DIR is set, to a folder named by
the bytes of these files. Numba looks only at the file of the compiled function, so an edit in a kernel that is called
from another file would otherwise run as it was before. And it has Numba leave out the colours of error messages: where
colorama is installed, each of the thousands of guesses that its type inference drops on the way would be coloured.
Numba reads both variables once, when it is imported: import this package first.
"""

import hashlib
import os


def _cache_folder() -> str:
    """The per-user folder of compiled kernels; one in the temporary folder where that cannot be written."""
    digest = hashlib.blake2b(digest_size=8)
    here = os.path.dirname(__file__)
    for name in sorted(file for file in os.listdir(here) if file.endswith(".py")):
        with open(os.path.join(here, name), "rb") as file:
            code = file.read()
        digest.update(f"{name} {len(code)} ".encode() + code)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.path.join(home, "curate", f"kernels-{digest.hexdigest()}")
    try:
        os.makedirs(folder, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    import tempfile

    # The name holds the user: a folder that another user made in the shared place could not be written.
    return os.path.join(tempfile.gettempdir(), f"curate-{os.getuid()}", f"kernels-{digest.hexdigest()}")


if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = _cache_folder()
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")


def is_cold() -> bool:
    """True if no kernel was compiled here before."""
    try:
        return not os.listdir(os.environ["NUMBA_CACHE_DIR"])
    except OSError:
        return True
