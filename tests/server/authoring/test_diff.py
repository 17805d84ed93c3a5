"""What changed between two workspaces, line by line."""

from __future__ import annotations

from server.authoring.diff import diff


def test_lines_out_and_in_with_their_numbers() -> None:
    old = "".join(f"line {number}\n" for number in range(1, 21))
    new = old.replace("line 10\n", "line ten\nand more\n")
    (change,) = diff({"a": old.encode(), "b": b"same"}, {"a": new.encode(), "b": b"same"})
    assert (change.path, change.state, change.put_in, change.taken_out) == ("a", "changed", 2, 1)
    shown = [(line.kind, line.old, line.new, line.text) for line in change.lines]
    assert shown == [
        ("gap", 0, 0, ""),
        ("same", 7, 7, "line 7"),
        ("same", 8, 8, "line 8"),
        ("same", 9, 9, "line 9"),
        ("out", 10, 0, "line 10"),
        ("in", 0, 10, "line ten"),
        ("in", 0, 11, "and more"),
        ("same", 11, 12, "line 11"),
        ("same", 12, 13, "line 12"),
        ("same", 13, 14, "line 13"),
    ]


def test_files_that_came_and_went() -> None:
    came, went = diff({"b": b"x\ny"}, {"a": b"x"})
    assert (came.path, came.state, came.put_in, came.taken_out) == ("a", "added", 1, 0)
    assert (went.path, went.state, went.put_in, went.taken_out) == ("b", "removed", 0, 2)


def test_what_is_no_text_or_too_long_differs_without_lines() -> None:
    binary, long = diff({"a": b"\xff", "b": b"x\n" * 5_000}, {"a": b"\xfe", "b": b"x\n" * 5_001})
    assert (binary.state, binary.lines, long.state, long.lines) == ("changed", [], "changed", [])
