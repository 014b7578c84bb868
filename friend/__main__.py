"""`python -m friend` is the `friend` command."""

from friend.cli import main

if __name__ == "__main__":
    main()
