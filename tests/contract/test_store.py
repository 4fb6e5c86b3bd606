"""Objects and refs: one contract for both stores, and for SQLite what happens when processes die and disks fill."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from wye.errors import Unavailable, Unsupported
from wye.host import DiskFull, Host, OperationFailed
from wye.model import ObjectId
from wye.store import sqlite
from wye.store.memory import MemoryStore
from wye.store.refs import RefConflict
from wye.store.sqlite import SqliteStore, StoreDamaged
from wye.testing.contracts.objects import ObjectsContract
from wye.testing.contracts.refs import RefsContract
from wye.testing.faulty_host import FaultyHost

PROCESS = Path(__file__).with_name("store_process.py")
REF = "environments/production"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextlib.contextmanager
def opened(path: Path, host: Host | None = None) -> Iterator[SqliteStore]:
    with contextlib.closing(SqliteStore(host or Host(), path)) as store:
        yield store


class TestMemoryObjects(ObjectsContract):
    @pytest.fixture
    def objects(self) -> MemoryStore:
        return MemoryStore()


class TestMemoryRefs(RefsContract):
    @pytest.fixture
    def refs(self) -> MemoryStore:
        return MemoryStore()


class TestSqliteObjects(ObjectsContract):
    @pytest.fixture
    def objects(self, path: Path) -> Iterator[SqliteStore]:
        with opened(path) as store:
            yield store


class TestSqliteRefs(RefsContract):
    @pytest.fixture
    def refs(self, path: Path) -> Iterator[SqliteStore]:
        with opened(path) as store:
            yield store


# ---------------------------------------------------------------- refs against a dictionary

NAMES = st.sampled_from(["environments/a", "environments/b", "intents/abcdefghijkl", "requests/K/1"])
IDS = st.none() | st.sampled_from([ObjectId(digit * 64) for digit in "ab"])


class RefsMachine(RuleBasedStateMachine):
    """Memory and SQLite, the latter closed and opened at any time, against a dictionary."""

    @initialize()
    def start(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wye-refs-"))
        self.stores: list[MemoryStore | SqliteStore] = [
            MemoryStore(),
            SqliteStore(Host(), self.directory / "store.db"),
        ]
        self.model: dict[str, ObjectId] = {}

    @rule(ref=NAMES, expected=IDS, new=IDS, durable=st.booleans())
    def swap(self, ref: str, expected: ObjectId | None, new: ObjectId | None, durable: bool) -> None:
        if self.model.get(ref) != expected:
            for store in self.stores:
                with pytest.raises(RefConflict):
                    store.compare_and_swap(ref, expected=expected, new=new, durable=durable)
            return
        for store in self.stores:
            store.compare_and_swap(ref, expected=expected, new=new, durable=durable)
        if new is None:
            self.model.pop(ref, None)
        else:
            self.model[ref] = new

    @rule()
    def reopen(self) -> None:
        old = self.stores.pop()
        assert isinstance(old, SqliteStore)
        old.close()
        self.stores.append(SqliteStore(Host(), self.directory / "store.db"))

    @invariant()
    def all_agree(self) -> None:
        for store in getattr(self, "stores", ()):
            assert store.list("") == self.model
            assert store.list("environments/") == {r: i for r, i in self.model.items() if r.startswith("environments/")}

    def teardown(self) -> None:
        if hasattr(self, "stores"):
            last = self.stores[-1]
            assert isinstance(last, SqliteStore)
            last.close()
            shutil.rmtree(self.directory)


TestRefsMachine = RefsMachine.TestCase
TestRefsMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


# ---------------------------------------------------------------- several processes


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, PROCESS, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_one_of_four_processes_wins_every_round(path: Path) -> None:
    rounds = 60
    with contextlib.ExitStack() as stack:
        racers = [stack.enter_context(ended(start("race", path, str(me), str(rounds)))) for me in range(4)]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        won = [int(line) for racer in racers for line in racer.communicate("go\n", timeout=60)[0].split()]
        assert [racer.returncode for racer in racers] == [0] * 4
    assert sorted(won) == list(range(rounds))
    with opened(path) as store:
        assert len(store.list("environments/")) == rounds


def test_a_second_process_reads_what_the_first_has_written(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        data = first.put(b"x")
        first.compare_and_swap(REF, expected=None, new=data, durable=False)
        assert second.read(REF) == data
        assert second.get(data) == b"x"


def holds_at_least(path: Path, name: str, acknowledged: int) -> int:
    """Checks what a writer that printed `acknowledged` left; the number that is there."""
    with opened(path) as store:
        at = store.read(f"environments/{name}")
        if at is None:
            assert acknowledged == 0
            return 0
        number, evidence = store.get(at).split()
        assert store.get(ObjectId(evidence.decode())).startswith(number + b" ")
        assert int(number) >= acknowledged
        return int(number)


@pytest.mark.parametrize("rounds", [6, pytest.param(100, marks=pytest.mark.slow)])
def test_kill_loses_nothing_that_was_acknowledged(path: Path, rounds: int) -> None:
    """Not even what was not durable: that is for power failures only."""
    acknowledged = 0
    for _ in range(rounds):
        with ended(start("write", path, "a")) as writer:
            assert writer.stdout is not None
            for _ in range(random.randrange(1, 150)):
                acknowledged = abs(int(writer.stdout.readline()))
            writer.kill()
            # Complete lines that it printed before it died count too.
            rest = [line for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            acknowledged = max([acknowledged, *(abs(int(line)) for line in rest)])
        assert holds_at_least(path, "a", acknowledged) <= acknowledged + 1


@pytest.mark.parametrize("copies", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_files_as_they_are_at_any_instant_hold_all_that_was_durable(path: Path, tmp_path: Path, copies: int) -> None:
    """An approximation of power loss: the writer is stopped, so that the copy is of one instant."""
    with ended(start("write", path, "a")) as writer:
        assert writer.stdout is not None
        acknowledged = 0
        for n in range(copies):
            for _ in range(random.randrange(1, 40)):
                acknowledged = max(acknowledged, int(writer.stdout.readline()))
            os.kill(writer.pid, signal.SIGSTOP)
            os.waitpid(writer.pid, os.WUNTRACED)
            copy = tmp_path / f"copy-{n}"
            copy.mkdir()
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", copy / f"store.db{suffix}")
            os.kill(writer.pid, signal.SIGCONT)
            holds_at_least(copy / "store.db", "a", acknowledged)
            shutil.rmtree(copy)


def test_a_torn_end_of_the_log_is_left_out(path: Path, tmp_path: Path) -> None:
    """Whatever bytes of the log's end were lost, what is there is some earlier whole state."""
    with opened(path) as store:
        at: ObjectId | None = None
        for n in range(20):
            new = store.put(b"%d" % n)
            store.compare_and_swap(REF, expected=at, new=new, durable=False)
            at = new
        copy = tmp_path / "copy"
        log = Path(f"{path}-wal").read_bytes()
        seen = []
        for length in sorted({len(log), *(random.randrange(len(log)) for _ in range(30))}):
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            shutil.copy(path, copy / "store.db")
            (copy / "store.db-wal").write_bytes(log[:length])
            with opened(copy / "store.db") as torn:
                there = torn.read(REF)
                seen.append(-1 if there is None else int(torn.get(there)))
    assert seen == sorted(seen)
    assert seen[-1] == 19


# ---------------------------------------------------------------- faults


def test_every_write_is_labelled(path: Path) -> None:
    host = FaultyHost(record=True)
    with opened(path, host) as store:
        data = store.put(b"x")
        store.compare_and_swap(REF, expected=None, new=data)
        store.compare_and_swap(REF, expected=data, new=None, durable=False)
        store.delete(data)
        store.read(REF)
    assert host.labels == ["store:open", "store:put", "store:swap", "store:swap", "store:delete"]


@pytest.mark.parametrize("label", ["store:put", "store:swap", "store:delete"])
def test_a_write_that_fails_changes_nothing_and_can_be_repeated(path: Path, label: str) -> None:
    host = FaultyHost(fail_at=label)
    with opened(path, host) as store:

        def write() -> None:
            data = store.put(b"x")
            store.compare_and_swap(REF, expected=store.read(REF), new=data)
            store.delete(store.put(b"y"))

        with pytest.raises(OperationFailed, match="injected"):
            write()
        write()
        assert store.list("") == {REF: store.put(b"x")}


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


def test_after_a_failed_sync_nothing_is_written_until_reopened(path: Path) -> None:
    host = FaultyHost(fail_at="store:swap", error=sqlite_error(sqlite3.SQLITE_IOERR_FSYNC))
    with opened(path, host) as store:
        data = store.put(b"x")
        with pytest.raises(Unavailable):
            store.compare_and_swap(REF, expected=None, new=data)
        with pytest.raises(Unavailable, match="no more writes"):
            store.compare_and_swap(REF, expected=None, new=data)
        assert store.get(data) == b"x"
    with opened(path) as store:
        store.compare_and_swap(REF, expected=None, new=data)


def test_a_durable_swap_for_the_same_writes_to_the_log(path: Path) -> None:
    """SQLite syncs only commits that change a page, and this one must carry earlier writes with it."""
    with opened(path) as store:
        data = store.put(b"x")
        store.compare_and_swap(REF, expected=None, new=data, durable=False)
        for ref, value in ((REF, data), ("environments/none", None)):
            before = os.path.getsize(f"{path}-wal")
            store.compare_and_swap(ref, expected=value, new=value)
            assert os.path.getsize(f"{path}-wal") > before


def test_a_store_held_by_another_process_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    with opened(path) as store, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="held by another process"):
            store.put(b"x")
        assert store.list("") == {}
        other.execute("ROLLBACK")
        store.put(b"x")


def test_readers_do_not_wait_for_a_writer(path: Path) -> None:
    at_swap, go_on = threading.Event(), threading.Event()

    class Slow(Host):
        def at(self, label: str) -> None:
            if label == "store:swap":
                at_swap.set()
                assert go_on.wait(30)

    with opened(path, Slow()) as store:
        data = store.put(b"x")
        writer = threading.Thread(target=store.compare_and_swap, args=(REF,), kwargs={"expected": None, "new": data})
        writer.start()
        assert at_swap.wait(30)
        assert store.get(data) == b"x"
        assert store.read(REF) is None
        go_on.set()
        writer.join()
        assert store.read(REF) == data


# ---------------------------------------------------------------- files that are not as they should be


def filled(path: Path) -> None:
    with opened(path) as store:
        for n in range(200):
            store.put(b"%d " % n * 300)
        store.compare_and_swap(REF, expected=None, new=store.put(b"x"))


def test_the_file_is_for_its_owner_only(path: Path) -> None:
    with opened(path) as store:
        store.put(b"secret")
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is no database, but somebody needs it\n" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreDamaged) as raised:
        SqliteStore(Host(), path)
    assert raised.value.hint is not None
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE accounts (id INTEGER)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreDamaged, match="not a wye store"):
        SqliteStore(Host(), path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 99")
        other.commit()
    with pytest.raises(Unsupported, match="newer"):
        SqliteStore(Host(), path)


def test_a_file_cut_short_is_damaged(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamaged, match="damaged") as raised:
        SqliteStore(Host(), path)
    assert "backup" in str(raised.value.hint)


def test_pages_overwritten_are_damage(path: Path) -> None:
    filled(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreDamaged):
        SqliteStore(Host(), path)


def test_a_creation_cut_short_is_begun_again(path: Path) -> None:
    path.touch()
    filled(path)
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as half:
        half.execute("PRAGMA journal_mode = WAL")
    filled(path)


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OperationFailed, match="No such file"):
        SqliteStore(Host(), tmp_path / "no" / "store.db")


# ---------------------------------------------------------------- a disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    host, mounted = Host(), tmp_path / "disk"
    mounted.mkdir()
    host.mount("test:mount", "tmpfs", mounted, "tmpfs", options="size=4m")
    try:
        yield mounted
    finally:
        host.unmount("test:unmount", mounted, lazy=True)


@pytest.mark.host
def test_a_full_disk_is_said_and_loses_nothing(small_disk: Path) -> None:
    path, filler = small_disk / "store.db", small_disk / "filler"
    filler.write_bytes(b"\0" * (1 << 20))
    head: ObjectId | None = None
    kept: list[ObjectId] = []

    def fill(store: SqliteStore) -> None:
        nonlocal head
        for n in range(2000):
            kept.append(store.put(b"%d " % n * 1000))
            store.compare_and_swap(REF, expected=head, new=kept[-1])
            head = kept[-1]

    with opened(path) as store:
        with pytest.raises(DiskFull) as raised:
            fill(store)
        assert raised.value.hint is not None
        for _ in range(3):
            with pytest.raises(DiskFull):
                store.put(os.urandom(100_000))
        assert store.read(REF) == head
        assert all(store.get(object_id) for object_id in kept)
    filler.unlink()
    with opened(path) as store:
        assert store.read(REF) == head
        assert all(store.get(object_id) for object_id in kept)
        store.compare_and_swap(REF, expected=head, new=store.put(b"room again"))


@pytest.mark.host
def test_a_store_cannot_be_made_on_a_full_disk(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(b"\0" * (8 << 20))
    with pytest.raises(DiskFull):
        SqliteStore(Host(), small_disk / "store.db")
    filler.unlink()
    with opened(small_disk / "store.db") as store:
        store.put(b"x")
