"""TUF's errors as ours: each with a stable code, what it means here, and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)

from shared.errors import OutriderError, Refused, Tampered, Unavailable


def mismatch(what: str) -> OutriderError:
    return Tampered(
        "release.mismatch",
        f"{what} is not what the signed list says",
        advice="publish the release again; if that does not help, tell the administrator",
    )


def rollback(said: str) -> OutriderError:
    return Tampered(
        "release.rollback",
        f"the hub shows less than this device has seen: {said}",
        advice="tell the administrator: the hub was restored from an old copy, or someone stands in between",
    )


@contextlib.contextmanager
def as_ours() -> Iterator[None]:
    """TUF's errors as ours. The order matters: the narrower kinds come first."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise Refused(
            "release.expired",
            f"the hub's signed metadata is out of date: {error}",
            advice="check this device's clock; then see that the hub is running and renews its signatures",
        ) from error
    except BadVersionNumberError as error:
        raise rollback(str(error)) from error
    except UnsignedMetadataError as error:
        raise Tampered(
            "release.unsigned",
            f"too few of the right keys have signed: {error}",
            advice="do not trust this hub until its administrator has looked",
        ) from error
    except RepositoryError as error:
        raise Tampered(
            "release.tampered",
            f"what the hub sent does not verify: {error}",
            advice="try again on another network; if it stays, tell the administrator",
        ) from error
    except DownloadLengthMismatchError as error:
        raise Tampered(
            "release.endless",
            f"the hub sends more than was signed: {error}",
            advice="try again on another network; if it stays, tell the administrator",
        ) from error
    except SlowRetrievalError as error:
        raise Unavailable("release.slow", f"the hub is too slow: {error}", advice="it is tried again later") from error
    except DownloadHTTPError as error:
        code = "release.incomplete" if error.status_code in (403, 404) else "release.unreachable"
        raise Unavailable(code, f"the hub did not send it: {error}", advice="it is tried again later") from error
    except DownloadError as error:
        raise Unavailable(
            "release.unreachable", f"the hub cannot be reached: {error}", advice="it is tried again later"
        ) from error
    except OSError as error:
        raise Unavailable(
            "disk.write", f"{error.filename or 'the disk'}: {error.strerror}", advice="free space, check its owner"
        ) from error
