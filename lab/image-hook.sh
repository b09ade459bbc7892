#!/bin/sh
# Run by mmdebstrap when the base image's packages are installed; $1 is the image. Makes it what a
# freshly installed server is: SSH for an administrator, few services, and packages to install.
set -eu
root=$1

# Only what is enabled here runs; a package that is installed later starts nothing by itself.
presets=$root/etc/systemd/system-preset
mkdir -p "$presets"
printf 'enable ssh.service\nenable systemd-networkd.service\nenable dbus*\ndisable *\n' \
  >"$presets/00-lab.preset"
chroot "$root" systemctl preset-all --preset-mode=full
rm "$presets/00-lab.preset"
# What makes no sense without a console, a disk or a way to the outside.
chroot "$root" systemctl mask --quiet getty@.service console-getty.service e2scrub_reap.service \
  apt-daily.timer apt-daily-upgrade.timer fstrim.timer systemd-networkd-wait-online.service

chroot "$root" useradd --create-home --shell /bin/bash "$LAB_ADMINISTRATOR"
printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$LAB_ADMINISTRATOR" >"$root/etc/sudoers.d/lab"

# Packages that roles install: downloaded now, installed on a host from there.
packages=/var/lib/lab/packages
mkdir -p "$root$packages"
# shellcheck disable=SC2086 # a list of words
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get install --yes --quiet --no-install-recommends \
  --download-only $LAB_PACKAGES
mv "$root"/var/cache/apt/archives/*.deb "$root$packages/"
(cd "$root$packages" && apt-ftparchive packages . >Packages)
rm -f "$root"/etc/apt/sources.list.d/*
# Nobody but the lab's builder writes there, so that nothing needs to be signed.
printf 'deb [trusted=yes] file:%s ./\n' "$packages" >"$root/etc/apt/sources.list"
# Every host gets its own.
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
