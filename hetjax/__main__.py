"""`python -m hetjax`: what this machine can run, what a packed network holds, how well it does."""

from hetjax.cli.main import main

if __name__ == "__main__":
  raise SystemExit(main())
