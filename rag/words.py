"""The lexical index of an archive: how it is brought to a generation, and what it knows of others.

It is derived, and committed before a generation is published: whatever it has, the database had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rag.errors import StorageFailed
from rag.lexical import LexicalDocument, LexicalIndex, LexicalSearcher
from rag.reading import Reading
from rag.store import Store


class Words:
    """The index in one folder, apart from the one that others read. What writes is called under the
    archive's lock, and raises StorageFailed."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store

    def seen(self) -> int:
        """The generation that it is at, of whichever archive; 0 if that is not known."""
        searcher = self._searcher()
        return searcher.generation if searcher else 0

    def require_nothing_lost(self) -> None:
        """Raise ArchiveDamaged if the database lacks a change that the index has, of whichever
        archive that is: a restored one has another name and a later generation."""
        self._require_all_of(self._searcher())

    def bring_to(self, generation: int) -> None:
        """Bring it to `generation` from wherever it is. Raises as `require_nothing_lost`."""
        searcher = self._searcher()
        self._require_all_of(searcher)
        with self._store.read() as reading:
            usable = (
                searcher is not None
                and not searcher.is_of_before
                and searcher.archive == reading.archive()
                and searcher.generation <= generation
                and not reading.is_reindexing()
                and self._went_on(reading, searcher.generation, generation)
            )
        if not usable:
            self.make_anew(generation)

    def make_anew(self, generation: int) -> None:
        """Make it anew for `generation`; the database says meanwhile that it is not done."""
        with self._store.write() as writing:
            writing.set_reindexing(True)
        with self._store.read() as reading:
            documents = _documents(reading, 0, generation)
            LexicalIndex(self._folder).rebuild(reading.archive(), generation, documents)
        with self._store.write() as writing:
            writing.set_reindexing(False)

    def _went_on(self, reading: Reading, at: int, generation: int) -> bool:
        """Bring it from one generation to another; False if its files are too damaged for that."""
        index = LexicalIndex(self._folder)
        try:
            if at == generation:
                index.require_no_killed_commit()
            else:
                died = reading.died(at, generation).tolist()
                documents = _documents(reading, at, generation)
                index.commit(reading.archive(), generation, documents, died)
        except StorageFailed:
            if not _is_damaged(index):
                raise
            return False
        return True

    def _require_all_of(self, searcher: LexicalSearcher | None) -> None:
        if searcher is None:
            return
        with self._store.read() as reading:  # after the searcher: a change is in the database first
            at = reading.committed()
        if searcher.generation > at and not _is_damaged(LexicalIndex(self._folder)):
            raise self._store.damaged(
                f"library.db: it has lost changes, being at generation {at} and its lexical index "
                f"at {searcher.generation}. `rag rebuild` goes on without them"
            )

    def _searcher(self) -> LexicalSearcher | None:
        try:
            return LexicalIndex(self._folder).searcher()
        except ValueError:
            return None


def _is_damaged(index: LexicalIndex) -> bool:
    try:
        return bool(index.damaged())
    except ValueError:
        return True


def _documents(reading: Reading, after: int, generation: int) -> Iterator[LexicalDocument]:
    """What the index holds of the passages born over `after` and alive at `generation`."""
    for row in reading.lexical_rows(after, generation):
        words = f"{row.title}\n{row.text}"
        yield LexicalDocument(row.passage, row.article, row.source, row.first, row.last, words)
