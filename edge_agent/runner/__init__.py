"""The run engine: ``Runner`` says which run moves when, ``Engine`` moves one, a ``Turn`` is what one commit holds."""

from edge_agent.runner.engine import Engine
from edge_agent.runner.runner import Runner, order_id
from edge_agent.runner.times import Times

__all__ = ["Engine", "Runner", "Times", "order_id"]
