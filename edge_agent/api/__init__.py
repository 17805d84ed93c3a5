"""The agent's own HTTP, for programs on the same computer: the command line, ``outrider mcp``, and webhooks that a
tunnel or proxy on this machine brings in. Reference: ``docs/reference/local-api.md``.

    desk      what the agent offers here, as a protocol; the app fills it in
    gate      who may speak: this address, no web page, whoever can read HOME/api.json
    wire      bodies and errors
    routes    what is asked of the desk
    sessions  conversations that programs keep here
    pages     the panel's place among them
    server    the socket, and the file that says where it is
    client    the other side, for our own commands

A browser is the most likely stranger at a port of this computer: any page may send requests to it, and with a name of
its own that suddenly means 127.0.0.1 (DNS rebinding) may read the answers. So the Host must be this address exactly, an
Origin is refused, a body must say that it is JSON, which a page cannot do unasked, and the token stands in a file that
only the user can read.
"""

from __future__ import annotations

from typing import Final

FILE: Final = "api.json"  # in the agent's home: {"port": 40123, "token": "..."}
