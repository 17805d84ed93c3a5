"""Triage as a playbook writes it: phrases, rules, fields and prompts. Pure, because the hub must judge before it
publishes exactly what an agent will judge when it plans; only the models and the memory are the agent's own.

    text       words and clean text, shared by everything below
    phrases    phrases of a playbook, matched in linear time
    rules      triage rules
    extract    typed fields out of the text, each with the place it stands at
    prompt     the template the language model is asked with
    setup      a step checked as a whole
"""
