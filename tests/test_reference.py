"""The reference encoder: sentence-transformers, without network, code or pickles of the model's."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rag.models import locate_model
from tests.tiny import linked_model
from tests.vectors import NEWS

if TYPE_CHECKING:
    from rag.reference import SentenceTransformerEncoder

pytestmark = pytest.mark.model


class Trap:
    """A pickle that leaves a mark when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.usefixtures("offline")
def test_no_connection_is_opened(reference: SentenceTransformerEncoder) -> None:
    from rag.reference import SentenceTransformerEncoder

    (passage,) = SentenceTransformerEncoder(locate_model()).encode_passages(NEWS[:1])
    (known,) = reference.encode_passages(NEWS[:1])
    assert np.array_equal(passage.vector, known.vector)


def test_pickled_weights_beside_a_model_are_not_opened(
    reference: SentenceTransformerEncoder, tmp_path: Path
) -> None:
    from rag.reference import SentenceTransformerEncoder

    folder = linked_model(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "opened")))
    encoder = SentenceTransformerEncoder(locate_model(str(folder)))
    found = encoder.encode_passages(NEWS[:1])[0].vector
    assert np.array_equal(found, reference.encode_passages(NEWS[:1])[0].vector)
    assert not (tmp_path / "opened").exists()
