"""What a run has made: its datasets, what was kept and dropped and why, and the token shards with their manifest."""

from dataclasses import asdict
from typing import Any

from curate import store
from curate.errors import RecipeError
from curate.manifest import Manifest, parse, parse_sealed
from curate.plan import STATE
from curate.unit import first_reject


def state(out: str) -> list[dict[str, Any]]:
    """The steps of the run in `out`, in order, with their folders. RecipeError where no run is."""
    uri = store.join(out, STATE)
    if not store.exists(uri):
        raise RecipeError(f"{out} is no run folder: it has no {STATE}; `curate run RECIPE.yaml --out {out}` makes one")
    steps: list[dict[str, Any]] = parse_sealed(uri)["steps"]
    return steps


def outputs(out: str) -> dict[str, Any]:
    """Datasets by stage, rows by rule, bytes and tokens by source, rejects, and where the token shards are.

    `sources_by` of a stage: the step behind which sources have other names than those that were read.
    """
    stages, tokens = [], []
    named = _named(out)
    for step in state(out):
        folder = store.join(out, step["folder"])
        manifest = Manifest.load(folder)
        stages.append(
            {
                **step,
                "folder": folder,
                **(_made(folder, manifest, step["kind"]) if manifest else {"state": "unfinished"}),
            }
        )
        if named[step["name"]]:
            stages[-1]["sources_by"] = named[step["name"]]
        if manifest and step["kind"] == "pack":
            tokens.append(store.join(folder, "tokens.json"))
    return {
        "run": out,
        "stages": stages,
        "tokens": [{"manifest": uri, **_splits(uri)} for uri in tokens],
    }


def _named(out: str) -> dict[str, str | None]:
    """For each step the `concat` that gave the sources of its documents their names; None where they are those read."""
    found: dict[str, str | None] = {"ingest": None}
    for step in state(out):
        before = step["documents"]
        if before is None:
            continue
        names = before if isinstance(before, list) else [before]
        found[step["name"]] = next((by for name in names if (by := found.get(name))), None)
        manifest = Manifest.load(store.join(out, step["folder"])) if step["kind"] == "concat" else None
        if manifest and any(manifest.made_by["stage"]["parameters"]["sources"]):
            found[step["name"]] = step["name"]
    return found


def _made(folder: str, manifest: Manifest, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "state": "done",
        "rows_in": sum(unit.rows_in for unit in manifest.units),
        "rows": manifest.rows,
        "units": len(manifest.units),
        "bytes_on_disk": sum(shard.bytes for shard in manifest.shards),
        "columns": manifest.columns,
    }
    names = {name for unit in manifest.units for name in unit.counts} & {
        "documents",
        "bytes",
        "marked",
        "rejects",
        "tokens",
    }
    if kind != "pack":
        made |= {name: manifest.total(name) for name in sorted(names)}
    if kind == "ingest":
        made["rejected"] = sum(unit.rejected for unit in manifest.units)
        if made["rejected"]:
            made["rejects_folder"] = store.join(folder, "rejects")
            made["first_reject"] = first_reject(folder, manifest.units)
    if kind == "rephrase":
        made |= _rephrased(folder, manifest)
    if kind == "select":
        rule = Manifest.load(store.join(folder, "rule"))
        made["dropped"] = rule.total("rule") if rule else {}
    if kind in ("ingest", "select", "concat", "rephrase"):
        made["shards"] = [store.join(folder, shard.name) for shard in manifest.shards]
    if kind == "pack":
        made["files"] = [asdict(shard) | {"name": store.join(folder, shard.name)} for shard in manifest.shards]
    return made


def _rephrased(folder: str, manifest: Manifest) -> dict[str, Any]:
    """What became of the answers, why some were rejected, and the mean similarity of outputs and passages (`true`) and
    of outputs and other passages (`shuffled`)."""
    made: dict[str, Any] = {
        "asked": manifest.total("asked"),
        "outputs": manifest.total("outputs"),
        "rejected": sum(unit.rejected for unit in manifest.units),
        "rejects": manifest.total("rejected"),
    }
    evidence = Manifest.load(store.join(folder, "evidence"))
    left_out = {name: count for name, count in (evidence.total("left_out") if evidence else {}).items() if count}
    if left_out:
        made["left_out"] = left_out
    likeness = manifest.total("likeness")
    if pairs := likeness.get("pairs"):
        means = {name: likeness[f"{name}_millionths"] / 1e6 / pairs for name in ("true", "shuffled")}
        made["likeness"] = {"pairs": pairs, **means}
    if made["rejected"]:
        made["rejects_folder"] = store.join(folder, "rejects")
        made["first_reject"] = first_reject(folder, manifest.units)
    return made


def _splits(uri: str) -> dict[str, Any]:
    raw = parse(uri)
    folder = store.parent(uri)
    splits = {}
    for name, split in raw["splits"].items():
        sources = {
            source: {key: value for key, value in entry.items() if key != "shards"}
            | {"prefixes": [store.join(folder, shard["prefix"]) for shard in entry["shards"]]}
            for source, entry in split["sources"].items()
        }
        splits[name] = {"tokens": split["tokens"], "sources": sources}
    return {"dtype": raw["dtype"], "window": raw["window"], "packing": raw["packing"], "splits": splits}
