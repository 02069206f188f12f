"""`python -m sparsecore.cli`, for where the command is not installed."""

from sparsecore.cli import main

if __name__ == "__main__":
    main()
