"""The recipes of published filters, run as they ship on a small web, with pinned counts: a change is a diff in review.

To accept a change that is meant: `python tests/test_recipes.py`.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from web import write_web

from curate import assets, recipe
from curate.errors import AssetError
from curate.outputs import outputs
from curate.run import run

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden" / "recipes.json"
PUBLISHED = ("c4", "fineweb", "gopher", "refinedweb", "web")


def loaded(name: str, folder: Path) -> recipe.Recipe:
    """A recipe as it ships, over the small web instead of the files it names."""
    raw = yaml.safe_load((ROOT / "flows" / "recipes" / f"{name}.yaml").read_text())
    raw["ingest"]["files"] = ["web/*.parquet"]
    return recipe.parse(yaml.safe_dump(raw, sort_keys=False), root=str(folder))


def made(name: str, folder: Path) -> dict[str, Any]:
    """Rows and drops of every stage, and which kinds of pages are left at the end."""
    write_web(folder / "web")
    result = run(loaded(name, folder), str(folder / f"{name}-run"))
    stages = {
        stage["name"]: {key: stage[key] for key in ("rows", "dropped", "marked") if key in stage}
        for stage in outputs(str(folder / f"{name}-run"))["stages"]
    }
    import pyarrow.parquet as pq

    last = result.steps[-1][1]
    left: dict[str, int] = {}
    for shard in last.manifest.shards:
        for kind in pq.read_table(f"{last.folder}/{shard.name}", columns=["kind"])["kind"].to_pylist():
            left[kind] = left.get(kind, 0) + 1
    return {"stages": stages, "left": dict(sorted(left.items()))}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_filters_as_they_ship(name: str, tmp_path: Path) -> None:
    try:
        assets.find("lid.176")
    except AssetError:
        pytest.skip("lid.176 is not installed here; `make setup` installs it")
    assert made(name, tmp_path) == json.loads(GOLDEN.read_text())[name]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        told = {name: made(name, Path(scratch)) for name in PUBLISHED}
    GOLDEN.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
