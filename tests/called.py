"""What a call of the command line leaves behind, and what it is called about."""

from __future__ import annotations

import json
from typing import Any

from tests.fakes import FakeEncoder

STORY = """---
title: Envoy warns of spillover
source: Briefs
published_at: 2025-11-23
url: https://example.org/story
---

The envoy Ada Berg warned on November 20, 2025, that the fighting may spill over. Trade fell.
"""


class WarmFake(FakeEncoder):
    def warm(self) -> None:
        self.encode_question("warm")


class Called:
    """What a call left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)
