"""What should be: the typed reading of an inventory and everything derived from it.

This package imports pydantic and the standard library only, so that Ansible's filters, the
command line and the servers can all share it. Start with `fleet.py` (what an operator writes),
`services.py` (what listens), `plan.py` (what each host should have).
"""
