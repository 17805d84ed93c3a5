"""Whether a model may be used on this device: it loads, does the least there is to do, and passes its release's cases.

It is tried in a child process, beside the one that is in use: a model that crashes there costs nobody anything.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent.models.catalogue import Kind
from edge_agent.models.probe import died, how
from edge_agent.models.worker import open_embedder
from shared.errors import BadInput, OutriderError, Unavailable
from shared.release import SmokeCase

_CHILD = (sys.executable, "-m", "edge_agent.models.smoke")
_FAILED = 3  # the child's exit code for a case that the model gets wrong
_CONTEXT = 2048


async def prove(
    kind: Kind,
    path: Path,
    sha256: str,
    cases: Sequence[SmokeCase],
    *,
    timeout_s: float = 300,
    child: Sequence[str] = _CHILD,
) -> OutriderError | None:
    """What is wrong with the model in ``path``, whose bytes the caller has checked: ``BadInput('model.smoke')`` for a
    case that it gets wrong, ``Unavailable('model.load')`` where it does not load, crashes or is too slow."""
    process = await asyncio.create_subprocess_exec(
        *child,
        kind,
        str(path),
        sha256,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            _, told = await process.communicate(msgspec.json.encode(cases))
    except TimeoutError:
        return _unloadable(f"no answer within {timeout_s:g} s")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    code = process.returncode or 0
    if code == 0:
        return None
    said = (told.decode("utf-8", "replace").strip().splitlines() or [""])[-1][:300]
    if code == _FAILED:
        return BadInput("model.smoke", said, advice="the model before it stays; publish a release with another")
    return _unloadable(f"it crashed with {how(code)}" if died(code) else said)


def _unloadable(said: str) -> Unavailable:
    return Unavailable(
        "model.load", f"the model does not run here: {said}", advice="see 'outrider doctor'; publish another model"
    )


# --- in the child -------------------------------------------------------------------------------------------------


def _embedder(path: Path, cases: list[SmokeCase]) -> str:
    model = open_embedder(path)
    model.embed(("a text",))
    for number, case in enumerate(cases, 1):
        given, answer, *others = model.embed((case.given, case.answer, *case.others)) or ()
        near = given.similarity(answer)
        if near <= max(given.similarity(other) for other in others):
            return f"case {number}: it finds another text nearer than the one that is meant"
    return ""


def _language(path: Path, sha256: str, cases: list[SmokeCase]) -> str:
    from edge_agent.models.language import Language
    from edge_agent.models.messages import Choice, Completion
    from edge_agent.models.states import StateFolder

    model = Language(path, sha256, StateFolder(path.parent, 0), context=_CONTEXT)
    model.complete(Completion(prompt="One, two,", max_tokens=1))
    for number, case in enumerate(cases, 1):
        if model.choose(Choice(options=(case.answer, *case.others), prompt=case.given)).best != 0:
            return f"case {number}: it finds another answer likelier than the one that is meant"
    return ""


def main(arguments: list[str]) -> None:
    kind, path, sha256 = arguments
    cases = msgspec.json.decode(sys.stdin.buffer.read(), type=list[SmokeCase])
    try:
        wrong = _embedder(Path(path), cases) if kind == "embedder" else _language(Path(path), sha256, cases)
    except OutriderError as error:
        sys.exit(str(error))
    if wrong:
        print(wrong, file=sys.stderr)
        sys.exit(_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
