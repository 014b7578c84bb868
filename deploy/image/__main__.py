"""`python -m deploy.image`: build the images and say what they weigh."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.containers import TOOLS, find_tool
from deploy.errors import DeployError
from deploy.image.build import TARGETS, build_image
from deploy.image.sizes import layers_of, table
from deploy.sources import find_sources


def main() -> int:
    """Build what is asked for; gives the exit code."""
    options = _parser().parse_args()
    try:
        tool = find_tool(options.tool)
        sources = find_sources(None, options.model, options.base_image)
        arguments = sources.arguments()
        for target in options.targets or TARGETS:
            tag = f"{options.name}-{target}"
            build_image(
                tool,
                sources.folder,
                target=target,
                tag=tag,
                arguments=arguments,
                platform=options.platform,
                options=options.option,
            )
            print(f"{tag}, built by {tool.name}:\n{table(layers_of(tool, tag))}", flush=True)
    except DeployError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description=main.__doc__)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: both")
    parser.add_argument("--name", default="friend", help="the images are NAME-bot and NAME-lambda")
    parser.add_argument("--model", type=Path, help="the lambda image's .gguf; default: the shipped")
    parser.add_argument("--base-image", default="", help="Debian-like, with Python 3.11 or newer")
    parser.add_argument("--platform", default="", help="linux/amd64 or linux/arm64")
    parser.add_argument("--tool", default="", choices=["", *TOOLS], help="default: what is there")
    parser.add_argument(
        "--option", action="append", default=[], help="passed to the tool's build, repeatable"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
