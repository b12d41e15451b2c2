"""A server on which one user may do everything, and another only what a test permits."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from crypto_trigger.commands.server import Server

_CONFIG = """
accounts {{
  A {{ jetstream: enabled, users: [
    {{ user: all, password: all }}
    {{ user: some, password: pw, permissions: {{ publish: [{permitted}], subscribe: ["_INBOX.>"] }} }}
  ] }}
}}
"""


@contextmanager
def restricted_to(*subjects):
    """Run a server; yields its URL for the user who may do everything, and for the one who may publish `subjects`."""
    with TemporaryDirectory() as folder:
        config = Path(folder, "server.conf")
        config.write_text(_CONFIG.format(permitted=", ".join(f'"{subject}"' for subject in subjects)))
        with Server(arguments=("-c", str(config))) as server:
            yield tuple(server.url.replace("://", f"://{user}@") for user in ("all:all", "some:pw"))
