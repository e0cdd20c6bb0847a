"""Near duplicates against six rivals, interleaved, one core each: signatures alone, and all of the work.

Signatures: texts lie in memory, and each tool signs them with 112 hashes over runs of five words; CPU-seconds are taken
inside the process. For ours the text is an Arrow column, for the rivals Python strings or their own frame.

At rest: documents are ingested, `near` reads their texts once and proposes, `confirm` reads those involved once more,
proves, and both mark. From file to file: a parquet file of `id` and `text` is ingested, marked, and its survivors are
written. The rivals read the same kind of file and write survivors, without proof; `near_rivals.py` says how. Rivals
are slow, so each tool has sizes of its own, made alike: the smaller file is the beginning of the larger. A tenth of
all documents are near copies of an earlier one, with 2 to 20 % of their words changed.

The prose is made of real sentences, each of them many times, which helps whoever caches words. `--text` takes the lines
of your own parquet files instead.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import corpus
import measure
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import soak
from measure import Tool

NEAR = measure.ROOT / ".venv-bench-near" / "bin" / "python"
OTHERS = measure.ROOT / ".venv-bench-others" / "bin" / "python"
SCRIPT = measure.ROOT / "bench" / "near_rivals.py"
# Each rival's environment and its two sizes in MB.
RIVALS = {
    "datatrove": (measure.RIVAL, (1.0, 5.0)),
    "data-juicer": (OTHERS, (4.0, 16.0)),
    "text-dedup": (NEAR, (4.0, 20.0)),
    "rensa": (NEAR, (20.0, 80.0)),
    "gaoya": (NEAR, (20.0, 80.0)),
    "daft": (NEAR, (30.0, 120.0)),
}
OURS = (120.0, 480.0)
SIGNED = {"curate": 120.0, "daft": 60.0, "gaoya": 20.0, "rensa": 20.0, "datasketch": 8.0}
COPIED = corpus.Copied(share=0.1, remembered=200, edits=(0.02, 0.2))
# Shards of 60 MB, so that two workers get as much each.
INGEST = (
    'ingest: {files: "raw-%g/raw.parquet", source: prose, shard_bytes: 60000000, '
    "normalize: {form: none, newlines: keep}}"
)
MARK = ("near: {preset: fineweb}", "confirm: {jaccard: 0.7}")
REMOVE = (*MARK, "select: {keep: {original: not near_duplicate}}")
SHORTEST = 31  # bytes of a line of a user's text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", type=Path, help="parquet file or folder with a column `text`, instead of made prose")
    parser.add_argument("--only", default=",".join(RIVALS), help="rivals, parted by commas")
    parser.add_argument("--parts", default="sign,walls,race", help="what to measure, parted by commas")
    parser.add_argument("--sign", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sign:
        print(signing(options.sign))
        return 0
    for python in (measure.RIVAL, OTHERS, NEAR):
        if not python.exists():
            raise SystemExit(f"{python} is missing; `make bench` installs it")
    scale, rounds = (0.1, 1) if options.quick else (1.0, options.rounds)
    with tempfile.TemporaryDirectory(prefix="bench-near-") as scratch:
        measured(Path(scratch), pieces_of(options.text, Path(scratch), options.quick), scale, rounds, options)
    return 0


def measured(work: Path, pieces: corpus.Pieces, scale: float, rounds: int, options: argparse.Namespace) -> None:
    parts, log = options.parts.split(","), work / "log"
    rivals = [rival(work, name, scaled(RIVALS[name][1], scale)) for name in options.only.split(",") if name]
    ours = [at_rest(work, scaled(OURS, scale)), file_to_file(work, scaled(OURS, scale))]
    prepare(work, pieces, {size for tool in (*ours, *rivals) for size in tool.sizes})
    if "race" in parts or "walls" in parts:
        for size in ours[0].sizes:  # ingested before anything is measured
            measure.cost(ours[0].command(size), log=log)
    if "walls" in parts:
        walls([*ours, *(tool for tool in rivals if tool.name == "daft")], rounds=rounds, log=log)
    measure.one_core()
    if "sign" in parts:
        prepare(work, pieces, {size * scale for size in SIGNED.values()})
        signatures(work, {name: size * scale for name, size in SIGNED.items()}, rounds)
    if "race" in parts:
        measure.race(ours, rivals, rounds=rounds, log=log)
        print("where ours spends it, of the last run at rest:")
        soak.stages(work / f"run-{ours[0].sizes[1]:g}")
        shares(work, ours[1], rivals)
    print(f"{versions()}; {measure.today()}; {measure.machine()}", flush=True)


def scaled(sizes: tuple[float, float], scale: float) -> tuple[float, float]:
    return sizes[0] * scale, sizes[1] * scale


# --- text -------------------------------------------------------------------------------------------------------------


def pieces_of(text: Path | None, work: Path, quick: bool) -> corpus.Pieces:
    """Sentences of the demo corpus, or lines of a user's parquet."""
    if text is None:
        texts = corpus.demo_texts(str(work / "demo"), megabytes=10 if quick else 60)
        return corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source])
    files = sorted(text.glob("*.parquet")) if text.is_dir() else [text]
    found = (one for path in files for one in pq.read_table(path, columns=["text"])["text"].to_pylist() if one)
    every = dict.fromkeys(line for one in found for line in one.splitlines() if len(line) >= SHORTEST)
    return corpus.Pieces(f"{line}\n" for line in every)


def prepare(work: Path, pieces: corpus.Pieces, sizes: set[float]) -> None:
    for size in sizes:
        if not (work / f"raw-{size:g}").exists():
            (work / f"raw-{size:g}").mkdir()
            made = corpus.documents(pieces, megabytes=size, seed=1, run=(1, 2), copied=COPIED)
            corpus.write_parquet(work / f"raw-{size:g}" / "raw.parquet", made)


# --- tools ------------------------------------------------------------------------------------------------------------


def at_rest(work: Path, sizes: tuple[float, float]) -> Tool:
    """Both stages on runs that are ingested before."""

    def command(size: float) -> list[str]:
        return running(work, f"rest-{size:g}", size, MARK, work / f"run-{size:g}")

    def forget(size: float) -> None:
        for kind in ("near", "confirm"):
            for folder in (work / f"run-{size:g}").glob(f"{kind}-*"):
                shutil.rmtree(folder)

    return Tool("at rest", sizes, command, forget)


def file_to_file(work: Path, sizes: tuple[float, float]) -> Tool:
    def command(size: float) -> list[str]:
        return running(work, f"file-{size:g}", size, REMOVE, work / f"whole-{size:g}")

    return Tool("file to file", sizes, command, lambda size: emptied(work / f"whole-{size:g}"))


def running(work: Path, name: str, size: float, stages: tuple[str, ...], out: Path) -> list[str]:
    """`curate run` of a recipe of these stages, in one process."""
    recipe = work / f"{name}.yaml"
    lines = "".join(f"  - {stage}\n" for stage in stages)
    recipe.write_text(f"name: near\n{INGEST % size}\nstages:\n{lines}")
    return [str(measure.CURATE), "run", str(recipe), "--out", str(out), "-j", "1"]


def rival(work: Path, name: str, sizes: tuple[float, float]) -> Tool:
    python = RIVALS[name][0]

    def command(size: float) -> list[str]:
        raw = work / f"raw-{size:g}" / "raw.parquet"
        return [str(python), str(SCRIPT), name, str(raw), str(work / f"{name}-{size:g}")]

    return Tool(name, sizes, command, lambda size: emptied(work / f"{name}-{size:g}"))


def emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


# --- measurements -----------------------------------------------------------------------------------------------------


def signing(raw: Path) -> float:
    """CPU-seconds of our signatures of the texts of a file, which lie in memory as a column; the best of three."""
    from curate.sketch import Sketch

    column = pq.read_table(raw, columns=["text"])["text"].combine_chunks()
    sketch, spent = Sketch(), []
    sketch.signatures(column.slice(0, 100))
    for _ in range(3):
        start = time.process_time()
        sketch.signatures(column)
        spent.append(time.process_time() - start)
    return min(spent)


def signatures(work: Path, sizes: dict[str, float], rounds: int) -> None:
    """MB per CPU-second of each signer, in turn, and ours as a multiple of each."""

    def command(name: str) -> list[str]:
        raw = str(work / f"raw-{sizes[name]:g}" / "raw.parquet")
        if name == "curate":
            return [sys.executable, __file__, "--sign", raw]
        return [str(NEAR), str(SCRIPT), "sign", name, raw]

    rates: dict[str, list[float]] = {name: [] for name in sizes}
    for number in range(1, rounds + 1):
        for name, size in sizes.items():
            told = subprocess.run(command(name), stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if told.returncode:
                raise SystemExit(f"{name} does not sign:\n{told.stderr[-2_000:]}")
            rates[name].append(size / float(told.stdout.split()[-1]))
            print(f"round {number}: {name:<12} signs {rates[name][-1]:8.1f} MB per CPU-second", flush=True)
    for name, found in rates.items():
        print(f"signatures, {name}: {measure.spread(found, 'MB per CPU-second')}")
    others = [name for name in sizes if name != "curate"]
    for name in others:
        ratios = [a / b for a, b in zip(rates["curate"], rates[name], strict=True)]
        print(f"signatures, curate against {name}: {measure.spread(ratios, 'x')}, {rounds} rounds")
    fastest = [max(found) for found in zip(*(rates[name] for name in others), strict=True)]
    ratios = [a / b for a, b in zip(rates["curate"], fastest, strict=True)]
    print(f"signatures, curate against the fastest in each round: {measure.spread(ratios, 'x')}, {rounds} rounds")


def walls(tools: list[Tool], *, rounds: int, log: Path) -> None:
    """MB per second by the clock, on all cores there are: ours with two workers, others as they are."""

    def wall(tool: Tool, size: float) -> float:
        tool.clear(size)
        command = tool.command(size)
        return measure.cost([*command[:-1], "2"] if command[-2] == "-j" else command, log=log).wall

    for tool in tools:
        wall(tool, tool.sizes[0])
    rates: dict[str, list[float]] = {tool.name: [] for tool in tools}
    for _ in range(rounds):
        for tool in tools:
            small, large = (wall(tool, size) for size in tool.sizes)
            rates[tool.name].append((tool.sizes[1] - tool.sizes[0]) / max(large - small, 1e-3))
    for tool in tools:
        print(
            f"{tool.name}, two cores: {measure.spread(rates[tool.name], 'MB per second')}, {rounds} rounds", flush=True
        )
    for mine in tools[:2]:
        for other in tools[2:]:
            ratio = statistics.median(rates[mine.name]) / statistics.median(rates[other.name])
            print(f"{mine.name} against {other.name}, two cores, by the clock: {ratio:.1f}x", flush=True)


def shares(work: Path, mine: Tool, rivals: list[Tool]) -> None:
    """How many documents each rival removes, and how many of those documents ours does."""
    for tool in rivals:
        size = tool.sizes[1]
        mine.clear(size)
        measure.cost(mine.command(size), log=work / "log")
        every = pq.read_metadata(work / f"raw-{size:g}" / "raw.parquet").num_rows
        (folder,) = (work / f"whole-{size:g}").glob("select-*")
        kept = sum(pq.read_metadata(path).num_rows for path in folder.glob("0*.parquet"))
        theirs = survivors(work / f"{tool.name}-{size:g}" / "out")
        print(
            f"of {every:,} documents curate removed {every - kept:,}, proved alike; {tool.name} {every - theirs:,}",
            flush=True,
        )


def survivors(folder: Path) -> int:
    """Rows of what a rival wrote: parquet, or Arrow streams."""
    rows = sum(pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet"))
    for path in folder.rglob("*.arrow"):
        with pa.memory_map(str(path)) as source:
            rows += pyarrow.ipc.open_stream(source).read_all().num_rows
    return rows


def versions() -> str:
    """Ours and those of all rivals."""
    told = [measure.versions()]
    for python, names in (
        (NEAR, ["rensa", "gaoya", "daft", "text-dedup", "datasketch", "datasets"]),
        (OTHERS, ["py-data-juicer"]),
    ):
        command = [str(python), str(SCRIPT), "versions", *names]
        told.append(subprocess.run(command, capture_output=True, text=True).stdout.strip())
    return ", ".join(told)


if __name__ == "__main__":
    sys.exit(main())
