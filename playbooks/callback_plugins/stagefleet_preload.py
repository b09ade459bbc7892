"""Loads what the filters need into Ansible's main process, so that its workers need not.

Ansible forks a worker for each task and host, and each would import the specification anew: half a
second for one host, several for a fleet. It is a callback only because those are loaded first.
"""

from ansible.plugins.callback import CallbackBase

import runtime.checks.doctor.run
import runtime.spec.plan
import runtime.spec.units
import runtime.swarm.authority  # noqa: F401 - loaded for its own sake, like those above


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible ships no types
    """Does nothing but being there."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "stagefleet_preload"
    CALLBACK_NEEDS_ENABLED = False
