"""Runs a recipe in this process and kills itself at a chosen moment, as `kill -9` would: used by test_resume.

    python killed_run.py RECIPE OUT WHEN

WHEN is `after:K` (right after the K-th file appeared), `before:NAME` (just before a file so named would appear for the
N-th time, `before:NAME:N`), or `during:NAME` (when half of it is written under its temporary name).
"""

import os
import signal
import sys

from curate import recipe
from curate.run import run


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(recipe_file: str, out: str, when: str) -> None:
    kind, _, rest = when.partition(":")
    name, _, number = rest.partition(":")
    count = int(rest) if kind == "after" else int(number or 1)
    seen = 0
    replace, fsync = os.replace, os.fsync

    def counted(source: str, target: str) -> None:
        nonlocal seen
        hit = kind == "after" or (kind == "before" and name in str(target))
        seen += hit
        if kind == "before" and hit and seen == count:
            die()
        replace(source, target)
        if kind == "after" and seen == count:
            die()

    def torn(descriptor: int) -> None:
        nonlocal seen
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if kind == "during" and name in path and os.path.isfile(path):
            seen += 1
            if seen == count:
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                die()
        fsync(descriptor)

    os.replace, os.fsync = counted, torn  # type: ignore[assignment]
    run(recipe.load(recipe_file), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
