# Keeps the rules of the firewall between Windows and the Linux in it: those of the fleet, no others of its name.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Prefix,
    [string]$Rules
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
# What Windows calls the Linux machines in it, everywhere.
$creator = '{40E0AC32-46A5-438A-A0B2-2B479E8F2E90}'
$wanted = @($Rules | ConvertFrom-Json | ForEach-Object { $_ })
$there = @(Get-NetFirewallHyperVRule -ErrorAction SilentlyContinue | Where-Object { $_.Name -like "$Prefix*" })

foreach ($rule in $there) {
    $same = $wanted | Where-Object {
        $_.name -eq $rule.Name -and $_.protocol -eq "$($rule.Protocol)" -and
        "$($_.port)" -eq (@($rule.LocalPorts) -join ',') -and
        ((@($_.sources) | Sort-Object) -join ',') -eq ((@($rule.RemoteAddresses) | Sort-Object) -join ',')
    }
    if (-not $same) {
        $Ansible.Changed = $true
        if (-not $Ansible.CheckMode) {
            Remove-NetFirewallHyperVRule -Name $rule.Name
        }
    }
}
# What is not there any more, or never was.
$kept = @(if ($Ansible.CheckMode) { $there.Name } else { (Get-NetFirewallHyperVRule -ErrorAction SilentlyContinue).Name })
foreach ($rule in $wanted) {
    if ($kept -notcontains $rule.name) {
        $Ansible.Changed = $true
        if (-not $Ansible.CheckMode) {
            $new = @{
                Name            = $rule.name
                DisplayName     = $rule.name
                Direction       = 'Inbound'
                Action          = 'Allow'
                VMCreatorId     = $creator
                Protocol        = $rule.protocol
                LocalPorts      = "$($rule.port)"
                RemoteAddresses = @($rule.sources)
            }
            $null = New-NetFirewallHyperVRule @new
        }
    }
}
