"""The task that makes a cloud's instances what an inventory says; `cloud/play.py` does the work."""

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: stagefleet_instances
short_description: The instances of a fleet in one of its clouds
description:
  - Makes the instances that hosts ask for and that are not there, and waits until they run.
  - Terminates nothing but what it has made with the fleet's authority.
  - Runs on the controller, with the environment that C(./fleet cloud) makes.
options:
  fleet:
    type: dict
    required: true
    description: The fleet, as C(stagefleet plan --json) shows it.
  cloud:
    type: str
    required: true
    description: One of the fleet's clouds.
  state:
    type: str
    choices: [present, absent]
    default: present
    description: Whether the instances should be there.
author: stagefleet
"""

EXAMPLES = r"""
- name: Ensure the machines are there
  stagefleet_instances:
    fleet: "{{ cloud_fleet }}"
    cloud: aws
"""

RETURN = r"""
changes:
  description: What was changed, a line each.
  type: list
  elements: str
  returned: success
notices:
  description: What an operator should know and was not changed.
  type: list
  elements: str
  returned: success
"""


def main() -> None:
    """Run the task."""
    module = AnsibleModule(
        argument_spec={
            "fleet": {"type": "dict", "required": True},
            "cloud": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        from cloud.play import carry_out, run_instances
    except ImportError as error:
        module.fail_json(msg=f"this Python is not the one that ./fleet cloud has made: {error}")
    carry_out(run_instances, module)


if __name__ == "__main__":
    main()
