"""`python -m localcloud.stack`."""

from localcloud.stack.cli import main

main(prog_name="python -m localcloud.stack")
