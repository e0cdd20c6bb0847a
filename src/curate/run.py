"""Drive a recipe. The disk is the state: a unit with a receipt is done, a dataset with a manifest is whole.

Work goes in passes. A pass goes over the shards of one document dataset once and runs every `scan` and every `apply`
whose columns exist, so text is read once for all stages that want it. Then verdicts are judged, and so on until all
stages are whole. How stages were grouped, who did the work and in which order leaves no trace in the bytes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import pyarrow as pa

from curate import exchange, groups, joining, plan, raw, store, unit
from curate.errors import DataError, UnitsFailed
from curate.execute import Failed, attempt, serial
from curate.ledger import save as save_ledger
from curate.manifest import NAME as MANIFEST
from curate.manifest import Manifest, Receipt, Shard, canonical, fingerprint
from curate.plan import Source, Step
from curate.recipe import Recipe
from curate.stage import Evidence, Map
from curate.standing import intact, standing
from curate.view import Dataset, View

SEGMENTS = ((1 << 26, 16), (1 << 30, 256))
MOST_SEGMENTS = 4096
"""Segments of evidence for fewer than so many light records: few, as each costs time; enough to judge it by parts."""


@dataclass(frozen=True)
class Event:
    """Something to show of a stage. `what`: cached (it begins; of `units`, `cached` are done), unit, judge or note."""

    what: str
    stage: str
    units: int = 0
    cached: int = 0
    receipt: Receipt | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """A finished run: its steps with their manifests, in order, the raw documents first, and what rides along."""

    out: str
    source: Dataset
    steps: tuple[tuple[Step, Dataset], ...]
    worked: int
    carried: pa.Schema

    @property
    def rejected(self) -> int:
        """Raw records set aside."""
        return sum(receipt.rejected for receipt in self.source.manifest.units)


def run(
    recipe: Recipe,
    out: str,
    *,
    map: Map = serial,
    limit: int | None = None,
    report: Callable[[Event], None] = lambda event: None,
    compression: Literal["zstd", "none"] = "zstd",
    until: str | None = None,
) -> Result:
    """Bring a recipe's outputs up to date in `out` and return what there is; `until` a step, only what that needs.

    `compression: none` is for a folder that is deleted right after: text is written faster, and takes more room.

    Raises RecipeError before any work; DataError when more than the allowed share of raw records is unusable;
    UnitsFailed when units failed, after all others finished; BusyError when another process holds `out`.
    """
    with store.hold(out):
        store.clear_leftovers(out)
        source = plan.survey(recipe, out, map, limit=limit)
        steps = plan.resolve(recipe, out, source)
        if map is not serial:
            unit.warm_up(step.node.stage for step in steps)
        needed = plan.needed(steps, until)
        for step in (steps[i] for i in sorted(needed) if not store.exists(store.join(steps[i].folder, MANIFEST))):
            step.node.stage.prepared(out)
        plan.save_state(recipe, out, source, steps)
        driver = _Driver(out, source, steps, map, report, compression, needed)
        driver.ingest()
        while unfinished := driver.open_steps():
            driver.round(unfinished)
        finished = tuple((step, driver.whole[i]) for i, step in enumerate(steps) if i in driver.whole)
        return Result(out, driver.whole[-1], finished, driver.worked, source.schema)


@dataclass
class _Driver:
    """One run in progress. `whole` holds finished datasets by step (-1: the raw documents)."""

    out: str
    source: Source
    steps: tuple[Step, ...]
    map: Map
    report: Callable[[Event], None]
    compression: str
    needed: frozenset[int]
    whole: dict[int, Dataset] = field(default_factory=dict)
    applied: dict[int, list[Receipt]] = field(default_factory=dict)
    worked: int = 0

    # --- raw documents -------------------------------------------------------------------------------------------

    def ingest(self) -> None:
        """Make the raw documents, and stop here when too many records had to be set aside."""
        source = self.source
        manifest = intact(source.folder)
        if manifest is None:
            digits = max(5, len(str(len(source.units))))
            jobs = []
            for index, one in enumerate(source.units):
                read = partial(raw.read, one, source.ingest, source.schema, source.threshold)
                jobs.append(
                    unit.Raw(f"{index:0{digits}d}", source.folder, source.unit_key(one), read, self.compression)
                )
            receipts = self.units("ingest", "ingest", source.folder, jobs, unit.ingest_unit)
            manifest = self.finish(source.id, "ingest", source.folder, source.made_by, receipts)
        records = sum(receipt.rows_in for receipt in manifest.units)
        rejected = sum(receipt.rejected for receipt in manifest.units)
        allowed = source.ingest.max_rejects
        if rejected > allowed * records:
            reasons = ", ".join(f"{n} {reason}" for reason, n in manifest.total("rejects").items())
            raise DataError(
                f"{rejected} of {records} raw records cannot be used ({reasons}; the first is "
                f"{unit.first_reject(source.folder, manifest.units)}), more than the share {allowed} that "
                f"`max_rejects` allows; each is in {source.folder}/rejects with its place and reason"
            )
        self.whole[-1] = Dataset(source.folder, manifest)

    # --- rounds --------------------------------------------------------------------------------------------------

    def open_steps(self) -> list[int]:
        """Steps that are not whole yet, having taken in those that earlier runs finished."""
        for index, step in enumerate(self.steps):
            if index in self.whole or (
                step.node.stage.gathers == "neighbours" and not intact(self.place(index, "apply"))
            ):
                continue
            if (manifest := intact(step.folder)) is not None:
                self.whole[index] = Dataset(step.folder, manifest)
        return sorted(self.needed - self.whole.keys())

    def round(self, unfinished: list[int]) -> None:
        """One pass over each document dataset that has work ready, then whatever that makes possible."""
        passes: list[_Sweep] = []
        joined = [index for index in unfinished if self.steps[index].branches and self.ready(index)]
        for index in unfinished:
            phase = self.ready(index)
            if phase and index not in joined:
                held = self.held(index, phase)
                documents = self.steps[index].documents
                fitting = next((one for one in passes if one.documents == documents and one.fits(held)), None)
                if fitting is None:
                    passes.append(fitting := _Sweep(documents))
                fitting.held.update(held)
                fitting.work.append((index, phase))
        assert passes or joined, "every stage reads columns of stages before it, so one of them is ready"
        for index in joined:
            self.join(index)
        for one in passes:
            self.sweep(one)
            for index, phase in one.work:
                self.judge(index) if phase == "scan" else self.conclude(index)

    def ready(self, index: int) -> str:
        """`scan` or `apply` when the columns that it wants exist, else nothing."""
        step, stage = self.steps[index], self.steps[index].node.stage
        if step.branches:
            return "join" if all(self.seen_whole(*branch, step.gives) for branch in step.branches) else ""
        scanning = stage.scans and not store.exists(store.join(step.folder, "verdict", "done.json"))
        phase = "scan" if scanning else "apply"
        wanted = self.wanted(index, phase)
        if stage.gathers == "neighbours":
            wanted = (*wanted, *step.gives)
        return phase if self.seen_whole(step.documents, step.columns, wanted) else ""

    def seen_whole(self, documents: int, columns: tuple[int, ...], wanted: tuple[str, ...]) -> bool:
        """True if what gives the wanted columns of these documents is whole."""
        # Where a column is measured again, or rewritten, the last to give it is the one that is meant.
        givers = {name: i for i in columns for name in self.steps[i].gives}
        return documents in self.whole and all(givers[name] in self.whole for name in wanted if name in givers)

    def wanted(self, index: int, phase: str) -> tuple[str, ...]:
        """Columns that a step looks at in a phase."""
        stage = self.steps[index].node.stage
        return stage.reads if phase == "scan" else stage.applies_to

    def held(self, index: int, phase: str) -> dict[str, str]:
        """Folder of each column that a step wants in a phase."""
        holders = self.view(index).holders(self.wanted(index, phase))
        return {name: dataset.folder for dataset, names in holders for name in names}

    def view(self, index: int) -> View:
        """What a step sees of what is finished."""
        return self.finished_view(self.steps[index].documents, self.steps[index].columns)

    def finished_view(self, documents: int, columns: tuple[int, ...]) -> View:
        """What is finished of these documents and columns."""
        return View(self.whole[documents], tuple(self.whole[i] for i in columns if i in self.whole))

    def sweep(self, one: "_Sweep") -> None:
        """One pass over the shards of a document dataset."""
        work = one.work
        base = self.whole[one.documents].manifest
        todo: dict[int, list[unit.Task]] = {}
        have: dict[int, dict[str, Receipt]] = {}
        for index, phase in work:
            tasks = self.tasks(index, phase, base)
            have[index], missing = self.done(tasks)
            for shard in missing:
                todo.setdefault(shard, []).append(tasks[shard])
            cached = len(tasks) - len(missing)
            self.report(Event("cached", self.label(index, phase), len(tasks), cached))
        jobs = [self.job(shard, tasks, base, one.held) for shard, tasks in sorted(todo.items())]
        folders = {self.place(index, phase): index for index, phase in work}
        for receipts, job in self.carry_out(unit.run_pass, jobs, self.label(work[0][0], work[0][1])):
            for receipt, task in zip(receipts, job.tasks, strict=True):
                have[folders[task.folder]][receipt.unit] = receipt
                self.report(Event("unit", self.label(folders[task.folder], task.phase), receipt=receipt))
        for index, phase in work:
            receipts = [have[index][name] for name in sorted(have[index], key=int)]
            if phase == "scan":
                self.finish(self.steps[index].id, self.steps[index].node.name, self.place(index, phase), {}, receipts)
            else:
                self.applied[index] = receipts

    def tasks(self, index: int, phase: str, base: Manifest) -> list[unit.Task]:
        """What a step wants of every shard, with the key of each."""
        step, stage, view = self.steps[index], self.steps[index].node.stage, self.view(index)
        columns = stage.reads if phase == "scan" else stage.applies_to
        segments, verdict, lines, whole = 1, "", None, ""
        if phase == "scan":
            heavy = base.rows * stage.records * stage.heft
            segments = next((count for rows, count in SEGMENTS if heavy < rows), MOST_SEGMENTS)
        elif stage.scans:
            verdict = store.join(step.folder, "verdict")
            lines = exchange.digests(unit.verdict_files(verdict), len(base.shards))
            whole = unit.whole_digest(verdict)
            if stage.gathers == "parts":
                segments = stage.parts(unit.load_verdict(verdict, None))
        identity = {
            "stage": stage.identity(),
            "prefix": step.node.prefix,
            "assets": step.made_by.get("assets"),
            "phase": phase,
        }
        tasks = []
        for shard in range(len(base.shards)):
            key = fingerprint(
                {
                    "identity": identity,
                    "rows": base.shards[shard].rows,
                    "columns": view.digests(shard, columns),
                    "lines": lines[shard] if lines else None,
                    "whole": whole,
                    "segments": segments,
                }
            )
            tasks.append(
                unit.Task(phase, stage, columns, self.place(index, phase), key, step.node.prefix, segments, verdict)
            )
        return tasks

    def job(self, shard: int, tasks: list[unit.Task], base: Manifest, held: dict[str, str]) -> unit.Pass:
        wanted = dict.fromkeys(name for task in tasks for name in task.columns)
        folders = {dataset.folder: dataset.manifest for dataset in self.whole.values()}
        files = tuple(
            (store.join(folder, folders[folder].shards[shard].name), tuple(n for n in wanted if held[n] == folder))
            for folder in dict.fromkeys(held[name] for name in wanted)
        )
        return unit.Pass(f"{shard:05d}", shard, base.shards[shard].rows, files, tuple(tasks))

    def done(self, tasks: list[unit.Task]) -> tuple[dict[str, Receipt], list[int]]:
        """Receipts of units that are done (here or, by an equal key, in an earlier folder) and the shards to do."""
        folder = tasks[0].folder if tasks else ""
        wanted = [(f"{shard:05d}", task.key) for shard, task in enumerate(tasks)]
        found = self.finished(folder, wanted)
        return found, [shard for shard, (name, _) in enumerate(wanted) if name not in found]

    def finished(self, folder: str, wanted: list[tuple[str, str]]) -> dict[str, Receipt]:
        """Receipts of the wanted (unit, key) that are done: here, or under another name in an earlier folder."""
        here, earlier = standing(folder), None
        found: dict[str, Receipt] = {}
        for name, key in wanted:
            if name in here and here[name].key == key:
                found[name] = here[name]
                continue
            earlier = self.earlier(folder) if earlier is None else earlier
            if key in earlier:
                found[name] = unit.adopt(folder, key, name, earlier[key])
        return found

    def earlier(self, folder: str) -> dict[str, tuple[str, Receipt]]:
        """Units of other folders of the same stage by key."""
        inner = folder[len(store.join(self.out, "")) :]
        top, _, rest = inner.partition("/")
        name = top.rsplit("-", 1)[0]
        found: dict[str, tuple[str, Receipt]] = {}
        for other in sorted(store.listing(self.out)):
            if other.rsplit("-", 1)[0] == name and other != top:
                place = store.join(self.out, other, rest) if rest else store.join(self.out, other)
                found |= {receipt.key: (place, receipt) for receipt in standing(place).values()}
        return found

    # --- verdicts and endings ------------------------------------------------------------------------------------

    def judge(self, index: int) -> None:
        """Turn the evidence of all shards into a verdict; parts are judged side by side and resume."""
        step = self.steps[index]
        place, verdict = self.place(index, "scan"), store.join(step.folder, "verdict")
        said = Manifest.load(place)
        assert said is not None
        self.report(Event("judge", step.node.name))
        segments = exchange.index(store.join(place, said.shards[0].name)).rows.size if said.shards else 1
        files = tuple(store.join(place, shard.name) for shard in said.shards)
        tell = partial(_note, self.report, step.node.name)
        evidence = Evidence(files, segments, said.rows, verdict, step.node.stage.heft, tell)
        whole = step.node.stage.judge(evidence, self.safe_map(step.node.name))
        if whole is not None:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, whole.schema) as writer:
                writer.write_table(whole.combine_chunks())
            store.put(store.join(verdict, "whole.arrow"), memoryview(sink.getvalue()))
        names = sorted(name for name in store.listing(verdict) if name.endswith((".cut", ".arrow")))
        digests = {name: unit.sha256(store.read(store.join(verdict, name))) for name in names}
        store.put(store.join(verdict, "done.json"), canonical({"files": digests}))

    def conclude(self, index: int) -> None:
        """After `apply`: the dataset is whole, or its rows are gathered first."""
        step, stage = self.steps[index], self.steps[index].node.stage
        receipts = self.applied.pop(index)
        if stage.gathers == "neighbours":
            self.finish(step.id, step.node.name, self.place(index, "apply"), step.made_by, receipts)
            receipts = self.gather_neighbours(index, receipts)
        elif stage.gathers == "parts":
            self.gather_parts(index, receipts)
            return
        said = unit.load_verdict(store.join(step.folder, "verdict"), None)
        manifest = self.finish(step.id, step.node.name, step.folder, step.made_by, receipts, stage.finish([], [], said))
        self.whole[index] = Dataset(step.folder, manifest)

    def gather_neighbours(self, index: int, marks: list[Receipt]) -> list[Receipt]:
        """Write the kept rows of neighbouring shards together; groups follow from content, so they stay put."""
        step, view = self.steps[index], self.view(index)
        base = view.documents.manifest
        keys = [shard.sha256 for shard in base.shards]
        sizes = [mark.counts["kept"]["bytes"] for mark in marks]
        rule = Dataset(self.place(index, "apply"), Manifest.load(self.place(index, "apply")))  # type: ignore[arg-type]
        together = View(view.documents, (*view.columns, rule))
        jobs = []
        for number, shards in enumerate(groups.neighbours(keys, sizes, most=self.source.ingest.shard_bytes)):
            # Which rows are kept counts, not why: a rule that changes no survivor of a shard moves no text.
            key = fingerprint(
                {
                    "kind": step.node.stage.kind,
                    "version": step.node.stage.version,
                    "columns": [view.digests(s, step.gives) for s in shards],
                    "order": step.gives,
                    "kept": [marks[s].counts["kept"]["digest"] for s in shards],
                }
            )
            wanted = (*step.gives, "rule")
            files = tuple((base.shards[s].rows, together.files(s, wanted)) for s in shards)
            jobs.append(unit.Neighbours(f"{number:05d}", step.folder, key, "rule", step.gives, files))
        receipts = self.units(step.node.name, "gather", step.folder, jobs, unit.gather_neighbours)
        unit.conserved(step.node.name, base.rows, marks, receipts)
        return receipts

    def join(self, index: int) -> None:
        """Write the documents of all branches, shard by shard."""
        step = self.steps[index]
        jobs = joining.jobs(step, [self.finished_view(*branch) for branch in step.branches])
        made = self.units(step.node.name, "join", step.folder, jobs, unit.join)
        self.whole[index] = Dataset(step.folder, self.finish(step.id, step.node.name, step.folder, step.made_by, made))

    def gather_parts(self, index: int, sent: list[Receipt]) -> None:
        """Shuffle: every part takes its rows from what all shards sent."""
        step, stage = self.steps[index], self.steps[index].node.stage
        place, verdict = self.place(index, "apply"), store.join(step.folder, "verdict")
        files = tuple(store.join(place, shard.name) for receipt in sent for shard in receipt.shards)
        said = unit.load_verdict(verdict, None)
        digests = exchange.digests(files, stage.parts(said))
        jobs = []
        for part in range(stage.parts(said)):
            key = fingerprint({"stage": stage.identity(), "rows": digests[part], "whole": unit.whole_digest(verdict)})
            jobs.append(unit.Part(f"{part:05d}", step.folder, key, part, stage, files, verdict))
        receipts = self.units(step.node.name, "gather", step.folder, jobs, unit.gather_part)
        shards = [
            {"name": s.name, "rows": s.rows, "bytes": s.bytes, "sha256": s.sha256} for r in receipts for s in r.shards
        ]
        ending = stage.finish([r.counts for r in receipts], shards, said)
        manifest = self.finish(step.id, step.node.name, step.folder, step.made_by, receipts, ending)
        store.remove(place)
        self.whole[index] = Dataset(step.folder, manifest)

    # --- helpers -------------------------------------------------------------------------------------------------

    def place(self, index: int, phase: str) -> str:
        """Where a step's results of a phase go."""
        step = self.steps[index]
        if phase == "scan":
            return store.join(step.folder, "evidence")
        inner = {"neighbours": "rule", "parts": "sent"}.get(step.node.stage.gathers, "")
        return store.join(step.folder, inner) if inner else step.folder

    def label(self, index: int, phase: str) -> str:
        """A step's name as shown while a phase of it runs."""
        name = self.steps[index].node.name
        return f"{name} (scan)" if phase == "scan" else name

    def units(
        self, stage: str, phase: str, folder: str, jobs: list[Any], work: Callable[[Any], list[Receipt]]
    ) -> list[Receipt]:
        """Bring the units of one folder up to date."""
        label = stage if phase == "ingest" else f"{stage} ({phase})"
        found = self.finished(folder, [(job.unit, job.key) for job in jobs])
        missing = [job for job in jobs if job.unit not in found]
        self.report(Event("cached", label, len(jobs), len(found)))
        for receipts, job in self.carry_out(work, missing, label):
            found[job.unit] = receipts[0]
            self.report(Event("unit", label, receipt=receipts[0]))
        return [found[job.unit] for job in jobs]

    def carry_out(self, work: Callable[[Any], Any], jobs: list[Any], label: str) -> Iterable[tuple[Any, Any]]:
        """Results with their jobs, in order; failures are raised when all have been tried."""
        failures = []
        for job, result in zip(jobs, self.map(partial(attempt, work=work), jobs), strict=True):
            if isinstance(result, Failed):
                failures.append((job.unit, result.message, result.exit_code))
            else:
                self.worked += 1
                yield result, job
        if failures:
            raise UnitsFailed(label, failures, len(jobs))

    def safe_map(self, label: str) -> Map:
        """The map for judging: parts finish side by side, then failures are raised."""

        def mapped(work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterable[Any]:
            jobs = [_Part(f"part {part}", part) for part in parts]
            for result, _ in self.carry_out(partial(_on_part, work=work), jobs, f"{label} (judge)"):
                yield result

        return mapped

    def finish(
        self,
        key: str,
        name: str,
        folder: str,
        made_by: dict[str, Any],
        receipts: list[Receipt],
        ending: dict[str, bytes] | None = None,
    ) -> Manifest:
        """Fold receipts into ledger and manifest, and let the receipts go."""
        files = []
        for file, data in (ending or {}).items():
            store.put(store.join(folder, file), data)
            files.append(Shard(file, 0, len(data), unit.sha256(data)))
        columns = unit.columns_of(folder, receipts)
        manifest = Manifest(key, name, made_by, columns, tuple(receipts), tuple(files))
        save_ledger(folder, receipts)
        manifest.save(folder)
        store.remove(store.join(folder, "units"))
        return manifest


@dataclass
class _Sweep:
    """Work that one pass over the shards of `documents` does: (step, phase), and the folder of each column wanted."""

    documents: int
    work: list[tuple[int, str]] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)

    def fits(self, held: dict[str, str]) -> bool:
        """True if no column is wanted from two places."""
        return all(self.held.get(name, folder) == folder for name, folder in held.items())


def _note(report: Callable[[Event], None], stage: str, note: str) -> None:
    report(Event("note", stage, note=note))


@dataclass(frozen=True)
class _Part:
    unit: str
    part: int


def _on_part(job: _Part, work: Callable[[int], Any]) -> Any:
    return work(job.part)
