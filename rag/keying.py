"""`rag key`: who may come in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rag import opening
from rag.opening import print_json
from rag.options import AsJson, Index

if TYPE_CHECKING:
    from rag.keys import KeyFile

# What a command alone needs is imported in it, as in cli.

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke the keys that a server of the archive asks for.",
)

Name = Annotated[str, typer.Argument(help="What the key is called.", metavar="NAME")]


@app.command()
def add(
    name: Name,
    index: Index = None,
    write: Annotated[
        bool, typer.Option("--write", help="It may add and remove articles too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from rag import show

    key, secret = _file(index).add(name, write=write)
    if as_json:
        print_json({"name": key.name, "rights": key.rights, "made": key.made, "key": secret})
    else:
        typer.echo(secret)
        show.err.print("Keep it: it is not shown again. Servers of this archive ask for a key now.")


@app.command("list")
def list_keys(index: Index = None, as_json: AsJson = False) -> None:
    """List the keys by name, with their rights and the day they were made."""
    from rag import show

    keys = _file(index).keys() or ()
    if as_json:
        listed = [{"name": k.name, "rights": k.rights, "made": k.made} for k in keys]
        print_json({"keys": listed})
    elif keys:
        show.pairs([(key.name, f"{', '.join(key.rights)}  {key.made}") for key in keys])
    else:
        show.err.print("There is no key.")


@app.command()
def revoke(name: Name, index: Index = None, as_json: AsJson = False) -> None:
    """Have a key let nobody in any more, in running servers too."""
    from rag import show
    from rag.keys import FILE

    settings = opening.settings(index)
    left = _file(index).revoke(name)
    if as_json:
        print_json({"revoked": name, "left": left})
    else:
        show.out.print(f"revoked {name}", markup=False)
    if not left:
        show.err.print(
            "It was the last: servers of this archive let nobody in until there is another. To "
            f"serve this machine alone without keys, remove {settings.index / FILE}",
            markup=False,
        )


def _file(index: Path | None) -> KeyFile:
    from rag.keys import KeyFile

    return KeyFile(opening.settings(index).index)
