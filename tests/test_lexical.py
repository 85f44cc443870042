"""Search by words: BM25 by the book, exact filters, and a query of any text."""

from __future__ import annotations

import math
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag import lexical
from rag.errors import StorageFailed
from rag.lexical import (
    HELD,
    LONGEST_WORD,
    SCHEMA,
    STOP_WORDS,
    Analyzer,
    LexicalDocument,
    LexicalIndex,
    LexicalSearcher,
    Scope,
    discard,
)
from tests.folders import temporary_folder

ANALYZER = Analyzer()
EVERYTHING = Scope()
NAME = "0af3"

SCOPES = [
    Scope(source=("Herald",)),
    Scope(source=("Herald", "", "nobody")),
    Scope(source=()),
    Scope(first=0),
    Scope(last=-1),
    Scope(first=-50, last=50),
    Scope(first=20, last=20),
    Scope(article=(1, 3, 5, 77)),
    Scope(article=()),
    Scope(exclude_article=(2, 4, 77)),
    Scope(source=("Courier", "Herald"), first=-80, article=tuple(range(9)), exclude_article=(3,)),
]


def document(passage: int, text: str, **fields: object) -> LexicalDocument:
    values = {"article": passage, "source": None, "first": None, "last": None, **fields}
    return LexicalDocument(passage=passage, text=text, **values)  # type: ignore[arg-type]


@contextmanager
def index_of(documents: Sequence[LexicalDocument]) -> Iterator[LexicalSearcher]:
    with temporary_folder() as folder:
        index = LexicalIndex(Path(folder) / "lexical")
        index.rebuild(NAME, 1, documents)
        yield index.searcher()


def bm25(texts: Sequence[str], terms: Sequence[str]) -> list[float]:
    """Scores by the formula, k1 = 1.2 and b = 0.75. The marker counts as a text without words."""
    bags = [Counter(term.text for term in ANALYZER.terms(text)) for text in texts]
    count = len(bags) + 1
    average = sum(bag.total() for bag in bags) / count
    scores = []
    for bag in bags:
        norm = 1.2 * (1 - 0.75 + 0.75 * bag.total() / average) if average else 1.0
        score = 0.0
        for term in terms:
            holding = sum(term in other for other in bags)
            idf = math.log(1 + (count - holding + 0.5) / (holding + 0.5))
            score += idf * 2.2 * bag[term] / (bag[term] + norm)
        scores.append(score)
    return scores


def ranked(searcher: LexicalSearcher, terms: Sequence[str], scope: Scope) -> dict[int, float]:
    numbers, scores = searcher.search(terms, 1000, scope)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)
    return dict(zip(numbers.tolist(), scores.tolist(), strict=True))


VOCABULARY = ["flood", "river", "storm", "levee", "mayor", "budget", "vote", "ant"]
WORDS = st.lists(st.sampled_from(VOCABULARY))
SHORT_TEXTS = st.lists(WORDS.map(" ".join), min_size=1, max_size=30)


@settings(max_examples=15, deadline=None)
@given(texts=SHORT_TEXTS, question=WORDS)
def test_scores_are_bm25(texts: list[str], question: list[str]) -> None:
    terms = ANALYZER.question_terms(" ".join(question))
    with index_of([document(at, text) for at, text in enumerate(texts, start=1)]) as searcher:
        found = ranked(searcher, terms, EVERYTHING)
    expected = {at: score for at, score in enumerate(bm25(texts, terms), start=1) if score > 0}
    assert found == pytest.approx(expected, rel=1e-5)


def test_scores_are_bm25_but_for_the_rounding_of_long_passages() -> None:
    random = np.random.default_rng(1)
    vocabulary = [f"word{number}x" for number in range(60)]
    texts = [" ".join(random.choice(vocabulary, size)) for size in random.integers(20, 400, 200)]
    terms = vocabulary[:3]
    with index_of([document(at, text) for at, text in enumerate(texts, start=1)]) as searcher:
        found = ranked(searcher, terms, EVERYTHING)
    expected = {at: score for at, score in enumerate(bm25(texts, terms), start=1) if score > 0}
    assert found == pytest.approx(expected, rel=0.06)


def test_only_the_best_are_given_and_of_equal_ones_the_first() -> None:
    documents = [document(at, "storm") for at in range(1, 31)] + [document(31, "storm storm")]
    with index_of(documents) as searcher:
        assert searcher.search(["storm"], 4, EVERYTHING)[0].tolist() == [31, 1, 2, 3]


@pytest.mark.parametrize("terms", [[], ["nothing"], ["nothing", "at", "all"]])
def test_no_word_in_common_is_no_hit(terms: list[str]) -> None:
    with index_of([document(1, "storm")]) as searcher:
        assert ranked(searcher, terms, EVERYTHING) == {}
        assert searcher.score(terms, np.array([1])).tolist() == [0.0]


@pytest.fixture(name="news", scope="module")
def _news() -> list[LexicalDocument]:
    random = np.random.default_rng(2)
    sources = ["Herald", "Courier", "", None, "herald", "The Herald"]
    found = []
    for number in range(1, 301):
        first = int(random.integers(-100, 100)) if random.random() < 0.8 else None
        found.append(
            LexicalDocument(
                passage=number,
                article=int(random.integers(1, 10)),
                source=sources[random.integers(len(sources))],
                first=first,
                last=None if first is None else first + int(random.integers(0, 30)),
                text=" ".join(random.choice(VOCABULARY, random.integers(1, 30))),
            )
        )
    return found


@pytest.fixture(name="searcher", scope="module")
def _searcher(news: list[LexicalDocument]) -> Iterator[LexicalSearcher]:
    with index_of(news) as searcher:
        yield searcher


def passes(scope: Scope, item: LexicalDocument) -> bool:
    dated = item.first is not None and item.last is not None
    return (
        (scope.source is None or item.source in scope.source)
        and (scope.first is None or (dated and (item.last or 0) >= scope.first))
        and (scope.last is None or (dated and (item.first or 0) <= scope.last))
        and (scope.article is None or item.article in scope.article)
        and item.article not in scope.exclude_article
    )


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_a_filter_lets_through_just_what_it_says_and_changes_no_score(
    news: list[LexicalDocument], searcher: LexicalSearcher, scope: Scope
) -> None:
    terms = ["flood", "ant", "vote"]
    everything = ranked(searcher, terms, EVERYTHING)
    expected = {
        item.passage: everything[item.passage]
        for item in news
        if item.passage in everything and passes(scope, item)
    }
    assert ranked(searcher, terms, scope) == expected


@pytest.mark.parametrize("scope", SCOPES, ids=str)
def test_a_filtered_search_is_as_deep_as_an_unfiltered_one(
    news: list[LexicalDocument], searcher: LexicalSearcher, scope: Scope
) -> None:
    everything = list(ranked(searcher, ["storm", "river"], scope).items())
    numbers, scores = searcher.search(["storm", "river"], 7, scope)
    assert list(zip(numbers.tolist(), scores.tolist(), strict=True)) == everything[:7]


@pytest.mark.parametrize("terms_most", [119, 120])
def test_a_score_is_that_of_the_search(
    news: list[LexicalDocument],
    searcher: LexicalSearcher,
    terms_most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By either kind of query."""
    monkeypatch.setattr(lexical, "TERMS_MOST", terms_most)
    terms = ["flood", "budget"]
    everything = ranked(searcher, terms, EVERYTHING)
    numbers = np.random.default_rng(3).permutation(np.arange(1, 301))[:120]
    scores = searcher.score(terms, numbers)
    assert scores.tolist() == [everything.get(number, 0.0) for number in numbers.tolist()]
    assert 0 < np.count_nonzero(scores == 0) < 120
    assert searcher.score(terms, numbers[:0]).tolist() == []


def test_the_index_knows_what_it_holds(
    news: list[LexicalDocument], searcher: LexicalSearcher
) -> None:
    assert searcher.documents == 300
    assert searcher.passage_numbers().tolist() == list(range(1, 301))
    assert searcher.frequency("storm") == sum("storm" in item.text.split() for item in news)
    assert searcher.frequency("nothing") == 0


# What is a term, and what a query


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Floods flooded FLOODING", ["flood", "flood", "flood"]),
        ("Café naïve Ångström", ["cafe", "naiv", "angstrom"]),
        ("U.S. don't 3.5", ["u", "s", "don", "t", "3", "5"]),
        ("Ελλάδα Київ 東京", ["ελλάδα", "київ", "東京"]),
        ("a" * (LONGEST_WORD - 1) + " " + "a" * LONGEST_WORD, ["a" * (LONGEST_WORD - 1)]),
        ("\0nul\0", ["nul"]),
        ("", []),
        (" ,.;- \n", []),
    ],
)
def test_the_terms_of_a_text(text: str, terms: list[str]) -> None:
    assert [term.text for term in ANALYZER.terms(text)] == terms


ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from('aé漢🜁\ud800\udfff\0"()[]{}:+-*?~^\\/ \n')
)


@given(ANY_TEXT)
@example("\ud83d\ude00 flood \ud800")
def test_a_term_stands_where_it_says(text: str) -> None:
    end = 0
    for term in ANALYZER.terms(text):
        assert end <= term.start < term.end <= len(text)
        assert not any(character.isspace() for character in text[term.start : term.end])
        end = term.end
    outside = ANALYZER.terms("🜁 flood\ud800 levee")
    assert [(term.text, term.start, term.end) for term in outside] == [
        ("flood", 2, 7),
        ("leve", 9, 14),
    ]


def test_stop_words_are_left_out_of_a_question_unless_it_has_no_other() -> None:
    assert ANALYZER.question_terms("Who was warned of the FLOODS, and of the flood?") == [
        "warn",
        "flood",
    ]
    assert ANALYZER.question_terms("who was it") == ["who", "was", "it"]
    assert "to" in STOP_WORDS
    assert ANALYZER.question_terms("to be to be") == ["to", "be"]
    assert ANALYZER.question_terms("?!") == []


@settings(max_examples=150, deadline=None)
@given(text=ANY_TEXT)
@example(text='words:flood AND (river OR "storm surge"~2) -levee +mayor^3 [a TO z] {* TO 5}')
@example(text="passage:1 generation:[0 TO *] *:* /fl.*d/ IN [flood] flood* ~flood \\")
@example(text="\0" * 300)
@example(text="\ud800\udc00 \udfff")
def test_any_text_is_a_safe_query(searcher: LexicalSearcher, text: str) -> None:
    terms = ANALYZER.question_terms(text)
    numbers, scores = searcher.search(terms, 10, EVERYTHING)
    assert len(numbers) <= 10
    assert (scores > 0).all()
    assert searcher.score(terms, numbers).tolist() == scores.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "flood " * 17_000,
        "flood" * 20_000,
        "".join(f"{number:x} " for number in range(20_000)),
        "(" * 100_000,
        "\ud800" * 100_000,
        "漢" * 100_000,
    ],
    ids=["one word", "one long run", "many words", "syntax", "surrogates", "no spaces"],
)
def test_a_query_of_a_hundred_thousand_characters_is_safe(
    searcher: LexicalSearcher, text: str
) -> None:
    terms = ANALYZER.question_terms(text)
    assert len(searcher.search(terms, 10, EVERYTHING)[0]) == (10 if "flood " in text else 0)


@pytest.mark.parametrize("query", ["words:flood", "flood OR nothing", "+flood -nothing", "fl*"])
def test_query_syntax_is_words(searcher: LexicalSearcher, query: str) -> None:
    everything = ranked(searcher, ANALYZER.question_terms("flood"), EVERYTHING)
    found = ranked(searcher, ANALYZER.question_terms(query), EVERYTHING)
    assert found == (everything if "flood" in query else {})


# Commits


@pytest.fixture(name="index")
def _index(tmp_path: Path) -> LexicalIndex:
    index = LexicalIndex(tmp_path / "lexical")
    index.rebuild(NAME, 1, [document(number, f"storm number{number}") for number in range(1, 6)])
    return index


def found(index: LexicalIndex) -> list[int]:
    return sorted(index.searcher().search(["storm"], 100, EVERYTHING)[0].tolist())


def test_a_commit_adds_removes_and_counts_at_once(index: LexicalIndex) -> None:
    before = index.searcher()
    index.commit(NAME, 2, [document(6, "storm")], [2, 4])
    assert (index.searcher().generation, found(index)) == (2, [1, 3, 5, 6])
    assert index.searcher().documents == 4
    assert before.generation == 1
    assert sorted(before.search(["storm"], 100, EVERYTHING)[0].tolist()) == [1, 2, 3, 4, 5]


def test_another_reader_sees_a_commit_when_it_looks_again(
    index: LexicalIndex, tmp_path: Path
) -> None:
    other = LexicalIndex(tmp_path / "lexical")
    assert other.searcher().generation == 1
    index.commit(NAME, 2, [document(6, "storm")], [])
    assert (other.searcher().generation, found(other)) == (2, [1, 2, 3, 4, 5, 6])


def test_a_rebuild_is_seen_by_readers_that_had_the_index_open(
    index: LexicalIndex, tmp_path: Path
) -> None:
    other = LexicalIndex(tmp_path / "lexical")
    before = other.searcher()
    index.rebuild(NAME, 9, [document(7, "storm")])
    assert (other.searcher().generation, found(other)) == (9, [7])
    assert len(before.search(["storm"], 100, EVERYTHING)[0]) == 5


@pytest.mark.parametrize("number", [1, 2**31, 2**53 + 1, 2**63 - 1])
def test_numbers_of_any_size_are_kept_and_removed(tmp_path: Path, number: int) -> None:
    index = LexicalIndex(tmp_path / "lexical")
    index.rebuild(NAME, number, [document(number, "storm")])
    assert (index.searcher().generation, found(index)) == (number, [number])
    assert index.searcher().score(["storm"], np.array([number]))[0] > 0
    index.commit(NAME, number, [], [number])
    assert found(index) == []


def test_many_small_commits_hold_what_one_holds(tmp_path: Path) -> None:
    many, one = LexicalIndex(tmp_path / "many"), LexicalIndex(tmp_path / "one")
    texts = {number: f"storm {'flood ' * (number % 4)}" for number in range(1, 13)}
    many.rebuild(NAME, 0, [])
    for number, text in texts.items():
        many.commit(NAME, number, [document(number, text)], [])
    one.rebuild(NAME, 12, [document(number, text) for number, text in texts.items()])
    first, second = many.searcher(), one.searcher()
    assert first.generation == second.generation == 12
    assert first.documents == second.documents == 12
    assert first.passage_numbers().tolist() == second.passage_numbers().tolist()
    assert first.frequency("flood") == second.frequency("flood") == 9
    for term in ("storm", "flood"):
        assert ranked(first, [term], EVERYTHING).keys() == ranked(second, [term], EVERYTHING).keys()


def test_an_emptied_index_finds_nothing_and_can_be_filled_again(index: LexicalIndex) -> None:
    index.commit(NAME, 2, [], range(1, 6))
    searcher = index.searcher()
    assert (searcher.generation, searcher.documents) == (2, 0)
    assert found(index) == []
    assert searcher.passage_numbers().tolist() == []
    assert searcher.score(["storm"], np.array([1, 2])).tolist() == [0.0, 0.0]
    index.commit(NAME, 3, [document(6, "storm")], [])
    assert found(index) == [6]


def test_a_commit_that_fails_halfway_changes_nothing(index: LexicalIndex) -> None:
    def documents() -> Iterator[LexicalDocument]:
        yield document(6, "storm")
        raise KeyError("the reading behind it failed")

    with pytest.raises(KeyError) as caught:
        index.commit(NAME, 2, documents(), [1])
    assert caught.traceback
    assert (index.searcher().generation, found(index)) == (1, [1, 2, 3, 4, 5])
    index.commit(NAME, 2, [document(7, "storm")], [1])
    assert (index.searcher().generation, found(index)) == (2, [2, 3, 4, 5, 7])


def test_two_writers_at_once_are_an_error_of_storage(index: LexicalIndex, tmp_path: Path) -> None:
    def documents() -> Iterator[LexicalDocument]:
        yield document(6, "storm")
        with pytest.raises(StorageFailed):
            LexicalIndex(tmp_path / "lexical").commit(NAME, 2, [], [])

    index.commit(NAME, 2, documents(), [])
    assert found(index) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("missing", ["", "meta.json", "*.idx", "*.term", "*.fast", "*.store"])
def test_an_index_with_a_part_missing_cannot_be_opened_and_can_be_rebuilt(
    index: LexicalIndex, tmp_path: Path, missing: str
) -> None:
    folder = tmp_path / "lexical"
    for file in list(folder.glob(missing)) if missing else [folder]:
        discard(file) if file.is_dir() else file.unlink()
    other = LexicalIndex(folder)
    with pytest.raises(ValueError, match="the lexical index cannot be opened"):
        other.searcher()
    other.rebuild(NAME, 4, [document(1, "storm")])
    assert (other.searcher().generation, found(other)) == (4, [1])


def test_a_missing_file_is_named_though_the_index_opens(
    index: LexicalIndex, tmp_path: Path
) -> None:
    assert index.damaged() == []
    (file,) = (tmp_path / "lexical").glob("*.pos")
    file.unlink()
    assert index.damaged() == [f"{file.name} is missing"]


def test_a_folder_elsewhere_is_left_and_no_longer_used_when_all_is_made_anew(
    index: LexicalIndex, tmp_path: Path
) -> None:
    folder, elsewhere = tmp_path / "lexical", tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    for _ in range(2):
        index.rebuild(NAME, 4, [document(1, "storm")])
        assert found(index) == [1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere", "lexical"]


def test_a_folder_that_is_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lexical").write_text("not a folder")
    index = LexicalIndex(tmp_path / "lexical")
    with pytest.raises(ValueError, match="cannot be opened"):
        index.searcher()
    index.rebuild(NAME, 1, [document(1, "storm")])
    assert found(index) == [1]


def test_an_index_of_other_fields_cannot_be_opened(tmp_path: Path) -> None:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("words")
    (tmp_path / "lexical").mkdir()
    tantivy.Index(builder.build(), path=str(tmp_path / "lexical"))
    with pytest.raises(ValueError, match="it has other fields"):
        LexicalIndex(tmp_path / "lexical").searcher()


def test_the_marker_names_archive_and_generation(index: LexicalIndex, tmp_path: Path) -> None:
    assert (index.searcher().archive, index.searcher().generation) == (NAME, 1)
    empty = tantivy.Index(SCHEMA, path=str(tmp_path))
    assert LexicalSearcher(empty.searcher()).generation == 0


def test_flipped_bits_are_never_more_than_an_error_of_ours(
    index: LexicalIndex, tmp_path: Path
) -> None:
    """tantivy panics on some of them, which is no Exception."""
    folder = tmp_path / "lexical"
    errors = 0
    for file in sorted(folder.glob("*.*")):
        data = file.read_bytes()
        for at in range(0, len(data), 29 if file.name == "meta.json" else 3):
            replace(file, data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            try:
                searcher = LexicalIndex(folder).searcher()
                searcher.search(["storm"], 10, Scope(first=3))
                searcher.score(["storm"], searcher.passage_numbers())
            except (ValueError, StorageFailed):
                errors += 1
        replace(file, data)
    assert errors > 0
    assert found(LexicalIndex(folder)) == [1, 2, 3, 4, 5]


def largest(folder: Path, part: str) -> Path:
    return max(folder.glob(f"*.{part}"), key=lambda file: file.stat().st_size)


def flip(file: Path, at: int, bit: int = 2) -> None:
    data = file.read_bytes()
    replace(file, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])


def commit_until_merged(index: LexicalIndex, folder: Path) -> None:
    """tantivy merges eight segments."""
    merged = largest(folder, "fieldnorm")
    for number in range(100, 110):
        index.commit(NAME, number, [document(number, "storm")], [])
        if not merged.exists():
            return
    raise AssertionError("nothing was merged")


@pytest.mark.parametrize("links", [True, False])
def test_what_was_made_of_damaged_files_is_no_commit_to_keep(
    index: LexicalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Its own files have right checksums."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    folder = tmp_path / "lexical"
    file = largest(folder, "fieldnorm")
    flip(file, 0)
    with pytest.raises(StorageFailed, match=file.name):
        commit_until_merged(index, folder)
    assert index.damaged()
    with pytest.raises(StorageFailed, match=file.name):
        index.commit(NAME, 200, [], [])
    index.rebuild(NAME, 200, [])
    assert index.damaged() == []


def test_after_a_killed_commit_all_files_are_looked_at(index: LexicalIndex, tmp_path: Path) -> None:
    """Damage may have killed it."""
    folder = tmp_path / "lexical"
    (folder / HELD).mkdir()
    index.require_no_killed_commit()
    assert not (folder / HELD).exists()
    (folder / HELD).mkdir()
    flip(largest(folder, "fieldnorm"), 0)
    for call in (index.require_no_killed_commit, lambda: index.commit(NAME, 2, [], [])):
        with pytest.raises(StorageFailed, match="fieldnorm has changed"):
            call()


def no_links(*_: object) -> None:
    raise PermissionError("no links here")


@pytest.mark.parametrize("links", [True, False])
def test_sound_files_are_merged_and_nothing_is_left_of_them(
    index: LexicalIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    commit_until_merged(index, tmp_path / "lexical")
    assert index.damaged() == []
    assert not (tmp_path / "lexical" / HELD).exists()
    assert found(index)[:5] == [1, 2, 3, 4, 5]


def test_a_damaged_list_of_the_dead_is_not_written_on(index: LexicalIndex, tmp_path: Path) -> None:
    index.commit(NAME, 2, [], [1])
    file = largest(tmp_path / "lexical", "del")
    flip(file, 4, bit=3)
    with pytest.raises(StorageFailed, match=file.name):
        index.commit(NAME, 3, [], [2])


def replace(file: Path, data: bytes) -> None:
    """A file that is mapped into memory must not shrink: put another in its place."""
    other = file.with_name("other")
    other.write_bytes(data)
    other.replace(file)


def test_readers_may_look_while_the_index_is_made_anew(index: LexicalIndex, tmp_path: Path) -> None:
    done = threading.Event()
    seen: set[tuple[int, ...]] = set()

    def look() -> None:
        other = LexicalIndex(tmp_path / "lexical")
        while not done.is_set():
            with suppress(ValueError):
                seen.add(tuple(found(other)))

    with ThreadPoolExecutor(2) as threads:
        looks = [threads.submit(look) for _ in range(2)]
        try:
            for generation in range(2, 12):
                index.rebuild(NAME, generation, [document(1, "storm"), document(2, "storm")])
        finally:
            done.set()
        for each in looks:
            each.result()
    assert seen <= {(1, 2, 3, 4, 5), (1, 2), ()}
    assert found(index) == [1, 2]


def test_what_a_killed_writer_left_does_not_keep_the_next_from_writing(tmp_path: Path) -> None:
    folder, before = tmp_path / "lexical", tmp_path / "before"
    more = [document(3, "three")]
    index = LexicalIndex(folder)
    index.rebuild("archive", 1, [document(1, "one"), document(2, "two")])
    shutil.copytree(folder, before)
    index.commit("archive", 2, more, [1])
    # Killed before the commit's last step: its list of the dead is there, named by its number.
    for left in [*folder.glob("*.del"), folder / ".managed.json"]:
        shutil.copy(left, before)
    again = LexicalIndex(before)
    again.commit("archive", 2, more, [1])
    assert again.searcher().passage_numbers().tolist() == [2, 3]
