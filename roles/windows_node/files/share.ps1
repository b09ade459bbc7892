# Connects a share as a drive that every session of the machine sees, encrypted on its way.
[CmdletBinding(SupportsShouldProcess)]
param(
    [string]$Drive,
    [string]$Path,
    [pscredential]$Credential
)
$ErrorActionPreference = 'Stop'
$Ansible.Changed = $false
$there = Get-SmbGlobalMapping -LocalPath $Drive -ErrorAction SilentlyContinue
if ($there -and $there.RemotePath -eq $Path) {
    return
}
if (-not $there -and (Test-Path -LiteralPath "$Drive\")) {
    throw "the drive $Drive is in use for something else: give the share $Path another letter"
}
$Ansible.Changed = $true
if ($Ansible.CheckMode) {
    return
}
if ($there) {
    Remove-SmbGlobalMapping -LocalPath $Drive -Force
}
$null = New-SmbGlobalMapping -LocalPath $Drive -RemotePath $Path -Credential $Credential -Persistent $true -RequirePrivacy $true
