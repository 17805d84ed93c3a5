"""The local panel: what this computer's agent does, asks and remembers, as pages for the person who sits at it.

    door        codes that open a panel once, and the sessions of those that are open
    entrance    what the API serves under /panel/: the way in, and the pages once somebody is in
    pages       what all pages share: who looks, forms that are really theirs, templates
    work        home, runs, approvals
    memory      finding, reading, editing, new items
    keeping     forgetting, tidying, what leaves, import and export
    talks       conversations that programs keep here
    commands    ``outrider panel``

Plain HTML without a script, from the agent's own port on the loopback. A browser is not a program of ours: any page may
send requests here, and all ports of this computer share one cookie jar. So a session is a cookie *and* an unguessable
part of the address that the cookie is bound to, a form must come from this very origin with its session's token, and
nothing can be framed. Templates are loaded when the first panel is opened: at rest none of it takes memory.
"""
