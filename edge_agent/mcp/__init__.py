"""``outrider mcp``: the agent's guarded tools for any assistant that speaks MCP.

An assistant starts it as a program and talks to it over its pipes. It acts on nothing itself: each call becomes a run
of the agent that is running on this computer, under the same policy, approvals, budgets and log as any other, and a
call that a person has to allow is answered at once with whom to ask and how to look again.
"""
