"""The ground both sides stand on: bytes in, judgement out. Sockets, files, clocks and chance come as arguments."""

__version__ = "0.1.0"
