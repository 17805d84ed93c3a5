"""The engine of one device: what a run needs to be moved, and the one way to move it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge_agent.act import Hands
from edge_agent.guard import Guard
from edge_agent.journal import Journal
from edge_agent.plan.planner import Planner
from edge_agent.runner.advance import Advance
from edge_agent.runner.mail import Mail
from edge_agent.runner.rooms import Learn, Rooms
from edge_agent.runner.scene import playbook_of
from edge_agent.runner.starts import Starts
from edge_agent.runner.times import Times
from edge_agent.runner.turn import Turn
from edge_agent.runner.undoing import Undoing
from shared.playbook import Playbook
from shared.policy import Asking
from shared.release import Release
from shared.runs import Device, Run


class Engine:
    """Advances runs of one device, one task a run. ``asking`` tells how people are asked where these rules hold an
    action back; ``learn`` is told what a person confirmed."""

    def __init__(
        self,
        journal: Journal,
        device: Device,
        guard: Guard,
        planner: Planner,
        hands: Hands,
        *,
        release: Callable[[int], Release],
        asking: Callable[[list[str]], Asking],
        times: Times,
        learn: Learn,
    ) -> None:
        self._journal = journal
        self._device = device
        self.mail = Mail(journal, device)
        self._rooms = Rooms(
            journal=journal,
            device=device,
            guard=guard,
            hands=hands,
            starts=Starts(journal, device, planner, hands, release=release, times=times),
            undoing=Undoing(hands),
            mail=self.mail,
            times=times,
            release=release,
            asking=asking,
            learn=learn,
        )

    async def advance(self, run_id: str, nudge: asyncio.Event) -> None:
        """Move a run as far as it goes now. ``nudge`` is set when something came for it meanwhile. Raises what a person
        must mend, or ``NotSent``: it is to be tried again later."""
        run = self._device.find(run_id)
        if run is None:
            self.mail.return_all(run_id)
            return
        turn = Turn(self._journal, self._device, run)
        await self.mail.take(turn)
        if turn.run.closed is None:
            await Advance(self._rooms, turn, nudge).run()

    def playbook(self, run: Run) -> Playbook:
        """The playbook as pinned when the run was opened. Raises ``Tampered('run.playbook')``."""
        return playbook_of(run, self._rooms.release)
