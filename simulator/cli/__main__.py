"""`python -m simulator.cli`, for where the command is not installed."""

from simulator.cli.app import main

if __name__ == "__main__":
    main()
