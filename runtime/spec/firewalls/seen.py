"""What is asked of a host before anything is decided about its firewall."""

from typing import Final

from runtime.spec import answers
from runtime.spec.answers import units

DIRECTORY: Final = "/etc/stagefleet-firewall"
"""Everything of ours that no firewall keeps itself."""

UNITS: Final = "/etc/systemd/system"
SYSTEMD: Final = units("stagefleet-firewall.service", "ufw.service", "firewalld.service")
FILES: Final = (*answers.FILES, f"{DIRECTORY}/*")
