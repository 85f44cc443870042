"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Index = Annotated[
    Path | None,
    typer.Option("--index", help="Folder of the archive (RAG_INDEX, else index).", metavar="DIR"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
TopK = Annotated[int, typer.Option("--top-k", help="How many passages, 1 to 100.", metavar="N")]
From = Annotated[
    str | None, typer.Option("--from", help="Published on this ISO date or later.", metavar="DATE")
]
To = Annotated[
    str | None, typer.Option("--to", help="Published on this ISO date or earlier.", metavar="DATE")
]
Source = Annotated[
    list[str] | None,
    typer.Option("--source", help="Published by this source; may be repeated.", metavar="NAME"),
]
AskedAt = Annotated[
    str | None,
    typer.Option(
        "--asked-at",
        help="ISO date of the question: 'last week' counts from it, else from today.",
        metavar="DATE",
    ),
]
TokenBudget = Annotated[
    int | None,
    typer.Option("--token-budget", help="Give what fits into so many tokens.", metavar="N"),
]
