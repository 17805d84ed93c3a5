"""The worker: the one process that loads the MCP library, for one tool set, and holds one session with its server.

Run as ``python -m edge_agent.tools.mcp.worker``. Messages come on standard input and go out on what was standard
output. It ends when its session does or when standard input does, and the next call starts a new one. Its memory is
bounded, because what it parses was written by a stranger.

Before a call is written, the tool's live description must have the accepted hash and the arguments must fit its schema.
From the moment ``Sent`` is said, only the server's own answer tells what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from edge_agent.tools import NotSent
from edge_agent.tools.mcp import checks, messages, pins, result, schema
from edge_agent.tools.mcp.messages import Call, Cancel, Changed, Done, Failed, List, Listed, Message, Open, Sent
from edge_agent.tools.mcp.transport import connect
from shared import __version__
from shared.codec import hex_sha256
from shared.errors import BadInput, OutriderError, Refused, Unavailable

MEMORY_BYTES = 2 * 1024 * 1024 * 1024  # of address space
PAGES = 50
LEAVING_S = 6.0

_ANSWER: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
_NOT_DONE = (types.INVALID_PARAMS, types.METHOD_NOT_FOUND)


class Desk:
    """One session, and the calls that go through it."""

    def __init__(self, opening: Open, say: Callable[[Message], None]) -> None:
        self._opening, self._say = opening, say
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._why: BaseException | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._in_flight: set[int] = set()
        self._lock = asyncio.Lock()
        self._live: dict[str, str] = {}
        self._unfit: dict[str, str] = {}
        self._stale, self._fetched = True, -math.inf
        self._holding = asyncio.create_task(self._hold())

    # --- the session ----------------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Connect, and stay until the session ends. Task root: whatever ends it is told to those who wait."""
        try:
            with anyio.move_on_after(self._opening.start_s) as limit:
                async with self._client() as client:
                    limit.deadline = math.inf
                    self._ready.set_result(client)
                    await self._stay(client)
        except Exception as error:  # noqa: BLE001 -- task root: the reason goes to the callers, the trace to the log
            traceback.print_exc()
            self._why = error
        finally:
            self._ended.set()
        if not self._ready.done():
            said = _reason(self._why) if self._why else f"it was not ready within {self._opening.start_s:g} s"
            self._ready.set_exception(_no_start(said))
            self._ready.exception()  # nobody may be waiting

    async def _stay(self, client: Client) -> None:
        async with anyio.create_task_group() as group:
            tools = client.server_capabilities.tools
            if client.protocol_version in MODERN_PROTOCOL_VERSIONS and tools and tools.list_changed:
                group.start_soon(self._hear, client)
            await self._ended.wait()
            group.cancel_scope.cancel()

    def _client(self) -> Client:
        return Client(
            connect(self._opening, self._ended.set),
            message_handler=self._notified,
            client_info=types.Implementation(name="outrider", version=__version__),
            cache=None,
        )

    async def _notified(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._stale = True

    async def _hear(self, client: Client) -> None:
        """The newest protocol announces changes only to those who ask. Where that fails, age alone counts."""
        with contextlib.suppress(MCPError, RuntimeError, TimeoutError):
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._stale = True

    async def close(self) -> None:
        self._ended.set()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.wait({self._holding, *self._tasks.values()}, timeout=LEAVING_S)

    async def over(self) -> None:
        """Wait until a session that was begun has ended, and the calls in it have been answered. One that could not
        begin has a reason to tell, so it is kept until somebody asked."""
        await asyncio.wait({self._holding})
        if self._ready.exception() is not None:
            await asyncio.Event().wait()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=LEAVING_S)

    # --- what is asked --------------------------------------------------------------------------------------------

    def take(self, asked: Message) -> None:
        if isinstance(asked, Cancel):
            if asked.number in self._tasks:
                self._tasks[asked.number].cancel()
        elif isinstance(asked, List | Call):
            task = asyncio.create_task(self._answer(asked))
            self._tasks[asked.number] = task
            task.add_done_callback(lambda _: self._tasks.pop(asked.number, None))

    async def _answer(self, asked: List | Call) -> None:
        """Task root of one question: it is always answered, and nothing of the library's leaks."""
        try:
            self._say(await (self._call(asked) if isinstance(asked, Call) else self._list(asked)))
        except OutriderError as error:
            self._fail(asked.number, error)
        except asyncio.CancelledError:
            self._fail(asked.number, _lost("the call was cancelled", sent=asked.number in self._in_flight))
        except Exception as error:  # noqa: BLE001 -- task root: the kind of error is told, the trace is in the log
            traceback.print_exc()
            self._fail(asked.number, _lost(type(error).__name__, sent=asked.number in self._in_flight))
        finally:
            self._in_flight.discard(asked.number)

    def _fail(self, number: int, error: OutriderError) -> None:
        over = self._ended.is_set()
        self._say(Failed(number, type(error).__name__, error.code, error.message, error.advice, over))

    async def _list(self, asked: List) -> Listed:
        client = await asyncio.shield(self._ready)
        await self._fetch(client)
        info = client.server_info
        named = schema.clean(f"{info.name} {info.version}", 200) if info else ""
        unfit = self._unfit | {name: why for name, text in self._live.items() if (why := checks.unfit(text))}
        return Listed(asked.number, list(self._live.values()), unfit, named, client.protocol_version)

    async def _call(self, asked: Call) -> Message:
        client = await asyncio.shield(self._ready)
        async with self._lock:
            if self._stale or time.monotonic() - self._fetched > self._opening.recheck_s:
                await self._fetch(client)
        live = self._live.get(asked.tool, "")
        if hex_sha256(live.encode()) != asked.sha256:
            return Changed(asked.number, live)
        sent = checks.fitting(live, asked.arguments)
        if self._ended.is_set():
            raise _no_start("the server is gone")
        self._in_flight.add(asked.number)
        self._say(Sent(asked.number))
        answer = await self._send(client, asked, sent)
        if isinstance(answer, types.InputRequiredResult):
            raise _wants_input()
        given = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
        if answer.is_error:
            raise Refused("mcp.tool-error", result.said(given), advice="correct the arguments, or see to its cause")
        return Done(asked.number, result.details(given, self._opening.result_bytes))

    async def _send(self, client: Client, asked: Call, arguments: dict[str, Any]) -> Any:
        # Not ``call_tool``: it checks the answer against the server's own output schema after the tool has acted, and
        # would turn a done thing into an error.
        params = types.CallToolRequestParams(name=asked.tool, arguments=arguments)
        try:
            async with asyncio.timeout(asked.timeout_s):
                return await client.session.send_request(types.CallToolRequest(params=params), _ANSWER)
        except TimeoutError as error:
            raise Unavailable(
                "mcp.timeout", f"no answer within {asked.timeout_s:g} s", advice="look whether it was done"
            ) from error
        except ValidationError as error:
            raise Unavailable(
                "mcp.answer", "the answer is none by the protocol", advice="look whether it was done"
            ) from error
        except MCPError as error:
            raise await self._after(error) from error

    async def _after(self, error: MCPError) -> OutriderError:
        """What an error instead of an answer says about whether the call was carried out."""
        said = schema.clean(error.message, 300)
        if error.code in _NOT_DONE:
            return BadInput("mcp.rejected", said, advice="correct the arguments, or review the server's tools")
        if error.code == types.URL_ELICITATION_REQUIRED:
            return _wants_input()
        if error.code == types.HEADER_MISMATCH:
            self._stale = True
            return NotSent("mcp.start", said, advice="try again")
        if error.code == types.INVALID_REQUEST and said == "Session terminated":  # said by our transport, of a 404
            self._ended.set()
            return NotSent("mcp.start", "the server has ended the session", advice="try again")
        if error.code != types.CONNECTION_CLOSED:
            return Unavailable(
                "mcp.failed", f"the server says: {said} ({error.code})", advice="look whether it was done"
            )
        self._ended.set()
        await asyncio.wait({self._holding}, timeout=LEAVING_S)
        alone = len(self._in_flight) == 1
        return _lost(_reason(self._why or error), sent=not (alone and _never_connected(self._why)))

    async def _fetch(self, client: Client) -> None:
        """All tools the server has now. Before a call: nothing was sent, so every failure is ``NotSent``."""
        self._stale = False
        live: dict[str, str] = {}
        unfit: dict[str, str] = {}
        cursor: str | None = None
        try:
            async with asyncio.timeout(self._opening.start_s):
                for _ in range(PAGES):
                    page = await client.session.list_tools(params=types.PaginatedRequestParams(cursor=cursor))
                    _read_page(page, live, unfit)
                    cursor = page.next_cursor
                    if not cursor:
                        break
        except (MCPError, ValidationError, TimeoutError) as error:
            self._stale = True
            raise _no_start(f"it does not list its tools: {_reason(error)}") from error
        self._live, self._unfit, self._fetched = live, unfit, time.monotonic()


def _read_page(page: types.ListToolsResult, live: dict[str, str], unfit: dict[str, str]) -> None:
    for tool in page.tools:
        try:
            text = pins.describe(tool.model_dump(by_alias=True, mode="json", exclude_none=True))
        except (ValueError, RecursionError):
            text = ""
        if not text or len(text) > messages.DESCRIPTION_BYTES or tool.name in live:
            unfit[schema.clean(tool.name, 100)] = "its description is twice there, too long, or no JSON"
            live.pop(tool.name, None)
        else:
            live[tool.name] = text
    if len(live) + len(unfit) > messages.TOOLS or sum(map(len, live.values())) > messages.DESCRIPTIONS_BYTES:
        raise Refused(
            "mcp.too-many",
            f"more than {messages.TOOLS} tools, or {messages.DESCRIPTIONS_BYTES} bytes of descriptions",
            advice="use a server that offers less",
        )


# --- reasons ------------------------------------------------------------------------------------------------------


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error] if error is not None else []


def _never_connected(error: BaseException | None) -> bool:
    leaves = _leaves(error)
    return bool(leaves) and all(isinstance(leaf, httpx2.ConnectError | httpx2.ConnectTimeout) for leaf in leaves)


def _reason(error: BaseException | None) -> str:
    """One line; headers and environments, where secrets are, never stand in these exceptions' texts."""
    leaves = _leaves(error)
    if not leaves:
        return "the connection was closed"
    return schema.clean(str(leaves[0]) or type(leaves[0]).__name__, 200)


def _no_start(said: str) -> NotSent:
    return NotSent("mcp.start", f"the MCP server cannot be used: {said}", advice="see its server.log and tools.toml")


def _lost(said: str, *, sent: bool) -> OutriderError:
    if not sent:
        return _no_start(said)
    return Unavailable("mcp.lost", f"{said}, after the call was sent", advice="look whether it was done")


def _wants_input() -> Refused:
    return Refused("mcp.wants-input", "the tool asks questions of a person at a screen", advice="use it there")


# --- the process --------------------------------------------------------------------------------------------------


async def serve() -> None:
    """Answer until the session or standard input ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)

    def say(message: Message) -> None:
        with contextlib.suppress(OSError):  # the agent is gone; standard input ends too
            out.write(messages.line(message))

    source = sys.stdin.buffer
    opening = messages.read_down(source.readline())
    if not isinstance(opening, Open):
        sys.exit("edge_agent.tools.mcp.worker is started by the agent, not by hand")
    desk, gone, loop = Desk(opening, say), asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        for data in source:
            loop.call_soon_threadsafe(desk.take, messages.read_down(data))
        loop.call_soon_threadsafe(gone.set)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    over = asyncio.create_task(desk.over())
    await asyncio.wait({over, asyncio.create_task(gone.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if not over.done():
        await desk.close()


def main() -> None:
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or most > MEMORY_BYTES:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, most))
    asyncio.run(serve())
    sys.stderr.flush()
    os._exit(0)  # the listening thread may still block on its pipe


if __name__ == "__main__":
    main()
