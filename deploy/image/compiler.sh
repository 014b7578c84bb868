# Install what compiles the engine, unless the base image has it.
set -eu
missing=
command -v g++ >/dev/null || missing=g++
# Debian packages Python's headers and venv by themselves; the python images hold them.
python3 -c 'import ensurepip, pathlib, sysconfig
pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()' 2>/dev/null \
    || missing="$missing python3-dev python3-venv"
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
if [ -n "$missing" ]; then
    apt-get -qq update
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends \
        -o Dpkg::Options::=--force-unsafe-io $missing >/dev/null
    rm -rf /var/lib/apt/lists/*
fi
