"""The command line: `python -m hetjax {doctor,inspect,run,bench}`."""
