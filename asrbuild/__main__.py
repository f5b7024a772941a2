"""``python -m asrbuild``: the command line."""

from asrbuild.cli.main import main

main()
