"""Downloads for TUF: one GET each, bounded in time and size, no redirects, no decompression, no proxies.

TUF decides what may be believed; this only makes sure that a slow, endless or broken sender costs little. A read
timeout alone does not do that: a sender that drips a byte now and then never trips it, so each download has a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface  # type: ignore[attr-defined]  # exported, in a way mypy cannot follow

CONNECT_SECONDS = 10.0
GAP_SECONDS = 20.0  # between two pieces of an answer
TOTAL_SECONDS = 120.0  # for one file; models are not fetched here
_PIECE = 64 * 1024


class HttpFetcher(FetcherInterface):
    """TUF's fetcher seam over urllib3. Raises only TUF's ``DownloadError`` kinds. Times are seconds.

    One download at a time. TUF stops reading an answer that is too long in the middle, and its error keeps the rest of
    it alive; so the answer before is closed when the next is asked for, and at the end.
    """

    def __init__(
        self, *, connect_s: float = CONNECT_SECONDS, gap_s: float = GAP_SECONDS, total_s: float = TOTAL_SECONDS
    ) -> None:
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=connect_s, read=gap_s))
        self._total_s = total_s
        self._answer: urllib3.BaseHTTPResponse | None = None

    def close(self) -> None:
        self._hang_up()
        self._pool.clear()

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        self._hang_up()
        deadline = time.monotonic() + self._total_s
        try:
            # Identity: an answer must not be able to grow after it was counted.
            answer = self._pool.request(
                "GET", url, preload_content=False, redirect=False, headers={"Accept-Encoding": "identity"}
            )
        except urllib3.exceptions.NewConnectionError as error:  # nobody there; to urllib3 a kind of timeout
            raise DownloadError(f"{url}: no connection") from error
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"no answer in time from {url}") from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: {error}") from error
        if answer.status != 200:
            answer.close()
            raise DownloadHTTPError(f"status {answer.status} for {url}", answer.status)
        self._answer = answer
        return self._pieces(answer, url, deadline)

    def _pieces(self, answer: urllib3.BaseHTTPResponse, url: str, deadline: float) -> Iterator[bytes]:
        whole = False
        try:
            # read1 returns what has come; read would wait for a full piece and could be dripped on past the deadline.
            while piece := answer.read1(_PIECE, decode_content=False):
                yield piece
                if time.monotonic() > deadline:
                    raise SlowRetrievalError(f"{url} took more than {self._total_s:.0f} s")
            whole = True
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError(f"{url} stopped coming") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise DownloadError(f"{url}: {error}") from error
        finally:
            # A connection with unread bytes on it must not serve the next request.
            if whole:
                answer.release_conn()
                self._answer = None
            else:
                answer.close()
