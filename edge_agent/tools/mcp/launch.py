"""Start a server's program so that it ends with the process that asked for it. Run as a script by the worker.

``stdio_client`` gives the program a process group of its own and ends it in good order, but cannot where the worker
itself is killed. So on Linux the kernel is asked to kill the program when its parent is gone. Standard library only: it
is replaced by the program a moment later.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
CANNOT_RUN = 126


def main(arguments: list[str]) -> None:
    """``arguments``: the pid of the parent, then the program and its own."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was asked
            sys.exit(CANNOT_RUN)
    if sys.platform != "win32":
        import resource

        # The worker bounds its own memory; a server is not held to that.
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        os.execvp(command[0], command)  # noqa: S606 -- the program that tools.toml names, without a shell
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])
