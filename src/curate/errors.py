"""The error tree, and the exit code that each branch ends a command with.

CurateError            1   something failed; nothing that was finished is lost
├── RecipeError        2   the recipe or the command line is wrong: yours to mend
├── DataError          4   a raw file or a shard broke its contract: file, row, column
├── AssetError         5   a tokenizer or a model is missing or unusable
├── StoreError         1   reading or writing a location failed (full disk, no permission)
├── BusyError          1   another run holds the folder
├── Unanswered         1   requests to a language model are open; the answers that came are kept
└── UnitsFailed        1   units of work failed; the others finished and are kept

A message says what was found, where, and what would be right. A run that finished but
set rows aside ends with code 3, which is no error.
"""

DONE_WITH_REJECTS = 3


class CurateError(Exception):
    """Base of everything `curate` raises on purpose."""

    exit_code = 1


class RecipeError(CurateError):
    """The recipe or the call is wrong; nothing has been done."""

    exit_code = 2


class DataError(CurateError):
    """Data broke its contract; the message names file, row and column."""

    exit_code = 4


class AssetError(CurateError):
    """A tokenizer or model file is missing, unreadable or not what it claims to be."""

    exit_code = 5


class StoreError(CurateError):
    """A location could not be read or written."""


class BusyError(CurateError):
    """Another process is working in the same run folder."""


class Unanswered(CurateError):
    """Requests to a server of a language model are without an answer; the answers that came are kept. Where they were
    written to files for a batch service, `written` says which and how much (`files`, and counts)."""

    def __init__(self, message: str, written: "dict[str, object] | None" = None):
        super().__init__(message)
        self.written = written or {}


class UnitsFailed(CurateError):
    """Some units failed. `causes` holds (unit, message, exit code); the finished units are kept."""

    def __init__(self, stage: str, causes: list[tuple[str, str, int]], total: int):
        codes = {code for _, _, code in causes}
        self.stage, self.causes, self.total = stage, causes, total
        self.exit_code = codes.pop() if len(codes) == 1 else 1
        units: dict[str, list[str]] = {}
        for unit, message, _ in causes:
            units.setdefault(message, []).append(unit)
        shown = "\n".join(f"  {_several(names)}: {message}" for message, names in list(units.items())[:10])
        more = f"\n  and {len(units) - 10} other causes" if len(units) > 10 else ""
        rest = "; the others are done and kept: mend the cause and run again" if total > len(causes) else ""
        super().__init__(f"{stage}: {len(causes)} of {total} units failed{rest}\n{shown}{more}")

    def __reduce__(self) -> tuple[object, ...]:
        return UnitsFailed, (self.stage, self.causes, self.total)


def _several(units: list[str]) -> str:
    return units[0] if len(units) == 1 else f"{units[0]} and {len(units) - 1} more"


def nearest(word: str, known: "list[str] | tuple[str, ...]") -> str:
    """`; did you mean 'x'?` for the known word closest to `word`, or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
