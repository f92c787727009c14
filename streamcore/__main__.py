"""`python -m streamcore` is the command line."""

from streamcore.cli.main import main

main()
