# Gives a network card its static address and its properties, and notes what it had before.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Adapter,
    [string]$Address,
    [int]$PrefixLength,
    [string]$Properties,
    [string]$State
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
$notes = [System.Collections.Generic.List[string]]::new()
$changes = @{}

$card = Get-NetAdapter -Name $Adapter
$interface = Get-NetIPInterface -InterfaceIndex $card.ifIndex -AddressFamily IPv4
$addresses = @(Get-NetIPAddress -InterfaceIndex $card.ifIndex -AddressFamily IPv4 -ErrorAction SilentlyContinue)
$before = @{
    Adapter    = $Adapter
    Dhcp       = "$($interface.Dhcp)"
    Addresses  = @($addresses | Where-Object { $_.PrefixOrigin -eq 'Manual' } | ForEach-Object { "$($_.IPAddress)/$($_.PrefixLength)" })
    Properties = @{}
}

foreach ($property in @(($Properties | ConvertFrom-Json).PSObject.Properties | Sort-Object -Property Name)) {
    $keyword = $property.Name
    $there = Get-NetAdapterAdvancedProperty -Name $Adapter -RegistryKeyword $keyword -ErrorAction SilentlyContinue
    if (-not $there) {
        $notes.Add("$Adapter has no property $keyword")
        continue
    }
    $value = [long]$property.Value
    if ($there.ValidRegistryValues) {
        # The nearest that the card offers, and never more than was asked for.
        $offered = @($there.ValidRegistryValues | ForEach-Object { [long]$_ } | Sort-Object)
        $fitting = @($offered | Where-Object { $_ -le $value })
        $taken = if ($fitting.Count) { $fitting[-1] } else { $offered[0] }
    }
    else {
        $taken = $value
        if ($null -ne $there.NumericParameterMaxValue) { $taken = [Math]::Min($taken, [long]$there.NumericParameterMaxValue) }
        if ($null -ne $there.NumericParameterMinValue) { $taken = [Math]::Max($taken, [long]$there.NumericParameterMinValue) }
    }
    if ($taken -ne $value) {
        $notes.Add("$Adapter takes $taken for $keyword, where $value is asked for")
    }
    $now = [long]@($there.RegistryValue)[0]
    if ($now -ne $taken) {
        $before.Properties[$keyword] = $now
        $changes[$keyword] = $taken
    }
}

$kept = @($addresses | Where-Object { $_.IPAddress -eq $Address -and $_.PrefixLength -eq $PrefixLength })
$moves = "$($interface.Dhcp)" -ne 'Disabled' -or $addresses.Count -ne 1 -or $kept.Count -ne 1
$Ansible.Changed = $moves -or $changes.Count -gt 0
$Ansible.Result = @{ notes = @($notes); changes = $changes; address = [bool]$moves }
if ($Ansible.CheckMode -or -not $Ansible.Changed) {
    return
}

# What it had before the first change, not before the last.
$record = Join-Path $State 'adapter.json'
if (Test-Path -LiteralPath $record) {
    $first = Get-Content -LiteralPath $record -Raw | ConvertFrom-Json
    foreach ($keyword in @($before.Properties.Keys)) {
        if (-not $first.Properties.PSObject.Properties[$keyword]) {
            $first.Properties | Add-Member -NotePropertyName $keyword -NotePropertyValue $before.Properties[$keyword]
        }
    }
    $before = $first
}
$before | ConvertTo-Json -Depth 4 | Set-Content -LiteralPath $record -Encoding utf8

foreach ($keyword in @($changes.Keys | Sort-Object)) {
    Set-NetAdapterAdvancedProperty -Name $Adapter -RegistryKeyword $keyword -RegistryValue $changes[$keyword] -NoRestart
}
if ($changes.Count) {
    Restart-NetAdapter -Name $Adapter
}
if ($moves) {
    Set-NetIPInterface -InterfaceIndex $card.ifIndex -AddressFamily IPv4 -Dhcp Disabled
    $addresses | Where-Object { $_.IPAddress -ne $Address -or $_.PrefixLength -ne $PrefixLength } | Remove-NetIPAddress -Confirm:$false
    if (-not $kept.Count) {
        $null = New-NetIPAddress -InterfaceIndex $card.ifIndex -IPAddress $Address -PrefixLength $PrefixLength
    }
}
