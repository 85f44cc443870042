"""Texts that are hard to encode, and how near two matrices of vectors are."""

from __future__ import annotations

from typing import Any

import numpy as np

NEWS = [
    "The envoy warned the Security Council that terrorism may spill over.",
    "Rain.",
    "",
    "Preço do café subiu; o governo não comentou.",
    " ".join(f"Paragraph {n} of a long report on the price of bread." for n in range(20)),
    "👩\u200d👩\u200d👧 🇺🇸",
    "他说了这句话。",
    "[SEP] [CLS] [MASK] [PAD]",
]

PLACED = [
    "The giraffe saw a volcano. Parliament heard a saxophone; then came the marathon.",
    "👩\u200d👩\u200d👧 🇺🇸 giraffe 🦠 volcano, (parliament) “saxophone” 🔥 marathon 🔥",
    "Café naïve ﬁre Straße Ⅷ giraffe: préço volcano — parliament’s saxophone, e\u0323 marathon",
    "قال الرئيس giraffe إن volcano و parliament ثم saxophone. تحذير marathon",
    "الأمطار هطلت\nThe giraffe saw a volcano.\n\nParliament: saxophone, 他说 marathon。",
    "GIRAFFE-VOLCANO/PARLIAMENT_SAXOPHONE...MARATHON",
]


def cosines(one: Any, other: Any) -> Any:
    """Between the rows of two matrices."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / lengths
