"""What all tests share: the real model, loaded once, and no deadline for a property."""

from __future__ import annotations

import pytest
from hypothesis import settings

from rag.encode import SentenceTransformerEncoder, load_encoder

settings.register_profile("rag", deadline=None)
settings.load_profile("rag")


@pytest.fixture(scope="session")
def real_encoder() -> SentenceTransformerEncoder:
    """The default model, for tests marked `model`."""
    encoder = load_encoder()
    encoder.warm()
    return encoder
