"""`plan`: per stage what is cached, what is new and what must run again because of what; rows, disk, memory and time.

Expectations come from what the same stages did before in this folder, else from rates measured once on one core; they
are there to choose by, not to promise.
"""

import shutil
from typing import Any

from curate import forecast, ledger, plan, store
from curate.execute import serial
from curate.manifest import Manifest, load_receipts
from curate.recipe import Recipe
from curate.stage import MAKES_DOCUMENTS
from curate.stages.mix import token_count
from curate.stages.rephrase import Rephrase

# MB of text per CPU-second on one 2020s server core, with reading and writing, and bytes on disk per byte of text.
_EXPECTED = {
    "ingest": (120, 0.3),
    "language": (90, 0.002),
    "heuristics": (80, 0.02),
    "code": (110, 0.02),
    "exact": (3000, 0.01),
    "near": (150, 0.06),
    "confirm": (250, 0.1),
    "repeated_lines": (100, 0.4),
    "embed": (0.05, 0.25),
    "cluster": (100, 0.003),
    "semantic": (300, 0.01),
    "prune": (1000, 0.002),
    "target": (300, 0.003),
    "clean": (90, 0.3),
    "rate": (3000, 0.001),
    "rank": (3000, 0.002),
    "select": (240, 0.3),
    "concat": (150, 0.3),
    "tokenize": (100, 0.3),
    "mix": (3000, 0.001),
    "pack": (180, 0.9),
    "rephrase": (0.4, 2.0),  # an answer for each byte; what the server takes is not in it
}
_PACKED = {".gz": 3.5, ".zst": 4.0}
_TOKEN = 3.5  # bytes for a token in a shard pair, its parquet twin and the map
_REFERENCE_TOKENIZER = 1.3
_OPEN_SHARD = 3.0


def preview(recipe: Recipe, out: str, *, limit: int | None = None, speed: float | None = None) -> dict[str, Any]:
    """What `run` would do. Only raw files are digested (and the digests kept); nothing else is written. `speed`: tokens
    of answers a second, for the hours of `rephrase`."""
    source = plan.survey(recipe, out, serial, limit=limit)
    steps = plan.resolve(recipe, out, source)
    raw = sum(file.size for file in source.described)
    text = int(sum(_text(file) for file in source.described) * source.share)
    stages = [_ingest(source, out, text)]
    known: dict[int, int | None] = {-1: stages[0]["rows"]}
    budget: int | None = None
    for index, step in enumerate(steps):
        entry = _stage(out, step, text)
        budget = token_count(getattr(step.node.stage, "tokens", None)) or budget
        if budget and step.node.stage.kind == "pack" and entry["state"] != "cached":
            entry["disk_expected"] = _TOKEN * budget
        seen = [known[documents] for documents, _ in step.branches or ((step.documents, step.columns),)]
        most = None if None in seen else sum(rows for rows in seen if rows)
        if isinstance(step.node.stage, Rephrase) and entry["rows"] is None:
            told = forecast.forecast(step, steps, source, out, text=text, speed=speed)
            most = told["passages"] if told else None
            entry |= {"forecast": told, "remarks": [*entry["remarks"], forecast.said(told)]}
        if entry["rows"] is None:
            entry["rows_expected"] = most
        if step.node.stage.gathers in MAKES_DOCUMENTS:
            known[index] = most if entry["rows"] is None else entry["rows"]
        stages.append(entry)
    biggest = max((one.bytes for one in source.units), default=0)
    disk = sum(stage["disk_expected"] for stage in stages)
    return {
        "recipe": recipe.name,
        "out": out,
        "raw_files": len(source.described),
        "raw_bytes": raw,
        "stages": stages,
        "disk_expected": disk,
        "disk_free": store.free_space(out),
        "memory_per_worker_expected": int(200e6 + _OPEN_SHARD * min(max(biggest, 1), source.ingest.shard_bytes)),
        "cpu_seconds_expected": round(sum(stage["cpu_seconds_expected"] for stage in stages), 1),
    }


def show(planned: dict[str, Any]) -> None:
    """The plan as a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, width=max(100, shutil.get_terminal_size().columns))
    table = Table("stage", "state", "units", "rows", "disk MB", "CPU s", box=None, pad_edge=False)
    for stage in planned["stages"]:
        rows = (
            f"{stage['rows']:,}"
            if stage["rows"] is not None
            else f"<= {stage['rows_expected']:,}"
            if stage.get("rows_expected")
            else "?"
        )
        units = f"{stage['units_done']}/{stage['units']}" if stage["units"] is not None else "?"
        table.add_row(
            stage["name"],
            stage["state"],
            units,
            rows,
            f"{stage['disk_expected'] / 1e6:.1f}",
            f"{stage['cpu_seconds_expected']:.1f}",
        )
    console.print(table)
    for stage in planned["stages"]:
        for remark in stage.get("remarks", ()):
            console.print(f"{stage['name']}: {remark}")
    free = planned["disk_free"]
    room = f" of {free / 1e9:.1f} GB free" if free is not None else ""
    console.print(
        f"expected: {planned['disk_expected'] / 1e6:,.0f} MB on disk{room}, "
        f"{planned['memory_per_worker_expected'] / 1e6:,.0f} MB of memory per worker, "
        f"{planned['cpu_seconds_expected']:,.0f} CPU-seconds"
    )


def _text(file: Any) -> float:
    """About how much text a raw file holds, from its size, or from its footer."""
    if file.format == "parquet":
        return float(sum(size for _, size in file.row_groups))
    return float(file.size * next((n for suffix, n in _PACKED.items() if file.name.lower().endswith(suffix)), 1.0))


def _ingest(source: plan.Source, out: str, text: int) -> dict[str, Any]:
    manifest = Manifest.load(source.folder)
    entry = _entry(out, "ingest", "ingest", source.folder, source.made_by, manifest, text)
    wanted = {source.unit_key(one) for one in source.units}
    entry |= {"units": len(source.units), "units_done": len(wanted & _keys(out, "ingest", source.folder))}
    if entry["rows"] is None and all(file.records is not None for file in source.described):
        entry["rows_expected"] = sum(file.records or 0 for file in source.described)
    return _remaining(entry)


def _stage(out: str, step: plan.Step, text: int) -> dict[str, Any]:
    manifest = Manifest.load(step.folder)
    entry = _entry(out, step.node.name, step.node.stage.kind, step.folder, step.made_by, manifest, text)
    if getattr(step.node.stage, "engine", "") == "tokenizers" and not manifest:
        entry["cpu_seconds_expected"] = text / 1e6 / _REFERENCE_TOKENIZER
    if not manifest:
        entry["cpu_seconds_expected"] += step.node.stage.judging(text)  # the ledger, as rates, is of scan and apply
    units = len(manifest.units) if manifest else None
    return entry | {"units": units, "units_done": units or 0, "remarks": list(step.node.stage.remarks(text))}


def _entry(
    out: str, name: str, kind: str, folder: str, made_by: dict[str, Any], manifest: Manifest | None, text: int
) -> dict[str, Any]:
    if manifest is not None:
        state, rows, disk, seconds = "cached", manifest.rows, 0.0, 0.0
    else:
        reason = plan.because(out, name, made_by)
        began = bool(load_receipts(folder))
        state = f"again, because {reason}" if reason else "begun" if began else "new"
        rate, share = _EXPECTED.get(kind, (50, 0.1))
        rows, disk, seconds = None, share * text, text / 1e6 / rate
        before = plan.previous(out).get(name)
        seconds = _measured(store.join(out, before)) or seconds if before else seconds
    return {
        "name": name,
        "kind": kind,
        "state": state,
        "rows": rows,
        "disk_expected": disk,
        "cpu_seconds_expected": seconds,
    }


def _measured(folder: str) -> float | None:
    """CPU-seconds that the stage took the last time, over all its phases."""
    total = 0.0
    for place in (folder, store.join(folder, "evidence"), store.join(folder, "rule")):
        table = ledger.load(place)
        total += sum(table["cpu_seconds"].drop_null().to_pylist()) if table is not None else 0.0
    return total or None


def _keys(out: str, name: str, folder: str) -> set[str]:
    found: set[str] = set()
    for other in store.listing(out):
        if other.rsplit("-", 1)[0] == name:
            place = store.join(out, other)
            manifest = Manifest.load(place)
            found |= {unit.key for unit in (manifest.units if manifest else load_receipts(place).values())}
    return found


def _remaining(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["units"] and entry["state"] != "cached":
        share = 1 - entry["units_done"] / entry["units"]
        entry["disk_expected"] *= share
        entry["cpu_seconds_expected"] *= share
    return entry
