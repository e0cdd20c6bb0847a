"""What all tests share: how hypothesis draws, and where more data may lie."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the first example of a kernel compiles it. CI draws the same examples every time; a person who runs
# the tests draws others, and HYPOTHESIS_PROFILE=thorough draws many.
settings.register_profile(
    "quick", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("ci", settings.get_profile("quick"), derandomize=True)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "quick"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """A folder with more data than the repository holds, named by CURATE_TEST_DATA; else the test is skipped."""
    folder = Path(os.environ.get("CURATE_TEST_DATA") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip("no more data: CURATE_TEST_DATA names no folder")
    return folder
