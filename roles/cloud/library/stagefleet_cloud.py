"""The task that makes a cloud's rules what an inventory says; `cloud/play.py` does the work."""

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: stagefleet_cloud
short_description: The firewall rules of a fleet in one of its clouds
description:
  - Makes the rules that the fleet's flows need, and removes what it made and needs no more.
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
    description: Whether the rules should be there.
  instances:
    type: str
    choices: [present, absent]
    default: present
    description: Whether the fleet's instances stay; while they do, its rules are not removed.
  allow_public:
    type: bool
    default: false
    description: Open to the world what the inventory says is public.
  purge:
    type: bool
    default: false
    description: Remove rules that others have put into the fleet's groups.
author: stagefleet
"""

EXAMPLES = r"""
- name: Ensure the cloud lets in who should get in
  stagefleet_cloud:
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
            "instances": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "allow_public": {"type": "bool", "default": False},
            "purge": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        from cloud.play import carry_out, run
    except ImportError as error:
        module.fail_json(msg=f"this Python is not the one that ./fleet cloud has made: {error}")
    carry_out(run, module)


if __name__ == "__main__":
    main()
