"""A long run that is killed again and again: does it end with the bytes of an undisturbed one, in bounded memory?

Writes gigabytes of raw text in every format (compressed lines, one plain file of lines large enough to be cut,
parquet), with exact copies and broken lines, runs a whole recipe on it once without disturbance, and once more with
SIGKILL at random times: in turn for all processes at once, and for the leading process alone, so that its workers are
left behind while the next run starts. Then compares both folders file by file, but for ledgers, which tell times.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import corpus
import measure
import orjson
import psutil
import pyarrow.parquet as pq
import yaml
import zstandard

from curate.ledger import NAME as LEDGER
from curate.manifest import Manifest
from curate.outputs import state
from curate.stages.rephrase import ANSWERS

FILE_BYTES = 64_000_000  # of text in one compressed file
BROKEN_EVERY = 5_000  # lines
BROKEN = (
    b'{"id": "broken", "text": "an end is miss',
    b'{"id": "broken", "text": "no UTF-8: \xff\xfe", "source": "docs"}',
    b'{"id": "broken", "source": "docs"}',
    b'{"id": "broken", "text": null, "source": "docs"}',
    b"null",
    b"\x00\x00\x00\x00",
)
SHARES = {"docs": 0.3, "code": 0.3, "prose": 0.3, "license": 0.1}
TARGETS = "source = 'license' and source_id like '%000'"
DONE_WITH_REJECTS = 3
SHARD_TOKENS = 1 << 24
THIN = "bytes % 50 = 0"
"""Of the documents that are rephrased: the server of the tests answers some hundred requests a second."""
TOKENS = 120_000_000
"""Of a shipped recipe's mixture."""

RECIPE = """\
name: soak
ingest:
  files: ["raw/*.jsonl", "raw/*.jsonl.zst", "raw/*.parquet"]
  source: {{field: source}}
  shard_bytes: {shard_bytes}
stages:
  - heuristics:
  - exact:
  - select:
      name: plausible
      keep:
        first_copy: not duplicate
        long_enough: words >= 20
        prose: source = 'code' or mean_word_length between 3 and 12
  - tokenize: {{tokenizer: demo/tokenizer.json, engine: fastokens}}
  - mix:
      weights: {{docs: 0.3, code: 0.3, prose: 0.3, license: 0.1}}
      tokens: {tokens}
      max_epochs: 4
      validation: 0.01
  - pack: {{window: 2048, formats: [megatron, parquet], shard_tokens: {shard_tokens}}}
"""


@dataclass
class Outcome:
    """How a run ended, what it took, and the most memory that its processes held at once, and the largest of them."""

    leader: int
    code: int
    seconds: float
    cpu: float
    peak: int
    largest: int


@dataclass(frozen=True)
class Strike:
    """Kill a run some time (`delay`, seconds) after its folder holds so many files."""

    files: int
    delay: float
    kill: Callable[[int, int], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="raw text in all (default 2)")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--shard-megabytes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the times of the kills")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--recipe", help="a shipped recipe, such as fineweb, instead of the whole path to tokens")
    parser.add_argument("--model", help="a static model (absolute path) in place of those of the recipe's `embed`")
    parser.add_argument("--work", help="folder for all files, kept (default: a temporary one, removed)")
    options = parser.parse_args()
    if options.work:
        Path(options.work).mkdir(parents=True, exist_ok=True)
        return soak(Path(options.work), options)
    with tempfile.TemporaryDirectory(prefix="curate-soak-") as scratch:
        return soak(Path(scratch), options)


def soak(work: Path, options: argparse.Namespace) -> int:
    started = time.perf_counter()
    text = write_raw(work, gigabytes=options.gigabytes)
    print(f"raw: {text / 1e6:,.0f} MB of text written in {time.perf_counter() - started:.0f} s", flush=True)
    recipe = work / "recipe.yaml"
    shard_bytes = options.shard_megabytes << 20
    if options.recipe:
        recipe.write_text(shipped(options.recipe, shard_bytes=shard_bytes, model=options.model))
    else:
        recipe.write_text(RECIPE.format(shard_bytes=shard_bytes, tokens=int(text * 0.2), shard_tokens=SHARD_TOKENS))

    with served(work / "demo"):
        return driven(recipe, work, text, shard_bytes, options)


@contextlib.contextmanager
def served(tokenizer: Path) -> Iterator[None]:
    """The tests' server of a language model, for recipes that rephrase."""
    command = [sys.executable, str(measure.ROOT / "tests" / "rephrased.py"), str(tokenizer)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        os.environ["CURATE_LLM"] = server.stdout.readline().strip()
        yield
    finally:
        server.kill()
        server.wait()


def driven(recipe: Path, work: Path, text: int, shard_bytes: int, options: argparse.Namespace) -> int:
    """Run once undisturbed and once with kills, and compare."""
    calm = run(recipe, work / "calm", jobs=options.jobs)
    check(calm.code == DONE_WITH_REJECTS, f"the undisturbed run ended with {calm.code}, expected {DONE_WITH_REJECTS}")
    print(
        f"undisturbed: {calm.seconds:.0f} s, {calm.cpu:.1f} CPU-s, {text / 1e6 / calm.cpu:.1f} MB of raw text per "
        f"CPU-second from end to end; peak {calm.peak / 2**20:,.0f} MiB of all processes together, "
        f"{calm.largest / 2**20:,.0f} MiB of the largest",
        flush=True,
    )
    stages(work / "calm")

    peak, orphans = disturbed(recipe, work / "killed", len(files(work / "calm")), options)
    peak = max(peak, calm.peak)
    differences = list(compare(work / "calm", work / "killed"))
    for line in differences[:20]:
        print(f"differs: {line}")
    damaged = subprocess.run([str(measure.CURATE), "verify", str(work / "killed")], capture_output=True, text=True)
    print(f"verify: {damaged.stdout.strip()}")
    # The leader holds its libraries; a worker those, a tokenizer, and a few copies of a shard: as read, as columns, as
    # encoded. What matters: the size of the corpus is not in it.
    bound = (350 << 20) + options.jobs * ((500 << 20) + 8 * max(shard_bytes, 4 * SHARD_TOKENS))
    within = peak <= bound
    print(f"memory: peak {peak / 2**20:,.0f} MiB, bound {bound / 2**20:,.0f} MiB: {'kept' if within else 'BROKEN'}")
    print(f"workers that outlived a killed leader: {orphans}")
    good = not differences and damaged.returncode == 0 and within and not orphans
    print(
        f"soak: {options.gigabytes:g} GB, {options.kills} kills (seed {options.seed}): "
        f"{'every byte the same' if not differences else f'{len(differences)} files differ'}; "
        f"{measure.today()}, {measure.machine()}"
    )
    return 0 if good else 1


def shipped(name: str, *, shard_bytes: int, model: str | None) -> str:
    """A recipe as it ships, on the raw files made here."""
    told = yaml.safe_load((measure.ROOT / "flows" / "recipes" / f"{name}.yaml").read_text())
    told["ingest"] |= {"files": ["raw/*.jsonl", "raw/*.jsonl.zst", "raw/*.parquet"], "shard_bytes": shard_bytes}
    for step in told["stages"]:
        if model and "embed" in step:
            step["embed"] = {"model": model}
        if "target" in step:
            step["target"]["towards"] = TARGETS
        if "tokenize" in step:
            step["tokenize"]["tokenizer"] = "demo/tokenizer.json"
        if "rephrase" in step:
            step["rephrase"] |= {"tokenizer": "demo/tokenizer.json", "model": "small"}
        if step.get("select", {}).get("name") == "real":
            step["select"]["keep"]["thin"] = THIN
        if "tokens" in step.get("mix", {}):
            step["mix"]["tokens"] = TOKENS
    return yaml.safe_dump(told, sort_keys=False)


# --- raw text ---------------------------------------------------------------------------------------------------------


def write_raw(work: Path, *, gigabytes: float) -> int:
    """Raw files of all formats below `work/raw`; bytes of text in them."""
    if (work / "raw").exists():
        shutil.rmtree(work / "raw")
    shutil.rmtree(work / "demo", ignore_errors=True)
    texts = corpus.demo_texts(str(work / "demo"), megabytes=60)
    (work / "raw").mkdir()
    pieces = {
        "docs": corpus.lines(texts["docs"]),
        "code": corpus.lines(texts["code"]),
        "prose": corpus.sentences(text for source in ("docs", "readme", "license") for text in texts[source]),
        "license": corpus.lines(texts["license"]),
    }
    total = 0
    for seed, (source, share) in enumerate(SHARES.items()):
        counted = Counted(corpus.documents(pieces[source], megabytes=gigabytes * 1000 * share, seed=seed))
        if source == "code":
            with (work / "raw" / "code.jsonl").open("wb") as file:
                file.writelines(records(counted, source))
        elif source == "prose":
            corpus.write_parquet(work / "raw" / "prose.parquet", counted, columns={"source": source})
        else:
            write_compressed(work / "raw", source, counted)
        total += counted.size
    return total


class Counted:
    """Documents on their way, with their bytes counted."""

    def __init__(self, documents: Iterable[bytes]) -> None:
        self.documents, self.size = documents, 0

    def __iter__(self) -> Iterator[bytes]:
        for document in self.documents:
            self.size += len(document)
            yield document


def records(documents: Iterable[bytes], source: str) -> Iterator[bytes]:
    """Lines of JSON, every so many a broken one."""
    for number, document in enumerate(documents):
        if number % BROKEN_EVERY == BROKEN_EVERY // 2:
            yield BROKEN[number // BROKEN_EVERY % len(BROKEN)] + b"\n"
        yield orjson.dumps({"id": f"{source}-{number}", "text": document.decode(), "source": source}) + b"\n"


def write_compressed(folder: Path, source: str, documents: Iterable[bytes]) -> None:
    """Files of zstd-compressed lines, each of about `FILE_BYTES`."""
    held: list[bytes] = []
    size = number = 0
    for line in (*records(documents, source), b""):
        held.append(line)
        size += len(line)
        if size >= FILE_BYTES or not line:
            data = zstandard.ZstdCompressor(level=3).compress(b"".join(held))
            (folder / f"{source}-{number:03d}.jsonl.zst").write_bytes(data)
            held, size, number = [], 0, number + 1


# --- runs -------------------------------------------------------------------------------------------------------------


def run(recipe: Path, out: Path, *, jobs: int, strike: Strike | None = None) -> Outcome:
    """Run to the end, or until `strike` falls."""
    command = [str(measure.CURATE), "run", str(recipe), "--out", str(out), "-j", str(jobs)]
    return watched(command, out, strike=strike)


def watched(command: list[str], out: Path, *, strike: Strike | None = None) -> Outcome:
    """Run a command whose files go to `out`, and watch the memory of all its processes."""
    began, peak, largest = time.perf_counter(), 0, 0
    with out.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    while True:
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu, seconds = usage.ru_utime + usage.ru_stime, time.perf_counter() - began
            return Outcome(process.pid, process.returncode, seconds, cpu, peak, largest)
        held = [resident(one) for one in session(process.pid)]
        peak, largest = max(peak, sum(held)), max(largest, *held, 0)
        if strike and len(files(out)) >= strike.files:
            time.sleep(strike.delay)
            strike.kill(process.pid, signal.SIGKILL)
        time.sleep(0.05)


def session(leader: int) -> list[psutil.Process]:
    """All processes that a leader started, whether it lives or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader:
                found.append(process)
    return found


def resident(process: psutil.Process) -> int:
    """Bytes of memory that a process holds; what several share counts for each."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def disturbed(recipe: Path, out: Path, whole: int, options: argparse.Namespace) -> tuple[int, int]:
    """Kill and resume, then let it end. The most memory seen, and workers that outlived their leader.

    `whole` is how many files a finished run has: a kill falls somewhere in the next stretch of those still missing.
    """
    draw = random.Random(options.seed)
    peak, orphans = 0, []
    for number in range(options.kills):
        kill, whom = (os.killpg, "all processes") if number % 2 == 0 else (os.kill, "the leader")
        there = len(files(out))
        stretch = 2 * (whole - there) / (options.kills - number + 1)
        strike = Strike(there + 1 + int(stretch * draw.random()), draw.uniform(0, 0.5), kill)
        outcome = run(recipe, out, jobs=options.jobs, strike=strike)
        peak = max(peak, outcome.peak)
        if outcome.code != -signal.SIGKILL:
            print(f"kill {number + 1}: too late, the run was over after {outcome.seconds:.1f} s with {outcome.code}")
            continue
        left = session(outcome.leader) if kill is os.kill else []
        orphans += left
        stages = sum(1 for _ in out.glob("*/manifest.json"))
        print(
            f"kill {number + 1}: {whom} after {outcome.seconds:.1f} s at {len(files(out))} of {whole} files, "
            f"{stages} stages whole, {len(left)} processes left behind",
            flush=True,
        )
    outcome = run(recipe, out, jobs=options.jobs)
    check(outcome.code == DONE_WITH_REJECTS, f"the resumed run ended with {outcome.code}, see {out}.log")
    print(f"resumed to the end in {outcome.seconds:.0f} s, {outcome.cpu:.1f} CPU-s")
    again = run(recipe, out, jobs=options.jobs)
    print(f"once more with nothing to do: {again.seconds:.1f} s, {again.cpu:.1f} CPU-s")
    _, alive = psutil.wait_procs(orphans, timeout=10)
    for one in alive:
        one.kill()
    return max(peak, outcome.peak), len(alive)


# --- what is checked --------------------------------------------------------------------------------------------------


def stages(out: Path) -> None:
    """Print what the ledgers say: text that a stage had before it, its CPU-seconds, the rate."""
    held: dict[str, int] = {}
    for step in state(str(out)):
        folder = out / step["folder"]
        manifest = Manifest.load(str(folder))
        assert manifest is not None
        ledgers = sorted(folder.rglob(LEDGER))
        cpu = sum(sum(filter(None, pq.read_table(path)["cpu_seconds"].to_pylist())) for path in ledgers)
        own = sum(manifest.total("bytes").values())
        seen = step["documents"] if isinstance(step["documents"], list) else [step["documents"]]
        size = sum(held[name] for name in seen if name in held) or own  # ingest has none before it: what it made
        if own and step["kind"] in ("ingest", "select", "concat", "rephrase"):
            held[step["name"]] = own
        print(
            f"  {step['name']:<12} {size / 1e6:8,.0f} MB {cpu:8.2f} CPU-s {size / 1e6 / max(cpu, 1e-3):9,.1f} MB "
            f"per CPU-second, {len(manifest.units)} units",
            flush=True,
        )


def compare(calm: Path, killed: Path) -> Iterator[str]:
    """Files that are not the same in both folders, byte for byte; ledgers and the lock are about the run itself."""
    mine, others = files(calm), files(killed)
    for name in sorted(mine.keys() | others.keys()):
        if name not in mine:
            yield f"{name} is only in the run that was killed"
        elif name not in others:
            yield f"{name} is only in the undisturbed run"
        elif digest(mine[name]) != digest(others[name]):
            yield f"{name} ({mine[name].stat().st_size} and {others[name].stat().st_size} bytes)"


def files(folder: Path) -> dict[str, Path]:
    """All files of a run but ledgers, the lock, and answers, of which those in a database are in no order."""
    every = (path for path in folder.rglob("*") if path.is_file() and path.name not in (LEDGER, ".lock"))
    every = (path for path in every if not path.name.startswith(ANSWERS))
    return {path.relative_to(folder).as_posix(): path for path in every}


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(holds: bool, complaint: str) -> None:
    if not holds:
        raise SystemExit(f"soak: {complaint}")


if __name__ == "__main__":
    sys.exit(main())
