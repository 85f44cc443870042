"""One index folder: its generations, and how a change is published.

A change of generation g is (1) committed to SQLite, (2) committed to the lexical index with marker
g, and (3) published by setting `published = g`. It is acknowledged after that. Whoever takes the
lock next finishes a change that was left between (1) and (3). A reader pairs `published` with the
lexical commit of the same marker, and keeps what it derived in memory until a newer generation.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rag import backup, checked, exported, soundness
from rag.base import Base
from rag.checked import Checked
from rag.errors import (
    ArchiveBusy,
    ArchiveDamaged,
    ArticleNotFound,
    InvalidRequest,
    StorageFailed,
    UnreadableItem,
)
from rag.lexical import LexicalIndex
from rag.locks import LOCK_TIMEOUT_S, Locks
from rag.reading import Reading
from rag.schema import ArticleDraft, same_record
from rag.snapshot import Fingerprint, Snapshot, State, advanced, compare, empty_state
from rag.store import Store
from rag.types import Encoding, Fault
from rag.words import Words
from rag.writing import Writing

PAIRING_TIMEOUT_S = 5.0
"""How long a reader waits for a writer between its steps before it tries to finish for it."""

PAIRING_PAUSE_S = 0.01

LOOKS, LOOK_PAUSE_S = 5, 0.1
"""How often a check looks at what others write where it cannot keep them from writing."""

RECOVERIES = 3
"""How often one reader tries to repair derived files before it gives up."""


class EncodingsGone(Exception):
    """Encodings that were known when a change was prepared were erased meanwhile; encode again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call changed, as article ids, and the generation that is published now."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    generation: int = 0


class Archive:
    """An index folder. Safe for threads; other processes may read and write it meanwhile."""

    def __init__(self, folder: str | Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Raises InvalidRequest for a folder whose name is no UTF-8, which tantivy cannot take."""
        self.folder = Path(folder)
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            problem = f"the name of {self.folder} is no UTF-8; give the folder another"
            raise InvalidRequest("--index", problem) from None
        self._store = Store(self.folder / "library.db")
        self._lexical = LexicalIndex(self.folder / "lexical")
        self._locks = Locks(self.folder, lock_timeout_s)
        self._words = Words(self.folder / "lexical", self._store)
        self._base = Base(self.folder, self._store, self._locks)
        self._refreshing = threading.Lock()
        self._state = empty_state()
        self._was_there = False
        self._lost_nothing_at: tuple[object, ...] = ()
        self._model_kept = False

    def stop_waiting(self) -> None:
        """From now on whoever finds a lock held, or waits for it, gives up at once: ArchiveBusy."""
        self._locks.stop_waiting()

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    def manifest(self) -> dict[str, str]:
        """What the archive says of itself; empty before the first article."""
        if not self._exists():
            return {}
        with self._store.read() as reading:
            return reading.manifest()

    def require(self, fingerprint: Fingerprint) -> None:
        """Raise IndexMismatch unless the archive is empty or was built with all of this."""
        compare(self.manifest(), fingerprint)

    @contextmanager
    def reading(self) -> Iterator[Reading | None]:
        """The newest published generation as the database alone has it; None if there is none."""
        if not self._exists():
            yield None
            return
        with self._store.read() as reading:
            self._require_nothing_lost(reading)
            yield reading

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The newest published generation, unchanging while the context lasts."""
        if not self._exists():
            yield Snapshot(empty_state(), None, self._lexical.analyzer)
            return
        deadline = time.monotonic() + PAIRING_TIMEOUT_S
        recoveries = 0
        while True:
            place = self._store.place()
            with self._store.read() as reading:
                self._require_nothing_lost(reading)
                state = self._paired(reading, f"{reading.derived_from()} {place}")
                if state is not None:
                    yield Snapshot(state, reading, self._lexical.analyzer)
                    return
            # A writer is between its steps, or was killed there, or a derived file is gone.
            if recoveries == RECOVERIES:
                raise StorageFailed(str(self.folder), "the derived indexes cannot be rebuilt")
            if time.monotonic() > deadline or not self._locks.somebody_writes():
                self._mend(
                    soundness.unreadable(self.folder)
                    or "a derived file cannot be used (`rag check` names it), or a change was left "
                    "half published"
                )
                recoveries += 1
                deadline = time.monotonic() + PAIRING_TIMEOUT_S
            time.sleep(PAIRING_PAUSE_S)

    def publish(
        self,
        drafts: Sequence[ArticleDraft],
        encodings: Mapping[bytes, Encoding],
        fingerprint: Fingerprint,
    ) -> Outcome:
        """Store articles and let readers see them; it is all on the disk when this returns.

        Articles already stored word for word are left alone. Raises ArchiveBusy, IndexMismatch
        and EncodingsGone, after each of which nothing has changed, and StorageFailed, after which
        the change is not there or, if SQLite had it, is finished by whoever takes the lock next.
        """
        with self._locks.writing():
            self._create()
            self._roll_forward()
            with self._store.write() as writing:
                outcome = _store(writing, drafts, encodings, fingerprint)
            if outcome.added or outcome.updated:
                self._finish(outcome.generation)
            return outcome

    def remove(self, article_ids: Sequence[str]) -> Outcome:
        """Remove articles with all their revisions; one that is not there: ArticleNotFound, and
        none is removed."""
        if not self._exists():
            raise ArticleNotFound(article_ids[0])
        with self._locks.writing():
            self._roll_forward()
            with self._store.write() as writing:
                generation = writing.generation + 1
                for article_id in dict.fromkeys(article_ids):
                    if writing.head(article_id) is None:
                        raise ArticleNotFound(article_id)
                    writing.remove_article(article_id, generation)
                writing.set_manifest({"committed": str(generation)})
            self._finish(generation)
        return Outcome(removed=tuple(dict.fromkeys(article_ids)), generation=generation)

    def finish_left(self) -> None:
        """Publish a change whose writer was killed when it had committed it. To be called before
        what the archive has is compared with what is to be added to it."""
        if not self._exists():
            return
        with self._store.read() as reading:
            left = reading.unpublished()
        if left:
            with self._locks.writing():
                self._roll_forward()

    def base_is_due(self) -> bool:
        """Whether the dense base lacks so much that it should be written anew."""
        return self._exists() and self._base.is_due()

    def renew_base(self) -> None:
        """Write the dense base anew if it is due and nobody else is at it.

        To be called after changes; whoever calls it next does what was not done. Neither readers
        nor writers wait for it. A base that cannot be written is no error: the tail does.
        """
        with suppress(StorageFailed, ArchiveBusy):
            self.write_due_base()

    def write_due_base(self) -> None:
        """The same, where it is an error. Raises StorageFailed, and ArchiveBusy where another is
        at it."""
        if self._exists():
            self._base.write_if_due()

    def keep_model(self, export: Path | None) -> None:
        """Carry this exported model, unless the archive has it. Where there is no room for it the
        archive is as good without: it comes from the user's cache, or is made again."""
        if export is None or self._model_kept:
            return
        self._model_kept = True
        folder = self.folder / exported.IN_INDEX
        if folder != export and exported.fault(folder, self.manifest().get("encoder", "")):
            with suppress(ArchiveBusy, StorageFailed), self._locks.writing():
                exported.carry(export, folder)

    def recover(self) -> None:
        """Finish what was left unfinished and rebuild derived files that cannot be used."""
        with self._locks.writing():
            self._create()
            self._roll_forward()
            with self._store.read() as reading:
                generation = reading.generation
                sound = not generation or not any(soundness.lexical_faults(self.folder, reading))
            if not sound:
                self._words.make_anew(generation)
        self._base.mend()

    def rebuild(self) -> int:
        """Make all derived files anew from the store, encoding nothing; the generation.

        Running readers take them up too, though the generation stays what it was; a library that
        has lost changes goes on without them, at a generation that nobody has seen. A damaged copy
        of the model goes: whoever adds articles next puts another in its place.
        """
        if not self._exists():
            return 0
        with self._locks.writing():
            generation = self._settled()
            self._words.make_anew(generation)
            with self._store.read() as reading:
                encoder = reading.manifest().get("encoder", "")
            if exported.fault(self.folder / exported.IN_INDEX, encoder):
                shutil.rmtree(self.folder / exported.IN_INDEX, ignore_errors=True)
        if generation:
            self._base.write()
            with self._locks.writing(), self._store.write() as writing:
                writing.set_manifest({"rebuilt": uuid.uuid4().hex})
        return generation

    def back_up(self, file: Path) -> backup.Contents:
        """Write all that is published to a file that is not there yet; see `backup.write`."""
        if not self._exists():
            raise UnreadableItem(str(self.folder), "there is no library.db in it to back up")
        if self.folder.resolve() in file.resolve().parents:
            raise InvalidRequest(
                "FILE", f"{file} is in the archive's own folder; name one elsewhere"
            )
        self._words.require_nothing_lost()
        return backup.write(self._store, file)

    def restore(self, file: Path, *, replace: bool = False) -> None:
        """Make the archive what a backup holds; `replace`: in the place of one that is there.

        Derived files are made anew, encoding nothing. Readers go on: they see what was there
        before, whole, and then what was restored, as a later generation. Raises InvalidRequest if
        there is an archive and it is not to be replaced, and as `backup.checked_copy` does, after
        each of which nothing has changed.
        """
        with self._locks.writing():
            if self._store.exists() and not replace:
                problem = f"{self.folder} has an archive; --replace puts the backup in its place"
                raise InvalidRequest("--index", problem)
            with backup.checked_copy(file, self.folder) as copy:
                backup.put(copy, self._store, self._seen())
            self._store.create()
            self._roll_forward()
            with self._store.read() as reading:
                of, generation = reading.derived_from(), reading.generation
            Checked(checked.now(), True, 0, of, generation, None).keep(self.folder)
        self.renew_base()
        with suppress(StorageFailed):  # it is restored all the same
            self._store.checkpoint()  # a log can lose all of it to one flipped bit

    def check(self, report: Callable[[str], None] = lambda _: None) -> list[Fault]:
        """Everything that is wrong with the archive; `report` is told what is being looked at.

        What it found is kept for `last_check`; in a sound archive recall is measured too. Raises
        ArchiveBusy if it cannot be told because others write for too long.
        """
        at, of, generation, recall = checked.now(), "", 0, None
        faults = soundness.key_faults(self.folder)
        try:
            if not self._exists():
                return faults
            self._require_readable()
            with self._store.read() as reading:
                of, generation = reading.derived_from(), reading.generation
                faults.extend(soundness.truth_faults(reading, report))
                unfinished = reading.is_reindexing()
            if unfinished and not faults:
                with suppress(StorageFailed):  # where nobody can write
                    self.recover()
            with self._store.read() as reading:
                derived = soundness.derived_faults(self.folder, reading, report)
                if not (faults or derived):
                    report("recall")
                    recall = soundness.recall(self.folder, reading)
            faults.extend(self._still_there(derived))
            self._words.require_nothing_lost()
        except ArchiveDamaged as error:
            fault = Fault("library.db", error.fault.removeprefix("library.db: "))
            faults.extend([] if fault in faults else [fault])
        except StorageFailed:
            if not faults:
                raise
        if recall is not None and recall.recall_at_10 < soundness.RECALL_LEAST:
            problem = f"recall@10 is {recall.recall_at_10:.3f}, under {soundness.RECALL_LEAST}"
            faults.append(Fault("dense", problem))
        Checked(at, not faults, len(faults), of, generation, recall).keep(self.folder)
        return faults

    def last_check(self) -> Checked | None:
        """What the last `check` of this archive found; None if there was none since it was rebuilt
        or a backup was put in its place, which mend. Raises ArchiveDamaged."""
        found = checked.last(self.folder)
        with self.reading() as reading:
            of = reading.derived_from() if reading else ""
        return found if found and found.of == of else None

    def is_sound(self) -> bool | None:
        """What the last check found, or False if damage was met since; None if nobody knows.

        Raises ArchiveDamaged."""
        found, damaged_at = self.last_check(), self._store.damaged_at
        if damaged_at and not (found and checked.moment(found.at) > damaged_at):
            return False
        return found.sound if found else None

    def sizes(self) -> dict[str, int]:
        """Bytes on the disk by part."""
        parts = {
            "library": "library.db*",
            "lexical": "lexical/*",
            "dense": "dense.*",
            "model": f"{exported.IN_INDEX}/*",
        }
        return {part: sum(map(_size, self.folder.glob(each))) for part, each in parts.items()}

    def _exists(self) -> bool:
        """Whether there is a database, of today's format after this call. Raises as `_is_begun`."""
        if not self._is_begun():
            return False
        if not self._store.is_current():
            self._mend("library.db is of an older format")
        return True

    def _is_begun(self) -> bool:
        """Whether there is a database with tables.

        Raises StorageFailed if there was one since this object is, which another must not take the
        place of (its disk may come back), and ArchiveDamaged if derived files are there without it.
        """
        was_there = self._was_there  # before the look: others may begin it meanwhile
        if self._store.is_empty():
            problem = soundness.lost(self.folder)
            if not problem and not was_there:
                return False
            if was_there:
                gone = "library.db is not there any more; put it back, or restore a backup"
                raise StorageFailed(str(self.folder), gone)
            if self._store.is_empty():  # a second look: it is there before what is made from it
                raise self._store.damaged(problem)
        self._was_there = True
        return True

    def _require_nothing_lost(self, reading: Reading) -> None:
        """Raise ArchiveDamaged if the database lacks a change that its lexical index has; looked at
        once for each generation."""
        at = (self._store.place(), reading.derived_from(), reading.generation)
        if at != self._lost_nothing_at:
            self._words.require_nothing_lost()
            self._lost_nothing_at = at

    def _still_there(self, found: list[Fault]) -> list[Fault]:
        """Which faults of derived files are there too while nobody writes to them, or, where that
        cannot be had, which parts are at fault each time that they are looked at."""
        if found:
            with (
                suppress(StorageFailed),  # where this user cannot write
                self._locks.writing_base(),
                self._locks.writing(),
                self._store.read() as reading,
            ):
                return soundness.derived_faults(self.folder, reading)
        for _ in range(LOOKS):
            if not found:
                break
            time.sleep(LOOK_PAUSE_S)
            with self._store.read() as reading:
                parts = {fault.part for fault in soundness.derived_faults(self.folder, reading)}
            found = [fault for fault in found if fault.part in parts]
        return found

    def _require_readable(self) -> None:
        """Raise StorageFailed where this user may not read a file: for a moment that is so of one
        that another user is just writing."""
        for _ in range(LOOKS):
            kept_away = soundness.unreadable(self.folder)
            if not kept_away:
                return
            time.sleep(LOOK_PAUSE_S)
        raise StorageFailed(str(self.folder), f"it cannot be checked: {kept_away}")

    def _mend(self, problem: str) -> None:
        """`recover`; the StorageFailed that it raises says what the problem still is."""
        try:
            self.recover()
        except StorageFailed as error:
            reason = f"{problem}, and that cannot be mended: {error.reason}"
            raise StorageFailed(str(self.folder), reason) from error

    def _paired(self, reading: Reading, library: str) -> State | None:
        """The state of what `reading` sees in the file `library`; None if it cannot be had now."""
        wanted = (library, reading.generation)
        state = self._state
        if (state.library, state.generation) == wanted and state.whole():
            return state
        if wanted[1] == 0:
            return empty_state(library)
        with self._refreshing:
            state = self._state
            if state.library != library or state.generation > wanted[1] or not state.whole():
                # Another file took the place of the one known; it may be a backup of it. Or all
                # was made anew, because something was damaged.
                state = empty_state(library)
            if state.generation < wanted[1]:
                try:
                    searcher = self._lexical.searcher()
                    state = advanced(state, reading, searcher, self.folder)
                except ValueError:
                    return None
            self._state = state
            return state

    # What follows writes, and is called under the lock.

    def _seen(self) -> int:
        """The greatest generation that a reader may have seen, as far as can be told."""
        seen = 0
        if self._store.exists():
            with suppress(ArchiveDamaged), self._store.read() as reading:
                seen = reading.committed()
        return max(seen, self._words.seen())

    def _create(self) -> None:
        """Have a database of today's format. Raises as `_is_begun`."""
        self._is_begun()
        self._store.create()

    def _settled(self) -> int:
        """Publish a change that was committed and left, whatever state derived files are in, and
        give up what only these have; the generation."""
        with self._store.read() as reading:
            unpublished = reading.unpublished()
        if unpublished:
            with self._store.write() as writing:
                writing.publish(unpublished)
        with suppress(ArchiveDamaged):
            self._words.require_nothing_lost()
            with self._store.read() as reading:
                return reading.generation
        generation = self._seen() + 1
        with self._store.write() as writing:
            # The base that it names may be gone: it was written before what was lost.
            entries = {"committed": str(generation), "published": str(generation)}
            writing.set_manifest({**entries, "dense_base": ""})
        return generation

    def _roll_forward(self) -> None:
        """Publish a change that was committed and left, and bring the lexical index up."""
        with self._store.read() as reading:
            unpublished, published = reading.unpublished(), reading.generation
        if unpublished is not None:
            self._finish(unpublished)
        elif published:
            self._words.bring_to(published)
        else:
            self._words.require_nothing_lost()

    def _finish(self, generation: int) -> None:
        """Steps 2 and 3 for a change that SQLite holds as `generation`."""
        self._words.bring_to(generation)
        with self._store.write() as writing:
            writing.publish(generation)


def _store(
    writing: Writing,
    drafts: Sequence[ArticleDraft],
    encodings: Mapping[bytes, Encoding],
    fingerprint: Fingerprint,
) -> Outcome:
    """Store what is new among `drafts`; the caller publishes the outcome's generation."""
    manifest = writing.manifest()
    compare(manifest, fingerprint)
    added: list[str] = []
    updated: list[str] = []
    unchanged: list[str] = []
    generation = writing.generation
    news: list[ArticleDraft] = []
    for draft in drafts:
        head = writing.head(draft.article.id)
        if head and same_record(draft.article, head):
            unchanged.append(draft.article.id)
            continue
        (updated if head else added).append(draft.article.id)
        news.append(draft)
    if news:
        generation += 1
        keys = {passage.key for draft in news for passage in draft.passages}
        writing.add_encodings({key: encodings[key] for key in keys if key in encodings})
        if writing.known(keys) != keys:
            raise EncodingsGone
        for draft in news:
            writing.add_article(draft, generation)
        entries = {"committed": str(generation)}
        if "encoder" not in manifest:
            dimension = len(next(iter(encodings.values())).vector)
            names = {"encoder_name": fingerprint.encoder_name, "dimension": str(dimension)}
            entries |= {**fingerprint.values, **names}
        writing.set_manifest(entries)
    return Outcome(tuple(added), tuple(updated), tuple(unchanged), (), generation)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # a writer has merged it into another meanwhile
        return 0
