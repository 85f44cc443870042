"""What the command line prints for people: answers, tables, progress. Data go to standard output,
everything else to standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from rag.checked import Checked, moment
from rag.ingest import Progress as IngestState
from rag.types import Answer, ArticleHead, AskedPeriod, Citation, Hit, SearchResult

_COMMANDS = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))
_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ENDS = (0x2028, 0x2029)
HARMLESS = dict.fromkeys((*_COMMANDS, *_TURNS, *_ENDS), "\ufffd")
"""What a terminal would obey, and what turns the order of a line's letters, so that a title could
pass for the source beside it; letters of scripts from right to left still go their way. One
character stands for one."""

LINE_END = "↵"
"""Stands for a line end, after which a file's name could go on as a message of ours."""


class Terminal(Console):
    """A console on which no text of an archive, a file's name or a question set is a command, or
    begins a line of its own."""

    def print(self, *objects: Any, **options: Any) -> None:
        """See Console.print. Only the line ends at the end of a text are kept: what has several
        lines is several texts."""
        super().print(*map(in_one_line, objects), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See Console.render."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else text.translate(HARMLESS), style, control)


def in_one_line(printed: Any) -> Any:
    """A text without line ends within; anything else, a table say, as it is."""
    if isinstance(printed, Text):
        one = printed.copy()
        one.plain = in_one_line(printed.plain)
        return one
    if not isinstance(printed, str):
        return printed
    line = printed.rstrip("\n")
    return line.replace("\n", LINE_END) + printed[len(line) :]


out = Terminal(highlight=False, soft_wrap=True)
err = Terminal(highlight=False, soft_wrap=True, stderr=True)

LINE_EVERY_S = 10.0
"""How often progress is told where there is no terminal to draw a bar on."""

WORD_STYLE = "bold yellow"


def answer(result: Answer) -> None:
    """The citations of an answer, the question's words in bold."""
    _seen_note(result)
    _read_as(result)
    if not result.citations:
        out.print(_nothing(result, "this question"))
    elif not result.answered:
        sure = f" ({result.confidence:.0%} sure)" if result.confidence is not None else ""
        out.print(f"The archive may not hold the answer{sure}. The nearest there is:\n")
    for citation in result.citations:
        _citation(citation)
    _undated_note(result.undated)


def hits(result: SearchResult) -> None:
    """The passages of a search."""
    _seen_note(result)
    _read_as(result)
    if not result.hits:
        out.print(_nothing(result, "these words"))
    for rank, hit in enumerate(result.hits, start=1):
        out.print(Text(f"{rank}. {hit.passage.text or hit.article.title}"))
        out.print(Text(f"   {_origin(hit.article)}", style="dim"))
        out.print(Text(f"   {_numbers(hit)}\n", style="dim"))
    _undated_note(result.undated)


def pairs(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        out.print(Text(f"{name:<{width}}  {value}"))


def encoder(runtime: str | None, prepared: bool, reason: str | None) -> str:
    """What runs the model, in a line."""
    if reason:
        return f"{runtime or 'nothing'}: {reason}"
    return f"{runtime}" if prepared else f"{runtime}, once the model is prepared (at its first use)"


def last_check(checked: Checked | None) -> str:
    """When the archive was checked, and what was found."""
    if checked is None:
        return "not checked; see rag check"
    found = "sound" if checked.sound else f"NOT SOUND, faults: {checked.faults}"
    at = moment(checked.at).strftime("%Y-%m-%d %H:%M UTC")
    return f"{found}, {at}, generation {checked.generation:,}"


def size(count: int) -> str:
    """Bytes in a unit that people read."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Progress over `total` things; call what it yields with how many are done."""
    with _bar(what, total) as (bar, task):
        yield lambda done: bar.update(task, completed=done)


class IngestProgress:
    """Progress of `rag add`: what was read of all bytes, less what still waits to be encoded."""

    def __init__(self, total_bytes: int) -> None:
        self._total = total_bytes
        self._read = 0
        self._settled = 0
        self._began = self._told = time.monotonic()
        self._latest = IngestState()
        self._bar: Progress | None = None

    @contextmanager
    def running(self) -> Iterator[IngestProgress]:
        """Draw a bar on a terminal, or print a line every ten seconds elsewhere."""
        if not err.is_terminal:
            yield self
            return
        with _bar("Adding", max(self._total, 1), "{task.fields[note]}") as (self._bar, self._task):
            yield self

    def read(self, count: int) -> None:
        """`count` more bytes were read."""
        self._read += count

    def tell(self, progress: IngestState) -> None:
        """See ingest.ingest."""
        if progress.articles > self._latest.articles:
            self._settled = self._read
        self._latest = progress
        done = self._settled + (self._read - self._settled) * progress.batch_part
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=self._note())
        elif time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            err.print(f"{100 * done / max(self._total, 1):3.0f}%  {self._note()}{self._left(done)}")

    def _note(self) -> str:
        latest = self._latest
        rate = latest.tokens / max(time.monotonic() - self._began, 1e-9)
        return f"{latest.articles:,} articles, {latest.passages:,} passages, {rate:,.0f} tokens/s"

    def _left(self, done: float) -> str:
        if not done:
            return ""
        seconds = (time.monotonic() - self._began) * (self._total - done) / done
        return f", about {seconds:,.0f} s left"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life on a terminal while something takes seconds."""
    if err.is_terminal:
        with err.status(what):
            yield
    else:
        yield


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Call what it yields with what is being done now; each is told with the time since the
    start."""
    began = time.monotonic()

    def step(what: str) -> None:
        err.print(f"{time.monotonic() - began:5.0f} s  {what}", markup=False)

    yield step


@contextmanager
def _bar(what: str, total: int, note: str = "") -> Iterator[tuple[Progress, Any]]:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        *([TextColumn(note)] if note else []),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        yield bar, bar.add_task(what, total=total, note="")


def _citation(citation: Citation) -> None:
    quote = Text(citation.quote or citation.hit.article.title)
    for start, end in citation.highlights:
        quote.stylize(WORD_STYLE, start - citation.start, end - citation.start)
    out.print(Text(f"{citation.rank}. ").append_text(quote))
    out.print(Text(f"   {_origin(citation.hit.article)}", style="dim"))
    place = f"{citation.hit.article.id} [{citation.start}:{citation.end}]"
    out.print(Text(f"   {place}  {_numbers(citation.hit)}", style="dim"))
    if citation.link:
        out.print(Text(f"   {citation.link}", style="dim"))
    out.print()


def _nothing(result: Answer | SearchResult, asked: str) -> str:
    if not result.generation:
        return "The archive is empty; add articles to it with: rag add PATH"
    if result.budget:
        return f"No passage fits into {result.budget.limit} tokens."
    return f"Nothing in the archive was found for {asked}."


def _origin(article: ArticleHead) -> str:
    parts = (article.title, article.source, article.published_at or "undated")
    return " · ".join(part for part in parts if part)


def _numbers(hit: Hit) -> str:
    scores = hit.scores
    late = "" if scores.late is None else f", word by word {scores.late:.2f}"
    return f"score {hit.score:.2f} (words {scores.lexical:.2f}, meaning {scores.dense:.2f}{late})"


def _seen_note(result: Answer | SearchResult) -> None:
    if result.tokens_seen < result.tokens:
        err.print(
            f"The question has {result.tokens} tokens; the vectors saw the first "
            f"{result.tokens_seen}, the word search all of them."
        )


def _read_as(result: Answer | SearchResult) -> None:
    interpreted = result.interpreted
    parts = []
    if interpreted.periods:
        parts.append(f"published {' or '.join(map(_days, interpreted.periods))}")
    if interpreted.recent:
        parts.append(f"published shortly before {interpreted.asked_at}")
    parts += [f"source {each.source}" for each in interpreted.sources]
    if parts:
        err.print(f"read as: {'; '.join(parts)} (preferred, not required)", markup=False)


def _days(period: AskedPeriod) -> str:
    first, last = period.published_from, period.published_to
    if first is None:
        return f"up to {last}"
    return last if first == last else f"{first} to {last}"


def _undated_note(undated: int) -> None:
    if undated:
        err.print(f"{undated} undated articles were left out by the date filter.")
