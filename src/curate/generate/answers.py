"""The store of answers: one SQLite file, whatever was answered once is never asked again.

Write-ahead log, one transaction for each group of answers: what `put` has returned from survives the death of the
process. A machine that loses power may lose the last transactions, not the file (`synchronous=NORMAL`): they are asked
again. Several processes may read and write one file, and the first answer to a key stays; one at a time may `hold` it,
which is who asks for answers: two would ask, and pay, for the same ones.

The file also has what was spent, by the name of a budget, and what runs have on lease of it (see `budget`).

The catch: SQLite needs a file system whose locks work, so a local one, and a folder that lasts as long as its answers.
"""

import contextlib
import fcntl
import itertools
import os
import secrets
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

import pyarrow as pa

from curate import store
from curate.errors import BusyError, DataError, RecipeError, StoreError
from curate.generate.budget import Amount, Spending

_FORMAT = 1
_APPLICATION = 0x63757261
_GROUP = 1000
_WAIT = 60.0  # seconds for other processes that write

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB NOT NULL UNIQUE, text TEXT NOT NULL, finish_reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spent (
    budget TEXT NOT NULL, run TEXT NOT NULL, input INTEGER NOT NULL DEFAULT 0, output INTEGER NOT NULL DEFAULT 0,
    money INTEGER NOT NULL DEFAULT 0, leased_tokens INTEGER NOT NULL DEFAULT 0, leased_money INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, run)) WITHOUT ROWID;
"""

SCHEMA = pa.schema(
    [
        pa.field("text", pa.large_string()),
        pa.field("finish_reason", pa.string()),
        pa.field("prompt_tokens", pa.int64()),
        pa.field("completion_tokens", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("error", pa.string()),
    ]
)


class Answer(NamedTuple):
    """What a model said. `error`: "" or why the server refuses this very request for good; then the text is empty."""

    key: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    error: str


class Spent(NamedTuple):
    """Of one budget, over all runs: tokens and money (1e-12 units) that were spent, and what is on lease or was when
    a run died."""

    input: int
    output: int
    money: int
    leased: Amount

    @property
    def all(self) -> Amount:
        """What counts."""
        return Amount(self.input + self.output, self.money).plus(self.leased)


class Answers:
    """An open store. Its methods may be called from several threads, one at a time."""

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self._file: tuple[int, int] | None = None

    @staticmethod
    def open(path: str) -> "Answers":
        """The store in this file, new if there is none. DataError if the file is something else."""
        if not store.is_local(path):
            raise RecipeError(f"{path}: answers are kept in a local file, which SQLite can lock")
        path = store.absolute(path)
        if not store.exists(store.parent(path)):
            raise StoreError(f"cannot open {path}: there is no folder {store.parent(path)}")
        with _told(path):
            connection = sqlite3.connect(path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        answers = Answers(connection, path)
        try:
            answers._prepare()
            answers._file = _identity(path)
        except BaseException:
            connection.close()
            raise
        return answers

    def __enter__(self) -> "Answers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock, _told(self.path):
            self._connection.close()

    def __len__(self) -> int:
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def held(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that have an answer."""
        found: set[str] = set()
        with self._reading() as connection:
            for some in _groups(keys):
                marks = ",".join("?" * len(some))
                rows = connection.execute(f"SELECT key FROM answers WHERE key IN ({marks})", [*map(_raw, some)])
                found.update(key.hex() for (key,) in rows)
        return found

    def read(self, keys: Sequence[str]) -> pa.Table:
        """Columns of SCHEMA, a row for each of `keys` in their order: nulls where there is no answer."""
        names = ", ".join(SCHEMA.names)
        nothing = (None,) * len(SCHEMA.names)
        parts = []
        with self._reading() as connection:
            for some in _groups(keys):
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, {names} FROM answers WHERE key IN ({marks})", [*map(_raw, some)]
                )
                found = {row[0]: row[1:] for row in rows}
                columns = zip(*(found.get(_raw(key), nothing) for key in some), strict=True)
                arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
                parts.append(pa.table(arrays, SCHEMA))
        return pa.concat_tables(parts) if parts else SCHEMA.empty_table()

    def put(self, batch: Iterable[Answer]) -> None:
        """Keep these answers; they are safe from the death of this process when it returns."""
        with self._writing() as connection:
            _insert(connection, batch)

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of these answers, so that they are asked again."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM answers WHERE key = ?", [(_raw(key),) for key in keys])

    def forget_refused(self) -> int:
        """Let go of all answers that are refusals; gives how many there were."""
        with self._writing() as connection:
            return connection.execute("DELETE FROM answers WHERE error != ''").rowcount

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one who asks for answers to this store; BusyError if another is. A lock of the kernel on a file beside
        the store, so it ends with the process, however that ends. Not on the store itself: closing that a second time
        would drop SQLite's own locks."""
        path = os.path.realpath(self.path) + ".lock"
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(file, 400).decode(errors="replace").strip() or "another process"
                raise BusyError(
                    f"{self.path}: {holder} is asking for answers to this store, and two at a time would pay for the "
                    "same ones twice; run again when it has ended, to go on from what it got"
                ) from error
            except OSError as error:
                raise StoreError(f"cannot lock {path}: {error.strerror}") from error
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            os.close(file)

    def account(self, batch: Iterable[Answer], lease: "Lease", spending: Spending) -> Amount:
        """`put`, and in the same transaction what was spent; gives what the lease is now: what is wanted, or less if
        the budget has less. Leases of other runs count, so all runs together keep within it."""
        with self._writing() as connection:
            _insert(connection, batch)
            place = (lease.budget, lease.run)
            connection.execute("INSERT OR IGNORE INTO spent (budget, run) VALUES (?, ?)", place)
            connection.execute(
                "UPDATE spent SET input = input + ?, output = output + ?, money = money + ?,"
                " leased_tokens = 0, leased_money = 0 WHERE budget = ? AND run = ?",
                (spending.input, spending.output, spending.money, *place),
            )
            left = lease.most.minus(_spent(connection, lease.budget).all)
            granted = spending.wanted.least(Amount(max(0, left.tokens), max(0, left.money)))
            connection.execute(
                "UPDATE spent SET leased_tokens = ?, leased_money = ? WHERE budget = ? AND run = ?", (*granted, *place)
            )
        return granted

    def spent(self, budget: str) -> Spent:
        """What all runs spent of a budget."""
        with self._reading() as connection:
            return _spent(connection, budget)

    def _prepare(self) -> None:
        with self._lock, _told(self.path):
            run = self._connection.execute
            run("BEGIN")  # one look at all three: another process may be making the file
            kind, version = run("PRAGMA application_id").fetchone()[0], run("PRAGMA user_version").fetchone()[0]
            tables = run("SELECT count(*) FROM sqlite_master").fetchone()[0]
            run("COMMIT")
            if (tables or kind) and kind != _APPLICATION:
                raise DataError(f"{self.path} is a database of something else; name another file for the answers")
            if version > _FORMAT:
                raise DataError(f"{self.path} has format {version}, this version of curate reads up to {_FORMAT}")
            _patiently(run, "PRAGMA journal_mode=WAL")
            run("PRAGMA synchronous=NORMAL")
            if not tables or version < _FORMAT:
                marks = f"PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_FORMAT};"
                self._connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} {marks} COMMIT;")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _told(self.path):
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _told(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if _identity(self.path) != self._file:
                    raise StoreError(
                        f"{self.path} was removed or exchanged while it was in use, so what came last cannot be kept; "
                        "put it back, or run again to ask for all that is missing"
                    )
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


class Lease(NamedTuple):
    """Whose lease it is: the budget's name and limits, and a name for the run that no other has."""

    budget: str
    run: str
    most: Amount

    @staticmethod
    def new(budget: str, most: Amount) -> "Lease":
        return Lease(budget, secrets.token_hex(8), most)


def _patiently(run: Callable[[str], object], statement: str) -> None:
    """SQLite does not wait for locks here, as it does elsewhere: two processes that make one new file meet."""
    end = time.monotonic() + _WAIT
    while True:
        try:
            run(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _insert(connection: sqlite3.Connection, batch: Iterable[Answer]) -> None:
    rows = [(_raw(answer.key), *answer[1:]) for answer in batch]
    connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _spent(connection: sqlite3.Connection, budget: str) -> Spent:
    names = ("input", "output", "money", "leased_tokens", "leased_money")
    sums = ", ".join(f"coalesce(sum({name}), 0)" for name in names)
    row = connection.execute(f"SELECT {sums} FROM spent WHERE budget = ?", (budget,)).fetchone()
    prompt, made, money, tokens, leased = map(int, row)
    return Spent(prompt, made, money, Amount(tokens, leased))


def _identity(path: str) -> tuple[int, int] | None:
    """Which file this is; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _raw(key: str) -> bytes:
    return bytes.fromhex(key)


def _groups(keys: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(keys)
    while some := list(itertools.islice(iterator, _GROUP)):
        yield some


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:  # full disk, no permission, locked for a minute
        raise StoreError(f"cannot use {path}: {error}; answers that were kept before are kept") from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is no store of answers, or is damaged ({error}); name another file") from error
