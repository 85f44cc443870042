"""Fits the numbers that the package ships, on one half of the questions of collections.

    python eval/fit.py projection SET...   directions of token vectors, for rag/projection.npz
    python eval/fit.py sentences SET...    weights of a sentence's signals, for rag/evidence.py
    python eval/fit.py confidence SET...   coefficients for rag/confidence.py

A SET is a folder in BEIR form, or SET=INDEX where its index is kept or to be kept. One half of the
questions is fitted on and the other reported on: by the query's id, or by the title of the article
that answers it where documents share titles, being parts of one text.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from rag.abstention import auroc
from rag.archive import Archive
from rag.confidence import Signals, cues_met, signals
from rag.encode import load_encoder
from rag.evidence import Sentence
from rag.ingest import ingest
from rag.project import fitted_projection
from rag.rank import Ranking
from rag.searcher import Searcher
from rag.sets import EvaluationSet, open_set
from rag.types import Encoder, Filters

Column = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]

MAX_TEXT_BYTES = 20_000_000

SAMPLED = 300
"""Passages of each set whose token vectors directions are fitted to."""

PROJECTION = Path(__file__).parent.parent / "rag" / "projection.npz"

SIGNALS = ("covered", "said", "meaning", "kinds", "asked")

PENALTY = 1e-3

ARTICLES = (1, 2, 4, 6, 8, 12, 20, 40, 100, 400)
"""Sizes of the small archives that confidence is fitted to."""


@dataclass(frozen=True)
class Collection:
    """A set, the archive it is asked of, and what its queries say of their answers."""

    asked: EvaluationSet
    searcher: Searcher
    metadata: Mapping[str, Mapping[str, Any]]

    @cached_property
    def titles(self) -> dict[str, str]:
        """Titles by article id."""
        with self.searcher.archive.snapshot() as snapshot:
            return {head.id: head.title for head in snapshot.heads(limit=snapshot.counts()[0])}

    @cached_property
    def _shared(self) -> Counter[str]:
        return Counter(self.titles.values())

    def half(self, query_id: str) -> int:
        """0 is fitted on, 1 is reported on."""
        title = self.titles[self.relevant(query_id)[0]]
        return zlib.crc32((title if self._shared[title] > 2 else query_id).encode()) % 2

    def relevant(self, query_id: str) -> list[str]:
        """Ids of the articles that answer a query and are there."""
        judged = self.asked.qrels[query_id]
        return [each for each, grade in judged.items() if grade > 0 and each in self.titles]

    def queries(self, half: int) -> list[str]:
        """Ids of the judged queries of one half."""
        return [q for q in self.asked.queries if self.relevant(q) and self.half(q) == half]

    def answers(self, query_id: str, article: str, start: int, end: int, text: str) -> bool:
        """Whether a sentence answers; by its article alone where the set says nothing closer."""
        if article not in self.relevant(query_id):
            return False
        known = self.metadata[query_id].get("answers")
        if not known:
            return True
        if isinstance(known[0], Mapping):  # spans in the passage, as SQuAD has them
            return any(
                start <= a["answer_start"] and a["answer_start"] + len(a["text"]) <= end
                for a in known
            )
        return any(re.search(rf"(?<!\w){re.escape(a)}(?!\w)", text, re.IGNORECASE) for a in known)


@dataclass(frozen=True, slots=True)
class Case:
    """The sentences read for a question, the scores of their passages, and which of them answer."""

    sentences: Sequence[Sentence]
    passages: Column
    right: npt.NDArray[np.bool_]


def cases(collection: Collection, half: int) -> Iterator[Case]:
    """Every question of one half for which an answering sentence was read."""
    for query_id in collection.queries(half):
        ranking = _ranked(collection, query_id)
        found, scores, right = [], [], []
        for place, read in ranking.read.items():
            base, text = read.passage.span.start, read.passage.text
            for each in read.found:
                sentence = text[each.start - base : each.end - base]
                span = (each.start, each.end, sentence)
                found.append(each)
                scores.append(float(ranking.late[place]))
                right.append(collection.answers(query_id, read.article.id, *span))
        if any(right):
            yield Case(found, np.array(scores), np.array(right))


def fit_sentences(collections: Mapping[str, Collection]) -> None:
    """Conditional logit: among all sentences read for a question, which one answers it.

    McFadden 1974. Weights are given in units of a passage's score.
    """
    fitted: list[Case] = []
    for collection in collections.values():
        some = list(cases(collection, 0))
        fitted += some * max(1, 500 // max(1, len(some)))
    rows = [np.column_stack([each.passages, _signals(each.sentences)]) for each in fitted]
    ends = np.cumsum([len(each) for each in rows])
    starts = np.concatenate([[0], ends[:-1]])
    together, right = np.concatenate(rows), np.concatenate([each.right for each in fitted])
    spread = together.std(axis=0)
    scaled, lengths = together / spread, np.diff(np.append(starts, len(together)))

    def loss(weights: Column) -> tuple[float, Column]:
        scores = scaled @ weights
        chances = np.exp(scores - np.repeat(np.maximum.reduceat(scores, starts), lengths))
        whole, part = np.add.reduceat(chances, starts), np.add.reduceat(chances * right, starts)
        pull = chances / np.repeat(whole, lengths) - chances * right / np.repeat(part, lengths)
        gradient = scaled.T @ pull / len(starts) + 2 * PENALTY * weights
        return float(np.log(whole / part).mean() + PENALTY * weights @ weights), gradient

    weights = minimize(loss, np.zeros(scaled.shape[1]), jac=True, method="L-BFGS-B").x / spread
    print(f"SHARPNESS = {weights[0]:.2f}")
    for name, weight in zip(SIGNALS, weights[1:] / weights[0], strict=True):
        print(f"{name.upper()} = {weight:.3f}")
    for name, collection in collections.items():
        unseen = list(cases(collection, 1))
        first = [each.right[_best(each, weights)] for each in unseen]
        print(f"{name}: {np.mean(first):.3f} of {len(first)} right sentences first (half 1)")


def fit_confidence(collections: Mapping[str, Collection]) -> None:
    """Logistic regression: does the first quote answer, asked as it is and without the answer."""
    seen = {name: list(_labelled(each, 0)) for name, each in collections.items()}
    names = list(Signals.__dataclass_fields__)
    matrix = np.array([list(asdict(s).values()) for some in seen.values() for s, _, _ in some])
    right = np.array([label for some in seen.values() for _, label, _ in some], dtype=np.float64)
    # Between one voice for each question and one for each collection.
    voice = np.concatenate([np.full(len(some), len(some) ** -0.5) for some in seen.values()])
    mean, spread = matrix.mean(axis=0), matrix.std(axis=0) + 1e-9
    scaled, voice = (matrix - mean) / spread, voice / voice.sum()

    def loss(weights: Column) -> tuple[float, Column]:
        scores = scaled @ weights[1:] + weights[0]
        pull = voice * (1 / (1 + np.exp(-scores)) - right)
        penalised = np.concatenate([[0.0], weights[1:]])
        value = float(
            voice @ (np.logaddexp(0, scores) - right * scores) + PENALTY * penalised @ penalised
        )
        return value, np.concatenate([[pull.sum()], scaled.T @ pull]) + 2 * PENALTY * penalised

    found = minimize(loss, np.zeros(scaled.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weights = found[1:] / spread
    intercept = found[0] - mean @ weights
    for name, weight in zip(names, weights, strict=True):
        print(f'    "{name}": {weight:.3f},')
    print(f"INTERCEPT = {intercept:.3f}")
    for name, collection in collections.items():
        unseen = list(_labelled(collection, 1))
        values = np.array([list(asdict(s).values()) for s, _, _ in unseen])
        sure = 1 / (1 + np.exp(-(values @ weights + intercept)))
        _report(name, sure, unseen)


def _report(name: str, sure: Column, unseen: Sequence[tuple[Signals, bool, bool]]) -> None:
    right = [label for _, label, _ in unseen]
    there = [present for _, _, present in unseen]
    print(
        f"{name}: AUROC answerable {auroc(sure.tolist(), there):.3f}, right"
        f" {auroc(sure.tolist(), right):.3f}; mean {sure.mean():.3f}, right {np.mean(right):.3f};"
        f" answered at .5: {np.mean(sure[there] >= 0.5):.3f} with, "
        f"{np.mean(sure[~np.array(there)] >= 0.5):.3f} without the answer (half 1)"
    )


def _labelled(collection: Collection, half: int) -> Iterator[tuple[Signals, bool, bool]]:
    """Signals of the first quote, whether it answers, and whether an answer was there.

    Each question is asked of all articles and of a few, with what answers it and without. Among
    the few are some that are near the question: a small archive is about few things.
    """
    random = np.random.default_rng(half)
    with collection.searcher.archive.snapshot() as snapshot:
        every = [head.id for head in snapshot.heads(limit=snapshot.counts()[0])]
    for query_id in collection.queries(half):
        relevant = collection.relevant(query_id)
        without = Filters(exclude_article_id=tuple(relevant))
        near = _nearest(collection, query_id, without)
        few = [each for each in random.choice(every, ARTICLES[-1]) if each not in relevant]
        for there in (True, False):
            beside = near[: int(random.integers(3) if there else random.integers(1, 3))]
            number = int(random.choice(ARTICLES))
            some = [*beside, *few][: number - 1] if there else [*beside, *few][:number]
            answering = [str(random.choice(relevant))] if there else []
            small = Filters(article_id=(*some, *answering))
            for filters in (Filters() if there else without, small):
                yield from _signalled(collection, query_id, filters, there)


def _nearest(collection: Collection, query_id: str, filters: Filters) -> list[str]:
    """Ids of the two best articles."""
    ranking = _ranked(collection, query_id, filters)
    numbers = list(dict.fromkeys(ranking.articles[ranking.order].tolist()))[:2]
    with collection.searcher.archive.snapshot() as snapshot:
        ids = snapshot.article_ids(numbers)
    return [ids[number] for number in numbers]


def _signalled(
    collection: Collection, query_id: str, filters: Filters, there: bool
) -> Iterator[tuple[Signals, bool, bool]]:
    ranking = _ranked(collection, query_id, filters)
    with collection.searcher.archive.snapshot() as snapshot:
        found = signals(snapshot, ranking)
        if found is None or not cues_met(snapshot, ranking):
            return
    read = ranking.read[int(ranking.order[0])]
    if read.quoted is not None:
        start, end = read.quoted
        base = read.passage.span.start
        span = (start, end, read.passage.text[start - base : end - base])
        yield found, there and collection.answers(query_id, read.article.id, *span), there


def fit_projection(collections: Mapping[str, Collection]) -> None:
    """Principal directions of a sample of each set's token vectors, written into the package."""
    encoder = load_encoder()
    drawn = []
    for collection in collections.values():
        with collection.searcher.archive.snapshot() as snapshot:
            alive = np.flatnonzero(snapshot.columns.alive)
            some = np.random.default_rng(0).choice(alive, min(SAMPLED, len(alive)), replace=False)
            stored = snapshot.passages(sorted(some.tolist()))
        texts = [f"{head.title[:200]}\n{passage.text}".strip() for passage, head in stored.values()]
        drawn.append(encoder.uncompressed(texts))
    least = min(map(len, drawn))
    found = fitted_projection(np.concatenate([each[:: len(each) // least] for each in drawn]))
    parts = {
        "mean": found.mean,
        "basis": found.basis.astype(np.float16),
        "deviation": found.deviation,
    }
    np.savez_compressed(PROJECTION, **parts)
    print(
        f"{PROJECTION}: {len(found.deviation)} directions of {sum(map(len, drawn))} token vectors"
    )


def _ranked(collection: Collection, query_id: str, filters: Filters | None = None) -> Ranking:
    searcher = collection.searcher
    with searcher.archive.snapshot() as snapshot:
        return searcher.rank(
            snapshot,
            collection.asked.queries[query_id],
            filters or Filters(),
            asked_at=collection.asked.asked_at.get(query_id),
        )


def _signals(sentences: Sequence[Sentence]) -> Matrix:
    return np.array([[getattr(each, name) for name in SIGNALS] for each in sentences])


def _best(case: Case, weights: Column) -> int:
    return int((np.column_stack([case.passages, _signals(case.sentences)]) @ weights).argmax())


def opened(path: Path, index: Path, encoder: Encoder) -> Collection:
    """The collection at `path`, indexed at `index`."""
    asked = open_set(path, None, max_text_bytes=MAX_TEXT_BYTES)
    archive = Archive(index)
    ingest(archive, encoder, asked.articles)
    file = next(file for file in path.glob("queries.jsonl*"))
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as stream:
        records = [json.loads(line) for line in stream if line.strip()]
    metadata = {str(record["_id"]): record.get("metadata") or {} for record in records}
    return Collection(asked, Searcher(archive, encoder), metadata)


FITS: Mapping[str, Callable[[Mapping[str, Collection]], None]] = {
    "projection": fit_projection,
    "sentences": fit_sentences,
    "confidence": fit_confidence,
}


def main(what: str, *sets: str) -> None:
    """Open the sets and fit."""
    encoder = load_encoder()
    with tempfile.TemporaryDirectory(prefix="rag-fit-") as temporary:
        collections = {}
        for each in sets:
            folder, _, index = each.partition("=")
            name = Path(folder).name
            print(f"opening {name}", file=sys.stderr)
            collections[name] = opened(Path(folder), Path(index or f"{temporary}/{name}"), encoder)
        FITS[what](collections)


if __name__ == "__main__":
    main(*sys.argv[1:])
