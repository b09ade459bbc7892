"""Real hosts on one machine: systemd, SSH, networks, NAT and faults, to try playbooks on."""
