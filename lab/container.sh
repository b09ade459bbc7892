#!/bin/bash
# Mounts a host's disk, boots the host and, when it reboots, boots it again. Runs in a mount namespace of its own, so that
# every mount ends with it.
# Usage: container.sh BASE DISK CGROUP NSPAWN-ARGUMENT...
# CGROUP is a path below the unified hierarchy.
set -euo pipefail
base=$1 disk=$2 cgroup=/sys/fs/cgroup/$3
shift 3

# A reboot of a container without a service manager above it is reported by this exit status.
readonly reboot=133

mount -o loop "$disk/disk.ext4" "$disk/disk"
mount -t overlay overlay \
  -o "lowerdir=$base,upperdir=$disk/disk/upper,workdir=$disk/disk/work" "$disk/root"

# The container sees the unified hierarchy only, also on machines that mix it with the old one.
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "$cgroup"
echo "$$" >"$cgroup/cgroup.procs"

export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
status=$reboot
while [ "$status" = "$reboot" ]; do
  status=0
  systemd-nspawn --directory="$disk/root" "$@" || status=$?
done
exit "$status"
