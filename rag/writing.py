"""Changes to the database within one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from rag.dates import parse_iso
from rag.reading import Reading
from rag.schema import (
    ArticleDraft,
    PassageDraft,
    article_checksum,
    encoding_checksum,
    manifest_checksum,
    passage_checksum,
    removed_checksum,
    token_vectors_checksum,
)
from rag.types import Encoding


class Writing(Reading):
    """Changes within one transaction, and the questions of a writer about what it changes."""

    def set_manifest(self, values: Mapping[str, str]) -> None:
        """Set these entries of the manifest. One that has changed is damage, not to be covered."""
        checksum = manifest_checksum({**self.manifest(), **values})
        self._connection.executemany(
            "INSERT INTO manifest VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [*values.items(), ("checksum", checksum)],
        )

    def set_reindexing(self, reindexing: bool) -> None:
        """Say whether the lexical index is being made anew, which it is not fit for use until."""
        self.set_manifest({"reindexing": "yes" if reindexing else ""})

    def add_encodings(self, encodings: Mapping[bytes, Encoding]) -> None:
        """Store encodings by their keys; one that is there stays as it is."""
        rows, parts = [], []
        for key, encoding in encodings.items():
            vector = np.asarray(encoding.vector, dtype="<f4").tobytes()
            places = np.asarray(encoding.token_vectors.places, dtype="<u2").tobytes()
            codes = encoding.token_vectors.codes.tobytes()
            rows.append(
                (key, encoding.tokens, vector, encoding_checksum(key, encoding.tokens, vector))
            )
            parts.append((key, places, codes, token_vectors_checksum(key, places, codes)))
        self._connection.executemany(
            "INSERT OR IGNORE INTO encoding (key, tokens, vector, checksum) VALUES (?, ?, ?, ?)",
            rows,
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO token_vectors"
            " SELECT number, ?2, ?3, ?4 FROM encoding WHERE key = ?1",
            parts,
        )

    def add_article(self, draft: ArticleDraft, generation: int) -> int:
        """Store an article as born at `generation`, its predecessor dying there; its revision."""
        article = draft.article
        revision = self._end(article.id, generation) + 1
        period = parse_iso(article.published_at) if article.published_at else None
        number = self._connection.execute(
            "INSERT INTO article (id, revision, title, source, author, url, published_at, first,"
            " last, characters, sha256, checksum, born, text)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                article.id,
                revision,
                article.title,
                article.source,
                article.author,
                article.url,
                article.published_at,
                period.first if period else None,
                period.last if period else None,
                len(article.text),
                article.sha256,
                article_checksum(article),
                generation,
                article.text,
            ),
        ).lastrowid
        assert number is not None
        self._add_passages(number, draft.passages, generation)
        return revision

    def _add_passages(self, article: int, drafts: Sequence[PassageDraft], generation: int) -> None:
        rows = []
        for draft in drafts:
            span = draft.span
            marks = json.dumps(span.sentences, separators=(",", ":"))
            fixed = (article, span.start, span.end, span.tokens, marks)
            rows.append((*fixed, draft.key, passage_checksum(*fixed), generation))
        self._connection.executemany(
            'INSERT INTO passage (article, start, "end", tokens, sentences, encoding, checksum,'
            " born)"
            " VALUES (?, ?, ?, ?, ?, (SELECT number FROM encoding WHERE key = ?), ?, ?)",
            rows,
        )

    def remove_article(self, article_id: str, generation: int) -> None:
        """Let an article die at `generation`; `publish` then erases all its revisions."""
        revision = self._end(article_id, generation)
        self._connection.execute(
            "INSERT OR REPLACE INTO removed VALUES (?, ?, ?, ?)",
            (article_id, revision, generation, removed_checksum(article_id, revision, generation)),
        )

    def publish(self, generation: int) -> None:
        """Let readers see `generation`, and erase what only earlier ones saw and nothing cites.

        Texts of superseded revisions stay, so that their quotes can be verified; removed articles
        go with all their revisions, and encodings that no living passage has go too.
        """
        died = "SELECT encoding FROM passage WHERE died = ?"
        self._connection.execute(
            f"DELETE FROM encoding WHERE number IN ({died}) AND NOT EXISTS (SELECT 1 FROM passage p"
            " WHERE p.encoding = encoding.number AND p.died IS NULL)",
            (generation,),
        )
        self._connection.executemany(
            "DELETE FROM article WHERE died IS NOT NULL AND id = ?",
            [(each,) for each, _ in self._removed("generation = :g", g=generation)],
        )
        self.set_manifest({"published": str(generation)})

    def _end(self, article_id: str, generation: int) -> int:
        """Let the living revision of an article die; the greatest revision there ever was, or 0."""
        row = self._rows("SELECT max(revision) FROM article WHERE id = :id", id=article_id)
        revisions = [*row.fetchone(), *(at for _, at in self._removed("id = :id", id=article_id))]
        self._connection.execute(
            "UPDATE passage SET died = ? WHERE died IS NULL AND article ="
            " (SELECT number FROM article WHERE id = ? AND died IS NULL)",
            (generation, article_id),
        )
        self._connection.execute(
            "UPDATE article SET died = ? WHERE id = ? AND died IS NULL", (generation, article_id)
        )
        return max(each or 0 for each in revisions)
