#!/usr/bin/python
"""Looks at a host's network, and carries out a change of it that undoes itself unless confirmed.

What to ask, what to do and how to undo it is decided elsewhere; nothing here knows an interface.
"""

from __future__ import annotations

from ansible.module_utils.undoing import Names, run_module

DOCUMENTATION = r"""
module: net_tuning
short_description: A change of a host's network that undoes itself unless it is confirmed
description:
  - Asks a host about its network, changes it, or confirms the change over a new connection.
options:
  action:
    type: str
    required: true
    choices: [look, apply, confirm, undo]
    description: What to do.
  questions:
    type: dict
    description: For C(look), the programs to run and the files to read.
  change:
    type: dict
    description: For C(apply), what to check, to save and to do.
  arming:
    type: dict
    description: For C(apply), the files that undo it, by path.
  proofs:
    type: list
    elements: dict
    default: []
    description: For C(confirm), commands that must succeed, and what it means if one does not.
author: [stagefleet]
"""
EXAMPLES = r"""
- name: Keep the change
  net_tuning:
    action: confirm
"""
RETURN = r"""
seen:
  description: For C(look), what the host answered.
  returned: success
  type: dict
"""


def main() -> None:
    """Do what is asked."""
    run_module(Names("network", "the network"))


if __name__ == "__main__":
    main()
