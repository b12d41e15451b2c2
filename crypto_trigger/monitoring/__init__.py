"""Do the slots have their triggers? Pure: stored messages and the time are arguments.

`coverage` says which slots have their trigger, `verdict` what `check` finds in them, `history` what `history` shows.
`plugin` and `picture` are their forms.
"""
