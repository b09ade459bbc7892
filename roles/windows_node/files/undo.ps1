# Puts back what a card had before the fleet came, and removes drives and the Linux that came with it.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$State,
    [string]$Drives
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
$env:WSL_UTF8 = '1'

foreach ($drive in @($Drives | ConvertFrom-Json | ForEach-Object { "${_}:" })) {
    if (Get-SmbGlobalMapping -LocalPath $drive -ErrorAction SilentlyContinue) {
        $Ansible.Changed = $true
        if (-not $Ansible.CheckMode) {
            Remove-SmbGlobalMapping -LocalPath $drive -Force
        }
    }
}

$linux = Join-Path $State 'linux.txt'
if (Test-Path -LiteralPath $linux) {
    $distribution = (Get-Content -LiteralPath $linux -Raw).Trim()
    $known = @(& wsl.exe --list --quiet 2>$null | ForEach-Object { "$_".Trim() })
    if ($known -contains $distribution) {
        $Ansible.Changed = $true
        if (-not $Ansible.CheckMode) {
            & wsl.exe --unregister $distribution | Out-Null
            if ($LASTEXITCODE -ne 0) {
                throw "wsl --unregister $distribution ended with $LASTEXITCODE"
            }
        }
    }
}

$record = Join-Path $State 'adapter.json'
if (Test-Path -LiteralPath $record) {
    $Ansible.Changed = $true
    if ($Ansible.CheckMode) {
        return
    }
    $before = Get-Content -LiteralPath $record -Raw | ConvertFrom-Json
    $card = Get-NetAdapter -Name $before.Adapter -ErrorAction SilentlyContinue
    if ($card) {
        foreach ($property in $before.Properties.PSObject.Properties) {
            Set-NetAdapterAdvancedProperty -Name $card.Name -RegistryKeyword $property.Name -RegistryValue $property.Value -NoRestart
        }
        Restart-NetAdapter -Name $card.Name
        Get-NetIPAddress -InterfaceIndex $card.ifIndex -AddressFamily IPv4 -ErrorAction SilentlyContinue |
            Where-Object { $before.Addresses -notcontains "$($_.IPAddress)/$($_.PrefixLength)" } |
            Remove-NetIPAddress -Confirm:$false
        foreach ($address in @($before.Addresses)) {
            $part = $address -split '/'
            if (-not (Get-NetIPAddress -InterfaceIndex $card.ifIndex -IPAddress $part[0] -ErrorAction SilentlyContinue)) {
                $null = New-NetIPAddress -InterfaceIndex $card.ifIndex -IPAddress $part[0] -PrefixLength $part[1]
            }
        }
        if ($before.Dhcp -eq 'Enabled') {
            Set-NetIPInterface -InterfaceIndex $card.ifIndex -AddressFamily IPv4 -Dhcp Enabled
        }
    }
}
