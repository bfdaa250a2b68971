"""The page and the REST server: `app` for any ASGI server and for tests, `serve` for people.

Imports data, networks, engine, evaluation and reading; needs the extra `web`.
"""

from lenet import errors

with errors.extra("web"):
    from lenet.web.application import app
    from lenet.web.limits import Limits
    from lenet.web.server import serve

__all__ = ["Limits", "app", "serve"]
