"""Runs the flow with a worker that dies, as when the kernel takes its memory back: used by test_flows and test_ray.

    python killed_task.py UNIT TIMES FOLDER ARGUMENTS...

The worker dies when it comes to the unit named UNIT (of any stage), at the first TIMES times; FOLDER keeps the count.
ARGUMENTS are those of the flow.
"""

import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))

import curate_flow

prefect_map = curate_flow.prefect_map


def dying(job: Any, work: Callable[[Any], Any], unit: str, times: int, folder: str) -> Any:
    deaths = len(os.listdir(folder))
    if getattr(job, "unit", "") == unit and deaths < times:
        Path(folder, str(deaths)).touch()
        os._exit(1)
    return work(job)


def mapped(work: Callable[[Any], Any], jobs: Iterable[Any], **where: Any) -> Iterable[Any]:
    unit, times, folder = sys.argv[1:4]
    mortal = partial(dying, work=work, unit=unit, times=int(times), folder=folder)
    return prefect_map(mortal, jobs, **where)


if __name__ == "__main__":
    curate_flow.prefect_map = mapped
    sys.exit(curate_flow.main(sys.argv[4:]))
