"""Search by words: BM25 (Robertson and Zaragoza 2009, doi:10.1561/1500000019) through tantivy.

One document a passage: its words are the article's title and the passage's text. Every commit also
replaces a marker document that carries the archive's name and the generation, since the binding has
no commit payload.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import tantivy
from tantivy import FieldType, Filter, Occur, Query

from rag.errors import StorageFailed
from rag.files import make_folder, sync
from rag.reading import well_formed
from rag.types import Floats, Numbers

WRITER_HEAP_BYTES = 64_000_000
LONGEST_WORD = 60
"""Longer runs of letters and digits are not words; tantivy's own limit is far above."""

TERMS_MOST = 1000
"""Passages up to which a query of terms is faster than a set of them: for 200 of 100,000 it takes
0.7 ms instead of 2.6, for 1000 it takes 4 instead of 5, for 4000 it takes 27 instead of 8."""

ANALYZER = "words"

META = "meta.json"

LISTS = (META, ".managed.json")
"""Of what the index consists, and what tantivy may delete; it keeps both from other users."""

SEGMENT_PARTS = ("fast", "fieldnorm", "idx", "pos", "store", "term")
"""Files of every segment, whatever its fields."""

HELD = "held"
"""A folder in the index's with links to the files that a commit found: tantivy deletes those that
it merges into others, whose checksums are right whatever was read."""

PANIC = "PanicException"
"""What the binding raises where tantivy panics; it cannot be imported."""

_STOP_WORDS = """
a about an and are as at be been but by did do does for from had has have he her his how i if in
into is it its no not of on or s she so such t than that the their them then there these they this
to us was we were what when where which who whom whose why will with would you your
"""

STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing of what is asked; left out of questions, never of passages."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word as the index knows it, and where it stands in the text it came from."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class LexicalDocument:
    """What is indexed of one passage. `first` and `last` in microseconds since 1970, or None."""

    passage: int
    article: int
    source: str | None
    first: int | None
    last: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Exact conditions, resolved: article numbers and microseconds instead of ids and dates."""

    source: tuple[str, ...] | None = None
    first: int | None = None
    last: int | None = None
    article: tuple[int, ...] | None = None
    exclude_article: tuple[int, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether it lets all through."""
        return self == Scope()


def _schema(*, twice: bool = True) -> tantivy.Schema:
    """`twice`: whether a marker's generation stands in two files, of which one vouches for the
    other."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("words", tokenizer_name=ANALYZER, index_option="freq")
    builder.add_unsigned_field("passage", indexed=True, fast=True)
    builder.add_unsigned_field("article", indexed=True)
    builder.add_text_field("source", tokenizer_name="raw", index_option="basic")
    builder.add_integer_field("first", fast=True)
    builder.add_integer_field("last", fast=True)
    builder.add_unsigned_field("generation", stored=twice, indexed=True, fast=True)
    builder.add_text_field("archive", stored=True, tokenizer_name="raw", index_option="basic")
    return builder.build()


SCHEMA = _schema()
SCHEMA_OF_BEFORE = _schema(twice=False)
"""Such an index is read as any other; the next change makes it anew."""


class Analyzer:
    """Text to terms: lower case, accents folded, English stems (Porter 2)."""

    def __init__(self) -> None:
        self._analyzer = (
            tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
            .filter(Filter.remove_long(LONGEST_WORD))
            .filter(Filter.lowercase())
            .filter(Filter.ascii_fold())
            .filter(Filter.stemmer("english"))
            .build()
        )

    def register(self, index: tantivy.Index) -> None:
        """Make `index` use this analyzer."""
        index.register_tokenizer(ANALYZER, self._analyzer)

    def terms(self, text: str) -> list[Term]:
        """The words of `text` in order, with code-point offsets."""
        tokens = self._analyzer.pre_tokenize(well_formed(text)).tokens
        return [Term(t.text, t.char_offset_from, t.char_offset_to) for t in tokens]

    def places(self, text: str, terms: Container[str]) -> list[tuple[int, int]]:
        """Where words of `text` stand that are one of `terms`, in code points, in order."""
        tokens = self._analyzer.pre_tokenize(well_formed(text)).tokens
        return [(t.char_offset_from, t.char_offset_to) for t in tokens if t.text in terms]

    def question_terms(self, text: str) -> list[str]:
        """The distinct terms to ask for, stop words left out unless there is nothing else."""
        found = self.terms(text)
        asked = [t for t in found if text[t.start : t.end].lower() not in STOP_WORDS]
        return list(dict.fromkeys(term.text for term in asked or found))


class LexicalSearcher:
    """One commit of the index, unchanging. `archive` and `generation` are those of its marker.
    `is_of_before`: its schema is."""

    def __init__(self, searcher: tantivy.Searcher, *, is_of_before: bool = False) -> None:
        self._searcher = searcher
        self.is_of_before = is_of_before
        self.archive, self.generation = "", 0
        with _torn_is_named():
            marker = searcher.search(_any_generation(), 2, count=False).hits
            if len(marker) > 1:
                raise ValueError("it has two markers")
            for _, address in marker:
                document = searcher.doc(address)
                self.archive = str(document.get_first("archive"))
                self.generation = int(searcher.fast_field_values("generation", [address])[0])
                if document.get_first("generation") != (None if is_of_before else self.generation):
                    raise ValueError("its marker names two generations")
        self.documents = searcher.num_docs - len(marker)

    def search(self, terms: Sequence[str], depth: int, scope: Scope) -> tuple[Numbers, Floats]:
        """The `depth` best passages within `scope` that have a term, best first, with scores."""
        if not terms or not self.documents:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        conditions = _conditions(scope)
        return self._run([(Occur.Must, _any_term(terms)), *conditions], depth)

    def score(self, terms: Sequence[str], numbers: Numbers) -> Floats:
        """BM25 scores of these passages; 0 for one that has no term."""
        scores = np.zeros(len(numbers), dtype=np.float32)
        if not terms or not len(numbers) or not self.documents:
            return scores
        among = _of_no_weight(_among(numbers.tolist()))
        found, values = self._run(
            [(Occur.Must, _any_term(terms)), (Occur.Must, among)], len(numbers)
        )
        places = {number: at for at, number in enumerate(numbers.tolist())}
        with _torn_is_named():  # a flipped bit may make it the number of another
            scores[[places[number] for number in found.tolist()]] = values
        return scores

    def frequency(self, term: str) -> int:
        """How many passages have this term, dead ones included until they are merged away."""
        with _torn_is_named():
            return int(self._searcher.doc_freq("words", term))

    def passage_numbers(self) -> Numbers:
        """The numbers of all passages in the index, ascending."""
        if not self.documents:
            return np.empty(0, np.int64)
        every = Query.range_query(SCHEMA, "passage", FieldType.Unsigned, 0, None)
        numbers, _ = self._run([(Occur.Must, every)], self.documents + 1)
        return np.sort(numbers)

    def _run(self, clauses: list[tuple[Occur, Query]], depth: int) -> tuple[Numbers, Floats]:
        with _torn_is_named():
            hits = self._searcher.search(Query.boolean_query(clauses), depth, count=False).hits
            addresses = [address for _, address in hits]
            numbers: Any = self._searcher.fast_field_values("passage", addresses)
            return (
                np.array(numbers, dtype=np.int64),
                np.array([score for score, _ in hits], dtype=np.float32),
            )


class LexicalIndex:
    """The index in a folder of its own. Derived: what is torn is thrown away and made anew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.analyzer = Analyzer()
        self._index: tantivy.Index | None = None

    def searcher(self) -> LexicalSearcher:
        """The newest commit; ValueError if there is none that can be opened."""
        try:
            with _a_panic_is_an_error():
                return self._newest()
        except (OSError, ValueError, StorageFailed) as error:
            self._index = None
            raise ValueError(f"the lexical index cannot be opened: {error}") from error

    def damaged(self) -> list[str]:
        """What is wrong with the files of the newest commit, and with those that it was made from
        by a writer that was killed, in plain words. Reads them all.

        ValueError if it is not known which they are, and what `searcher` raises."""
        self.searcher()
        files = _files(self._folder)
        return [*_faults(files), *self._faults_merged()]

    def commit(
        self,
        archive: str,
        generation: int,
        added: Iterable[LexicalDocument],
        removed: Iterable[int],
    ) -> None:
        """Add and remove passages and set the marker, all at once. StorageFailed, and the commit is
        there, where files that it did away with were damaged."""
        self.require_no_killed_commit()
        self._hold()
        dead = list(removed)
        with self._a_fault_is_of_storage(), _a_panic_is_an_error():
            # Where tantivy panics in a thread of its own, as it would there, it ends the process.
            self._opened().searcher().search(_dead(dead), 1, count=True)
        self._write(self._opened, _marker(archive, generation), added, dead)
        self._release(self._faults_merged)

    def require_no_killed_commit(self) -> None:
        """Look at all files if the writer of the last commit was killed, which they may have done;
        before that the index does not count. StorageFailed if they are damaged."""
        if (self._folder / HELD).exists():
            self._let_read()
            self._release(self.damaged)

    def _release(self, faults: Callable[[], list[str]]) -> None:
        with self._a_fault_is_of_storage():
            for fault in faults():
                raise ValueError(fault)
            held = self._folder / HELD
            (held / META).unlink(missing_ok=True)  # first: by it the rest is known to be whole
            _delete(held)

    def rebuild(self, archive: str, generation: int, documents: Iterable[LexicalDocument]) -> None:
        """Make the index anew from all living passages."""
        self._index = None
        discard(self._folder)
        make_folder(self._folder)
        self._write(self._created, _marker(archive, generation), documents, ())

    def _hold(self) -> None:
        """Keep the files of the newest commit. Where there are no links, all are read instead."""
        held = self._folder / HELD
        with self._a_fault_is_of_storage():
            files = [file for file, _ in _files(self._folder)]
            try:
                held.mkdir()
                for file in (*files, self._folder / META):
                    (held / file.name).hardlink_to(file)
            except OSError:
                _delete(held)
                for fault in self.damaged():
                    raise ValueError(fault) from None

    def _faults_merged(self) -> list[str]:
        """What was wrong with files that are held and no longer part of the index."""
        held = self._folder / HELD
        if not (held / META).exists():
            return []
        names = {file.name for file, _ in _files(self._folder)}
        gone = [(file, segment) for file, segment in _files(held) if file.name not in names]
        return [f"{fault}, and was merged into others" for fault in _faults(gone)]

    @contextmanager
    def _a_fault_is_of_storage(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            self._index = None
            raise StorageFailed(str(self._folder), str(error)) from error

    def _let_read(self) -> None:
        """Let those read the index who may read its folder."""
        for name in LISTS:
            with suppress(OSError):  # where another user made it, who let them
                (self._folder / name).chmod(self._folder.stat().st_mode & 0o666)

    def _newest(self) -> LexicalSearcher:
        if not os.access(self._folder, os.W_OK):
            with _links(self._folder) as folder:
                return _searcher(self._open(folder))
        index = self._opened()
        index.reload()
        return _searcher(index)

    def _opened(self) -> tantivy.Index:
        if self._index is None:
            self._index = self._open(self._folder)
        return self._index

    def _created(self) -> tantivy.Index:
        self._index = tantivy.Index(SCHEMA, path=str(self._folder))
        self.analyzer.register(self._index)
        return self._index

    def _open(self, folder: Path) -> tantivy.Index:
        index = tantivy.Index.open(str(folder))
        if index.schema not in (SCHEMA, SCHEMA_OF_BEFORE):
            raise ValueError("it has other fields")
        self.analyzer.register(index)
        return index

    def _write(
        self,
        opened: Callable[[], tantivy.Index],
        marker: tantivy.Document,
        added: Iterable[LexicalDocument],
        removed: Iterable[int],
    ) -> None:
        # One thread: the order of documents, and so of equal scores, is the order they come in.
        with self._a_fault_is_of_storage(), _a_panic_is_an_error():
            writer = opened().writer(WRITER_HEAP_BYTES, 1)
            try:
                # A killed writer may have left a file that it was just writing, and a list of the
                # dead under the name of this one.
                for left in self._folder.glob(".tmp*"):
                    left.unlink()
                writer.garbage_collect_files()
                # By query: deleting by term misses numbers, which it takes for signed ones.
                dead = list(removed)
                if dead:
                    writer.delete_documents_by_query(_dead(dead))
                writer.delete_documents_by_query(_any_generation())
                for document in added:
                    writer.add_document(_document(document))
                writer.add_document(marker)
                writer.commit()
                self._let_read()
                writer.wait_merging_threads()
                self._let_read()
                sync(self._folder)  # tantivy does so before it renames its meta.json, not after
            finally:
                del writer  # an error that is kept would keep it, and it tantivy's lock


def _searcher(index: tantivy.Index) -> LexicalSearcher:
    return LexicalSearcher(index.searcher(), is_of_before=index.schema != SCHEMA)


@contextmanager
def _links(folder: Path) -> Iterator[Path]:
    """A folder that can be written, with links to the files of one that cannot: whoever opens an
    index writes a lock file of its folder. A searcher has its files open, and does not need the
    links any more. Raises OSError."""
    links = Path(mkdtemp(prefix="rag-words-"))
    try:
        for file in folder.resolve().iterdir():
            if file.suffix != ".lock" and file.name != LISTS[1]:
                (links / file.name).symlink_to(file)
        yield links
    finally:
        # Twice: a thread of tantivy's looks at a new index once, and may lock it meanwhile.
        shutil.rmtree(links, ignore_errors=True)
        shutil.rmtree(links, ignore_errors=True)


def discard(folder: Path) -> None:
    """Delete an index. It is moved out of the way before: a reader that looks at it meanwhile, as a
    thread of tantivy's does at any that was just opened, would put its lock file into it."""
    aside = folder.with_name(f"{folder.name}.old")
    _delete(aside)
    if folder.exists():
        folder.rename(aside)
    _delete(aside)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """The files that the segments of meta.json must have, each with its segment. ValueError if that
    cannot be read."""
    try:
        segments = json.loads((folder / META).read_bytes())["segments"]
        return [(file, each) for each in segments for file in _segment_files(folder, each)]
    except (OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{META} cannot be read: {error}") from error


def _segment_files(folder: Path, segment: Mapping[str, Any]) -> Iterator[Path]:
    name = segment["segment_id"].replace("-", "")
    yield from (folder / f"{name}.{part}" for part in SEGMENT_PARTS)
    if segment.get("deletes"):
        yield folder / f"{name}.{segment['deletes']['opstamp']}.del"


def _faults(files: Iterable[tuple[Path, Mapping[str, Any]]]) -> Iterator[str]:
    """What is wrong with files of segments, in plain words."""
    for file, segment in files:
        if not file.exists():
            yield f"{file.name} is missing"
        elif not _as_written(file):
            yield f"{file.name} has changed since it was written"
        elif file.suffix == ".del" and not _counts(file, segment):
            yield f"{META} has changed since it was written"


def _counts(file: Path, segment: Mapping[str, Any]) -> bool:
    """Whether a list of the living has as many documents, and dead ones, as meta.json, which has no
    checksum, says of its segment: their number in four bytes, and a bit for each, 64 at a time."""
    data = file.read_bytes()
    count = int.from_bytes(data[:4], "little")
    alive = int.from_bytes(data[4 : 4 + -(-count // 64) * 8], "little").bit_count()
    stated = segment.get("max_doc"), segment["deletes"].get("num_deleted_docs")
    return stated == (count, count - alive)


def _as_written(file: Path) -> bool:
    """Whether a file has the checksum that tantivy put into its footer: JSON, whose length stands
    in the four bytes after it, before the last four."""
    try:
        data = np.memmap(file, mode="r").data
        end = len(data) - 8
        start = end - int.from_bytes(data[end : end + 4], "little")
        return bool(zlib.crc32(data[:start]) == json.loads(bytes(data[start:end]))["crc"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


@contextmanager
def _a_panic_is_an_error() -> Iterator[None]:
    """ValueError where tantivy panics, as on some flipped bits; a panic is no Exception."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise ValueError(str(error)) from None


@contextmanager
def _torn_is_named() -> Iterator[None]:
    """StorageFailed where tantivy cannot read its files, or reads nonsense."""
    try:
        with _a_panic_is_an_error():
            yield
    except (ValueError, TypeError, LookupError) as error:
        problem = f"it cannot be read: {error}. `rag rebuild` makes it anew"
        raise StorageFailed("lexical", problem) from None


def _marker(archive: str, generation: int) -> tantivy.Document:
    marker = tantivy.Document()
    marker.add_text("archive", archive)
    marker.add_unsigned("generation", generation)
    return marker


def _document(document: LexicalDocument) -> tantivy.Document:
    out = tantivy.Document()
    out.add_unsigned("passage", document.passage)
    out.add_unsigned("article", document.article)
    out.add_text("words", document.text)
    if document.source is not None:
        out.add_text("source", document.source)
    if document.first is not None and document.last is not None:
        out.add_integer("first", document.first)
        out.add_integer("last", document.last)
    return out


def _any_term(terms: Sequence[str]) -> Query:
    clauses = [(Occur.Should, Query.term_query(SCHEMA, "words", term, "freq")) for term in terms]
    return Query.boolean_query(clauses)


def _among(passages: list[int]) -> Query:
    if len(passages) > TERMS_MOST:
        return Query.term_set_query(SCHEMA, "passage", passages)
    each = [Query.term_query(SCHEMA, "passage", passage) for passage in passages]
    return Query.boolean_query([(Occur.Should, query) for query in each])


def _dead(passages: list[int]) -> Query:
    return Query.term_set_query(SCHEMA, "passage", passages)


def _any_generation() -> Query:
    return Query.range_query(SCHEMA, "generation", FieldType.Unsigned, 0, None)


def _of_no_weight(query: Query) -> Query:
    """A condition that leaves scores alone; a bare Must clause would add to them."""
    return Query.const_score_query(query, 0.0)


def _conditions(scope: Scope) -> list[tuple[Occur, Query]]:
    must: list[Query] = []
    if scope.source is not None:
        must.append(Query.term_set_query(SCHEMA, "source", list(scope.source)))
    if scope.first is not None:
        must.append(Query.range_query(SCHEMA, "last", FieldType.Integer, scope.first, None))
    if scope.last is not None:
        must.append(Query.range_query(SCHEMA, "first", FieldType.Integer, None, scope.last))
    if scope.article is not None:
        must.append(Query.term_set_query(SCHEMA, "article", list(scope.article)))
    clauses = [(Occur.Must, _of_no_weight(query)) for query in must]
    if scope.exclude_article:
        excluded = Query.term_set_query(SCHEMA, "article", list(scope.exclude_article))
        clauses.append((Occur.MustNot, excluded))
    return clauses
