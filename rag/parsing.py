"""The JSON of a body, read in a thread and within bounds.

json's own scanner in C keeps every other thread waiting until it is through, and a body of 31 MB
may hold ten million empty lists, which are a gigabyte. Its scanner in Python lets others go on, and
what it reads can be counted; texts, which are nearly all of an honest body, it leaves to C too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from rag.errors import InvalidRequest
from rag.problems import FIELD_CHARACTERS

Model = TypeVar("Model", bound=BaseModel)
Scan = Callable[[str, int], tuple[Any, int]]

QUESTION_VALUES = 250_000
"""In the body of a question; three filters of 10,000 values are taken, and what is far from it is
told apart. So many take a quarter of a second and 20 MB."""


def read_json(body: bytes, *, most_values: int) -> Any:
    """What a body says; of nested values each counts.

    Raises HTTPException (400) for what is no JSON or nested too deeply, RequestValidationError for
    nothing at all, InvalidRequest for more than `most_values` values and for a name that an object
    has twice, of which one would be passed over.
    """
    if not body:
        missing = {"type": "missing", "loc": ("body",), "msg": "", "input": None}
        raise RequestValidationError([missing])
    try:
        return _Decoder(most_values).decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        reason = f"the byte at {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} (character {error.pos})"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError:  # of a number
        reason = "a number has too many digits, or some that are not 0 to 9"
    raise HTTPException(400, f"the body is not JSON: {reason}")


def validated(model: type[Model], body: bytes) -> Model:
    """What a body says, as `model` has it. Raises RequestValidationError and as `read_json`."""
    sent = read_json(body, most_values=QUESTION_VALUES)
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in found])


class _Decoder(json.JSONDecoder):
    """Counts the values of lists and objects, and takes no name twice."""

    parse_array: Callable[..., Any]  # both are where the scanner in Python looks for them
    parse_object: Callable[..., Any]

    def __init__(self, most_values: int) -> None:
        super().__init__(object_pairs_hook=_object, parse_int=_whole, parse_float=_decimal)
        self._most = self._left = most_values
        read_array, read_object = self.parse_array, self.parse_object

        def array(start: tuple[str, int], scan: Scan, *given: Any) -> Any:
            return read_array(start, self._counting(scan), *given)

        def object_(start: tuple[str, int], strict: bool, scan: Scan, *given: Any) -> Any:
            return read_object(start, strict, self._counting(scan), *given)

        self.parse_array, self.parse_object = array, object_
        self.scan_once = py_make_scanner(self)

    def _counting(self, scan: Scan) -> Scan:
        def counted(text: str, at: int) -> tuple[Any, int]:
            self._left -= 1
            if self._left < 0:
                raise InvalidRequest("body", f"it holds more than {self._most:,} values")
            return scan(text, at)

        return counted


def _whole(digits: str) -> int:
    return int(_ascii(digits))


def _decimal(digits: str) -> float:
    return float(_ascii(digits))


def _ascii(digits: str) -> str:
    """`digits`; ValueError for those of other scripts, which the scanner in Python takes too."""
    if not digits.isascii():
        raise ValueError(digits)
    return digits


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidRequest(name[:FIELD_CHARACTERS], "it is given more than once")
    return found
