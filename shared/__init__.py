"""The ground both sides stand on: bytes in, judgement out. No sockets, files, clocks or randomness except as arguments."""

__version__ = "0.1.0"
