"""The web page and the REST server."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import Positional

from lenet import errors
from lenet.commands import parse


@dataclass(frozen=True)
class ServeFlags:
    """Serves a web page that shows every layer at work, and a REST interface for programs.

    The page reads the digit or number that you draw, upload or paste. Programs send pictures of a
    digit to /v1/predict, of numbers to /v1/read; the documentation is at /docs.html. Ctrl-C stops
    the server after requests in progress.
    """

    models: Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[MODEL...]")]] = ()
    """Run folders, weights files, pretrained names, or latest; the first is shown first. By
    default all networks that come with the package."""
    host: str = "127.0.0.1"
    """The address to listen on. The default admits only this machine; 0.0.0.0 admits everybody who
    can reach it."""
    port: int = 8028
    """The port to listen on; 0 for any free one."""
    open: bool = False
    """Open the page in the default browser."""


def run(flags: list[str]) -> int:
    arguments = parse(ServeFlags, "serve", flags)

    with errors.extra("web"):
        from lenet.web import serve

    serve(arguments.models or None, arguments.host, arguments.port, open_page=arguments.open)
    return 0
