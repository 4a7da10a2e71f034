"""python -m jaxdistill COMMAND ...: the command `jaxdistill` (`command`)."""

from jaxdistill.command import run

if __name__ == "__main__":
    run()
