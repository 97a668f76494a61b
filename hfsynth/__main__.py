"""Run the command line: `python -m hfsynth`."""

from hfsynth.cli import main

main()
