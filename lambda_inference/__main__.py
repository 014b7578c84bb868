"""`python -m lambda_inference serve`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command named by the first argument; gives the exit code."""
    if sys.argv[1:2] != ["serve"]:
        print("usage: python -m lambda_inference serve [--help]", file=sys.stderr)
        return 2
    from lambda_inference.serving import serve

    return serve.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
