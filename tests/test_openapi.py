"""Every call as /openapi.json describes it, made by a program that knows nothing else of it.

schemathesis makes requests from the schema, some that keep to it and some that do not, and holds
each response to what is declared. `make fuzz` makes more of them than the suite does.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
)

from rag.config import Settings
from rag.serve import create_app
from tests.fakes import FakeEncoder
from tests.folders import temporary_folder
from tests.served import ARTICLES, JSON, running

Check = Callable[[CheckContext, Response, Case[Any]], bool | None]

EXAMPLES = int(os.environ.get("RAG_FUZZ_EXAMPLES", "12"))
"""Of each call, besides those that schemathesis makes for every bound in the schema."""


def _described() -> dict[str, Any]:
    with temporary_folder() as folder:
        return create_app(Settings(index=Path(folder)), encoder=FakeEncoder()).openapi()


load_all_checks()
calls = schemathesis.openapi.from_dict(_described())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server of its own is, which is still there at the end."""
    with running(tmp_path_factory.mktemp("served") / "index") as (process, port):
        address = f"http://127.0.0.1:{port}"
        body = json.dumps(ARTICLES).encode()
        urllib.request.urlopen(urllib.request.Request(f"{address}/articles", body, JSON)).close()
        yield address
        assert process.poll() is None
        with urllib.request.urlopen(f"{address}/metrics") as response:
            print(f"requests by status: {dict(_requests(response.read().decode()))}")


def _requests(metrics: str) -> Counter[str]:
    """How many requests have been answered, by status."""
    found: Counter[str] = Counter()
    for status, count in re.findall(r'^rag_requests_total{.*status="(\d+)"} (\S+)', metrics, re.M):
        found[status] += int(float(count))
    return found


@calls.parametrize()
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
def test_every_call_keeps_to_its_description(case: Case[Any], address: str) -> None:
    response = case.call(base_url=address)
    # No schema can say that a date is one, that a question is more than spaces, that 5.0 is no 5.
    excluded: list[Check] = [positive_data_acceptance]
    if response.status_code == 415:  # who may write at all is asked before what is there
        excluded.append(unsupported_method)
    if isinstance(case.body, list) and response.status_code == 200 and response.json()["failed"]:
        excluded.append(negative_data_rejection)  # what is wrong was left out and named
    if "source" in case.query:  # in an address all is text: source=false is a list of one
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
