"""Building the images, measuring them, and a base to build on where no registry is reachable.

`python -m deploy.image` is `make image`. `layers.py`, `requirements.py` and `compiler.sh` run
inside the build.
"""
