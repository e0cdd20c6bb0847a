"""One corpus through one recipe, and what came out of it is committed: a change in numbers is a diff in review.

To accept a change that is meant: `python tests/test_golden.py`.
"""

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

from corpus import write_corpus, write_recipe

from curate import recipe
from curate.outputs import outputs
from curate.run import run

GOLDEN = Path(__file__).parent / "golden" / "run.json"


def made(folder: Path) -> dict[str, Any]:
    """Counts of every stage and digests of the token bodies, which hold for every version of pyarrow."""
    write_corpus(folder)
    run(recipe.load(str(write_recipe(folder))), str(folder / "run"))
    told = outputs(str(folder / "run"))
    counted = ("rows_in", "rows", "rejected", "rejects", "documents", "bytes", "dropped", "marked", "tokens")
    stages = {stage["name"]: {name: stage[name] for name in counted if name in stage} for stage in told["stages"]}
    splits = {
        split: {source: {**numbers, "prefixes": None} for source, numbers in entry["sources"].items()}
        for split, entry in told["tokens"][0]["splits"].items()
    }
    bodies = {
        "/".join(file.parts[-2:]): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((folder / "run").rglob("*.bin"))
    }
    return {"stages": stages, "splits": splits, "bodies": bodies}


def test_the_golden_run(tmp_path: Path) -> None:
    assert made(tmp_path) == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        GOLDEN.write_text(json.dumps(made(Path(scratch)), indent=1, sort_keys=True) + "\n")
