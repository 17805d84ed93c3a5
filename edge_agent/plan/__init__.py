"""Planning: what the agent would do with a case, and why. Judgement only: no files, no sockets, no model runtime.

A plan is a *recommendation*. The order is fixed: the playbook's rules, then the nearest past decisions, then extractors
for the typed fields, then the language model for the fields that are left; and where none of that is sure, a person.

    similar    votes of past cases, and a calibrated confidence
    lanes      the index over past decisions
    question   the question put to the language model, closed at both ends
    triage     the whole of it, composed
    planner    from a run's event to a plan on record, and the action that follows

What a playbook says of triage (phrases, rules, fields, prompts) is read and checked in ``shared/triage``, by the hub
too, before it publishes.
"""
