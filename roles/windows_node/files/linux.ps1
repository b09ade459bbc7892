# Ensures that a Linux is in this Windows and that Ansible can log in to it.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Distribution,
    [string]$User,
    [string]$PublicKey,
    [int]$Port,
    [string]$State,
    [bool]$Restart
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
# It writes UTF-16 otherwise.
$env:WSL_UTF8 = '1'

function Invoke-Wsl {
    param([string[]]$Words, [string]$Text = $null)
    $said = if ($Text) { $Text | & wsl.exe @Words 2>&1 } else { & wsl.exe @Words 2>&1 }
    if ($LASTEXITCODE -ne 0) {
        throw "wsl $($Words -join ' ') ended with $LASTEXITCODE`: $said"
    }
    return $said
}

$known = @(& wsl.exe --list --quiet 2>$null | ForEach-Object { "$_".Trim() } | Where-Object { $_ })
if ($known -notcontains $Distribution) {
    $Ansible.Changed = $true
    if ($Ansible.CheckMode) {
        return
    }
    # Who removes the fleet removes a Linux that came with it, and no other.
    $null = New-Item -ItemType Directory -Path $State -Force
    Set-Content -LiteralPath (Join-Path $State 'linux.txt') -Value $Distribution -Encoding utf8
    $null = Invoke-Wsl @('--install', '--distribution', $Distribution, '--no-launch', '--web-download')
    # Made known to Windows by its first start, as root: nobody is asked for a name.
    $null = Invoke-Wsl @('--distribution', $Distribution, '--user', 'root', '--exec', '/bin/true')
}
elseif ($Restart -and -not $Ansible.CheckMode) {
    $null = Invoke-Wsl @('--shutdown')
}

# Behind its last line PowerShell writes the end of a line as Windows has it, which is a comment then.
# One script, which is told what to do by its arguments and says whether it did anything.
$script = @'
set -eu
user=$1 port=$2 key=$3 check=$4 changed=
differs() { changed=yes; [ "$check" = no ]; }
if [ ! -e /usr/sbin/sshd ] || [ ! -e /usr/bin/sudo ] || [ ! -e /usr/bin/python3 ]; then
  if differs; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq openssh-server sudo python3 >/dev/null
  fi
fi
if ! id "$user" >/dev/null 2>&1; then
  if differs; then useradd --create-home --shell /bin/bash "$user"; fi
fi
keep() {
  if [ "$(cat "$1" 2>/dev/null)" != "$2" ]; then
    if differs; then
      mkdir -p "$(dirname "$1")"
      printf '%s\n' "$2" >"$1"
      chmod "$3" "$1"
    fi
  fi
}
keep /etc/wsl.conf "[boot]
systemd=true
[user]
default=$user" 644
keep "/etc/sudoers.d/$user" "$user ALL=(ALL) NOPASSWD: ALL" 440
keep /etc/ssh/sshd_config.d/stagefleet.conf "Port $port
PasswordAuthentication no
PermitRootLogin no" 644
keep "/home/$user/.ssh/authorized_keys" "$key" 600
if [ "$check" = no ] && [ -n "$changed" ]; then
  chown -R "$user:" "/home/$user/.ssh"
  chmod 700 "/home/$user/.ssh"
  systemctl enable --quiet ssh 2>/dev/null || true
fi
echo "changed=$changed"
'@
$words = @('--distribution', $Distribution, '--user', 'root', '--exec', '/bin/sh', '-s', '--')
$check = if ($Ansible.CheckMode) { 'yes' } else { 'no' }
$said = Invoke-Wsl ($words + @($User, "$Port", $PublicKey, $check)) "$($script -replace "`r", '')`n#"
if ("$said" -match 'changed=yes') {
    $Ansible.Changed = $true
    if (-not $Ansible.CheckMode) {
        # systemd and the name of its user are read when it starts.
        $null = Invoke-Wsl @('--terminate', $Distribution)
    }
}
