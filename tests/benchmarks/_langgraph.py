"""LangGraph as a contestant: a graph of three trivial nodes and SqliteSaver, with a checkpoint on the disk before the
next node starts (``durability="sync"``), every other setting as it comes."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any, TypedDict

from _contestant import serve
from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found]  # in an environment of its own
from langgraph.graph import END, START, StateGraph  # type: ignore[import-not-found]  # the same

ROW = {"application_id": "PA-2026-0141", "work": "Tear off shingles and reroof the garage", "value": 1250000}


class State(TypedDict):
    row: dict[str, Any]
    step: int


def work(state: State) -> dict[str, Any]:
    return {"step": state["step"] + 1}


def main(folder: Path) -> None:
    graph = StateGraph(State)
    names = ["first", "second", "third"]
    for name in names:
        graph.add_node(name, work)
    for begin, end in itertools.pairwise([START, *names, END]):
        graph.add_edge(begin, end)
    with SqliteSaver.from_conn_string(str(folder / "langgraph.sqlite3")) as saver:
        app = graph.compile(checkpointer=saver)
        threads = itertools.count()

        def run() -> None:
            app.invoke({"row": ROW, "step": 0}, {"configurable": {"thread_id": str(next(threads))}}, durability="sync")

        serve(run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
