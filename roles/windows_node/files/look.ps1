# Refuses a machine that cannot be what is asked of it. Changes nothing.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Adapter,
    [string]$Management,
    [bool]$NeedsLinux
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false

# 22621 is Windows 11 22H2, the first whose Linux can have the machine's own addresses.
$build = [Environment]::OSVersion.Version.Build
if ($NeedsLinux -and $build -lt 22621) {
    throw "it is Windows build $build; the Linux in it needs 22621 (Windows 11 22H2) or newer: update Windows"
}

if ($Adapter) {
    $found = Get-NetAdapter -Name $Adapter -ErrorAction SilentlyContinue
    if (-not $found) {
        $known = (Get-NetAdapter -Physical | ForEach-Object { "'$($_.Name)'" }) -join ', '
        throw "fleet_windows.adapter.name is '$Adapter', which is no network card of this machine; it has $known"
    }
    # Changing the card that the session comes in by would cut it, with nobody there to undo that.
    $ways = @($Management)
    if ($env:SSH_CONNECTION) {
        $ways += ($env:SSH_CONNECTION -split ' ')[2]
    }
    $own = @(Get-NetIPAddress -InterfaceIndex $found.ifIndex -ErrorAction SilentlyContinue | ForEach-Object { $_.IPAddress })
    foreach ($way in $ways) {
        if ($own -contains $way) {
            throw "fleet_windows.adapter '$Adapter' has the address $way that Ansible connects to: connect over another card (ansible_host)"
        }
    }
}
