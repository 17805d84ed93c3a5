"""Planning: what the agent would do with a case, and why. Judgement only: no files, no sockets, no model runtime.

A plan is a *recommendation*. The order is fixed: the playbook's rules, then the nearest past decisions, then extractors
for the typed fields, then the language model for the fields that are left; and where none of that is sure, a person.

    text       words and clean text, shared by everything below
    phrases    phrases of a playbook, matched in linear time
    rules      triage rules of a playbook
    similar    votes of past cases, and a calibrated confidence
    lanes      the index over past decisions
    extract    typed fields out of the text, each with the place it stands at
    prompt     the question put to the language model, closed at both ends
    triage     the whole of it, composed
"""
