"""`python -m runtime`: the same commands as `stagefleet`, for units and plays."""

from runtime.cli.app import main

main()
