"""Expressions: the one small language of conditions and step inputs in playbooks. Reference:
``docs/reference/expressions.md``.

It is CEL, the language that Kubernetes and cloud policies use for conditions: typed, without loops that do not end,
without side effects. It sees the plain values it is given and nothing else. Every expression is bounded before it
runs: in length and nesting when a playbook is read, in work when it is evaluated.
"""

from shared.expression.expression import Expression
from shared.expression.template import Template

__all__ = ["Expression", "Template"]
