"""The link room: what passes between this device and its hub. Spec pages: ``shared/spec/link.md``, ``release.md``.

``client`` holds the one WebSocket; ``updates`` fetches and verifies releases; ``fetcher`` is the plain HTTP below it.
"""
