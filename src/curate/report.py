"""What a person sees: a live line per stage on a terminal, plain lines elsewhere, a table at the end."""

import math
import re
import sys
import textwrap
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from curate.run import Event

_LINEAGE = (
    *("style", "style_version", "generator", "passages", "start", "end", "candidate", "scores"),
    *("length_ratio", "novel_share", "similarity"),
)
_CASES = re.compile(r"CASE language (?:WHEN '[^']*' THEN \S+ )+END")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


class Report:
    """Takes the events of a run and shows them on standard error, so that standard output stays data."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, markup=False)
        self.live = self.console.is_terminal
        self.progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:>10} {task.fields[rows]:>14}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.bytes: dict[str, int] = {}
        self.rows: dict[str, list[int]] = {}

    def __enter__(self) -> "Report":
        if self.live:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.progress.stop()

    def __call__(self, event: Event) -> None:
        if event.what == "cached":
            self._start(event)
        elif event.what == "unit":
            self._unit(event)
        elif event.what == "judge" and not self.live:
            print(f"{event.stage}: judging", file=sys.stderr)
        elif event.what == "note":
            self.console.print(f"{event.stage}: {event.note}", soft_wrap=True)

    def _start(self, event: Event) -> None:
        self.started[event.stage] = time.monotonic()
        self.bytes[event.stage] = 0
        self.rows[event.stage] = [0, 0, event.cached, event.units]
        if self.live:
            task = self.progress.add_task(event.stage, total=event.units, completed=event.cached, speed="", rows="")
            self.tasks[event.stage] = task
        elif event.cached < event.units:
            known = f", {event.cached} done before" if event.cached else ""
            print(f"{event.stage}: {event.units} units{known}", file=sys.stderr)

    def _unit(self, event: Event) -> None:
        receipt = event.receipt
        assert receipt is not None
        rows = self.rows[event.stage]
        rows[0] += receipt.rows_in
        rows[1] += receipt.rows_out
        rows[2] += 1
        self.bytes[event.stage] += receipt.how.get("bytes_in") or 0
        seconds = max(1e-3, time.monotonic() - self.started[event.stage])
        speed = f"{self.bytes[event.stage] / 1e6 / seconds:.0f} MB/s"
        if self.live:
            self.progress.update(self.tasks[event.stage], advance=1, speed=speed, rows=f"{rows[1]:,} rows")
        elif rows[2] == rows[3]:
            print(
                f"{event.stage}: {rows[0]:,} rows in, {rows[1]:,} out, {speed}, {seconds:.1f} s",
                file=sys.stderr,
            )


def table(outputs: dict[str, Any]) -> None:
    """The final tables of a run on standard output."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    stages = Table("stage", "rows in", "rows out", "dropped by rule, or marked", "MB on disk", box=None, pad_edge=False)
    for stage in outputs["stages"]:
        if stage["state"] != "done":
            stages.add_row(stage["name"], "", "", stage["state"], "")
            continue
        said = {**stage.get("dropped", {}), **stage.get("marked", {})}
        if stage["kind"] == "ingest" and stage.get("rejected"):
            said = {"rejected": stage["rejected"], **said}
        stages.add_row(
            stage["name"],
            f"{stage['rows_in']:,}",
            f"{stage['rows']:,}",
            _rephrased(stage) if stage["kind"] == "rephrase" else _counted(said),
            f"{stage['bytes_on_disk'] / 1e6:.1f}",
        )
    console.print(stages)
    _sources(console, outputs)


def _counted(said: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(said.items(), key=lambda item: -item[1]))


def _rephrased(stage: dict[str, Any]) -> str:
    """What became of the answers."""
    outputs = stage["outputs"]
    words = _counted({name: outputs[name] for name in ("accepted", "surpassed") if outputs.get(name)})
    if stage["rejected"]:
        words += ("; " if words else "") + f"rejected {stage['rejected']:,}: {_counted(stage['rejects'])}"
    if stage.get("left_out"):
        words += f"; left out before: {_counted(stage['left_out'])}"
    if likeness := stage.get("likeness"):
        words += f"; similarity {likeness['true']:.2f}, {likeness['shuffled']:.2f} when shuffled"
    return words


def _sources(console: Console, outputs: dict[str, Any]) -> None:
    documents = [
        stage
        for stage in outputs["stages"]
        if stage["kind"] in ("ingest", "select", "concat", "rephrase") and stage["state"] == "done"
    ]
    if not documents:
        return
    packed = {stage["documents"] for stage in outputs["stages"] if stage["kind"] == "pack"}
    first, last = documents[0], next((stage for stage in documents if stage["name"] in packed), documents[-1])
    given = last.get("sources_by")  # then the rows of what was read are no rows of what is kept
    # What was made of documents was not kept, and may be more than came in.
    word = "out" if any(stage["kind"] == "rephrase" for stage in documents) else "kept"
    heads = ("source", *(() if given else ("MB in",)), f"MB {word}", f"documents {word}", "tokens", "share", "epochs")
    table = Table(*heads, box=None, pad_edge=False)
    train: dict[str, Any] = {}
    for tokens in outputs["tokens"]:
        train = tokens["splits"].get("train", {}).get("sources", {})
    before, kept = first.get("bytes", {}), last.get("bytes", {})
    for source in sorted(kept if given else {**before, **kept}):
        drawn = train.get(source, {})
        table.add_row(
            source,
            *(() if given else (f"{before.get(source, 0) / 1e6:.2f}",)),
            f"{kept.get(source, 0) / 1e6:.2f}",
            f"{last['documents'].get(source, 0):,}",
            f"{drawn['tokens']:,}" if drawn else "",
            f"{drawn['share']:.3f}" if drawn else "",
            f"{drawn['epochs']:.2f}" if drawn else "",
        )
    console.print()
    console.print(table)
    if given:
        read = ", ".join(f"{source} {size / 1e6:.2f} MB" for source, size in sorted(before.items()))
        console.print(f"sources as `{given}` names them; what was read: {read}", soft_wrap=True)
    for tokens in outputs["tokens"]:
        console.print(f"\ntoken shards: {tokens['manifest']}", soft_wrap=True)
        for split, entry in tokens["splits"].items():
            for source, numbers in entry["sources"].items():
                for prefix in numbers["prefixes"]:
                    console.print(f"  {split}/{source}: {prefix}", soft_wrap=True)


def story(told: dict[str, Any]) -> None:
    """A document's story on standard output."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    width = console.width if sys.stdout.isatty() else 120
    for reject in told["rejected"]:
        where = reject.get("stage", "ingest")
        console.print(f"{reject['origin']}\n  set aside at {where}: {reject['reason']}\n  {reject['raw']!r}")
    for copy in told["copies"]:
        for line in _copy(copy, width):
            console.print(line)


def _copy(copy: dict[str, Any], width: int) -> list[str]:
    """A document's story as lines; that of what was made of it stands further in."""
    lines = [
        f"{copy['origin']}  id {copy['id']}  source {copy['source']}  {copy['bytes']:,} bytes",
        f"  {copy['text']!r}",
    ]
    if parent := copy.get("parent"):
        words = ", ".join(f"{name}={_value(copy[name])}" for name in _LINEAGE)
        lines += _wrapped("  made of ", f"{parent['origin']} by {copy['made_by']}: {words}", width)
    for stage in copy["stages"]:
        head = f"  {stage['stage']:<14} "
        if "columns" in stage:
            said = ", ".join(f"{name}={_value(value)}" for name, value in stage["columns"].items())
            lines += _wrapped(head, said, width)
        elif "outputs" in stage:
            lines.append(head + _made(stage))
            lines += ["    " + line for output in stage["outputs"] for line in _copy(output, width - 4)]
            for one in stage["rejected"]:
                lines += [f"    {one['origin']}  REJECTED: {one['reason']}", f"      {one['raw']!r}"]
        else:
            lines.append(head + _told(stage))
        lines += [" " * len(head) + line for line in (_removed(stage["removed"]) if "removed" in stage else ())]
    return [*lines, f"  => {copy['outcome']}"]


def _made(stage: dict[str, Any]) -> str:
    outputs, rejected = len(stage["outputs"]), len(stage["rejected"])
    if not outputs and not rejected:
        return "made nothing of it: no style takes it, or it has no passage"
    return f"{outputs} row{'' if outputs == 1 else 's'} made, {rejected} answer{'' if rejected == 1 else 's'} rejected"


def _wrapped(head: str, words: str, width: int) -> list[str]:
    return textwrap.wrap(
        words,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head]


def _told(stage: dict[str, Any]) -> str:
    if "rule" in stage:
        return "kept" if stage["rule"] is None else f"DROPPED: {_failed(stage)}"
    places = [
        f"{w['prefix']} window {w['window']} at {w['start']} ({w['length']} tokens, epoch {w['epoch']})"
        for w in stage["windows"]
    ]
    return "; ".join(places[:8]) + (f"; {len(places) - 8} more" if len(places) > 8 else "") or "in no window"


def _failed(stage: dict[str, Any]) -> str:
    """A rule, its condition (of one by language, the case of this document) and the values that it was told."""
    values = stage["values"]

    def case(found: re.Match[str]) -> str:
        own = re.search(rf"WHEN '{re.escape(str(values.get('language')))}' THEN (\S+)", found[0])
        return own[1] if own else "null"

    condition = _CASES.sub(case, stage["condition"])
    numbers = {float(number) for number in _NUMBER.findall(condition)}
    here = ", ".join(f"{name}={_apart(value, numbers)}" for name, value in values.items())
    return f"{stage['rule']}: {condition}, here {here}"


def _apart(value: Any, numbers: set[float]) -> str:
    """A value in so many digits that it does not look like a number that it is not."""
    if not isinstance(value, float) or not math.isfinite(value):
        return _value(value)
    shown = [f"{value:.{digits}g}" for digits in (4, 7, 17)]
    return next((one for one in shown if float(one) == value or float(one) not in numbers), shown[-1])


def _removed(removed: dict[str, Any]) -> list[str]:
    count = removed["spans"]
    if not count:
        return ["removed: nothing"]
    reasons = ", ".join(f"{reason} {spans:,}" for reason, spans in removed["reasons"].items())
    first = f"removed: {count:,} span{'' if count == 1 else 's'}, {removed['bytes']:,} bytes: {reasons}"
    return [first, *(f"  {one['reason']}: {one['text']!r}" for one in removed["excerpts"])]


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value) if str(value).isprintable() else repr(value)


def alternative(told: dict[str, Any]) -> None:
    """What other rules would keep, by source, on standard output."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 140)
    changed = [f"{name}={expression}" for name, expression in told["change"].items()]
    own = "its rules with " if changed else ""
    tried = own + " and ".join([*changed, *([told["where"]] if told["where"] else []), *told["rules"]])
    console.print(f"{told['stage']}: kept by `{tried}`, now, and of all", soft_wrap=True)
    sized = [name for name in ("bytes", "tokens") if name in told["total"]["all"]]
    shown = Table(
        "source", *_heads("documents"), "+", "-", *(h for name in sized for h in _heads(name)), box=None, pad_edge=False
    )
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in [*told["sources"], {"source": "all sources", **told["total"]}]:
        cells = [f"{row[which]['documents']:,}" for which in ("kept", "now", "all", "gained", "lost")]
        cells += [_size(row[which][name], name) for name in sized for which in ("kept", "now", "all")]
        shown.add_row(row["source"], *cells)
    console.print(shown)
    if told["dropped"]:
        words = ", ".join(f"{name} {count:,}" for name, count in told["dropped"].items())
        console.print(f"would drop: {words}", soft_wrap=True)


def curve(told: dict[str, Any]) -> None:
    """What each threshold would keep, on standard output."""
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 120)
    among = f" among `{told['where']}`" if told["where"] else ""
    unknown = f"; {told['unknown']:,} more have no value" if told["unknown"] else ""
    rows = told["among"]["documents"]
    console.print(f"{told['stage']}: of {rows:,} documents{among}{unknown}", soft_wrap=True)
    sized = [name for name in ("bytes", "tokens") if name in told["among"]]
    head = f"{told['of']} {told['keeps']}"
    shown = Table(head, "documents", "share", *(_unit(name) for name in sized), box=None, pad_edge=False)
    for column in shown.columns:
        column.justify = "right"
    for point in told["curve"]:
        sizes = [_size(point[name], name) for name in sized]
        shown.add_row(_threshold(point["threshold"]), f"{point['documents']:,}", f"{point['share']:.3f}", *sizes)
    console.print(shown)


def _threshold(value: float) -> str:
    """Four digits; a whole number in full."""
    whole = isinstance(value, int) or abs(value) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def border(told: dict[str, Any]) -> None:
    """Documents on both sides of a rule, on standard output."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    by = f"nearest by {told['by']} first" if told["by"] else "in the order of their ids"
    console.print(f"{told['stage']}: {told['rule']} keeps `{told['expression']}`; {by}")
    counts = told["documents"]
    held = (counts["kept"], "that were kept") if counts["kept"] else (counts["held"], "for which it held")
    for side, (count, words) in (("dropped", (counts["dropped"], "that it dropped")), ("held", held)):
        console.print(f"\n{len(told[side])} of {count:,} documents {words}")
        for row in told[side]:
            values = ", ".join(f"{name}={_value(value)}" for name, value in row["columns"].items())
            other = f"  (dropped by {row['dropped_by']})" if side == "held" and row["dropped_by"] else ""
            console.print(f"  {row['origin']}  source {row['source']}  {values}{other}")
            console.print(f"    {row['text']!r}")


def _heads(name: str) -> tuple[str, str, str]:
    return f"{_unit(name)} kept", "now", "all"


def _unit(name: str) -> str:
    return "MB" if name == "bytes" else name


def _size(count: int, name: str) -> str:
    return f"{count / 1e6:,.2f}" if name == "bytes" else f"{count:,}"
