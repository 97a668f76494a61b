"""The command line: parse, one library call, print."""


def main() -> None:
    """Run it; what it is made of is imported here, so that a part of it can be imported alone."""
    from hfsynth.cli.app import main as run

    run()
