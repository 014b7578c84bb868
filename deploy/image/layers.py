"""Makes the layers of the images, inside the build; standard library only.

`finish LAYER` trims a layer of Python packages, compiles it and settles it. `system LAYER` puts
Python itself into a layer, with the C libraries it needs. `settle LAYER` makes a layer the same,
byte for byte, however often it is built: fixed times and modes. `check LAYER` fails if that system
lacks a C library which some packages need.

The images' root is read-only, so bytecode has to be there beforehand: without it each start would
compile all it imports. It is checked against nothing at import ("unchecked-hash"), which saves a
look at each source file and, unlike timestamps, is the same in every build.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import re
import shutil
import ssl
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

MOMENT = 315532800  # 1 January 1980, the earliest time that every archive format knows
USER, GROUP = 993, 990  # the account that AWS Lambda uses too

# Never imported by a running program, or only by numpy's own tests.
_PACKAGES = (
    r"(^|/)(tests?|__pycache__|_examples|conftest\.py)$",
    r"\.(pyi|a|c|h|pxd|pyx|pxi|f90|cpp|hpp)$",
    r"^opt/packages/bin$",
    r"/numpy/(f2py|_core/(include|lib)|random/(lib|include)|typing/tests)$",
    r"/numpy/_core/(_simd|_[a-z_]+_tests)\.[^/]*so$",
    # Signing needs what gets credentials; the other services' models are half of botocore.
    r"/botocore/data/(?!(sts|sso|sso-oidc|signin)(/|$))[^/.]+$",
)
_STANDARD_LIBRARY = (
    r"^(tests?|idlelib|turtledemo|turtle\.py|tkinter|lib2to3|ensurepip|pydoc_data|venv|distutils)$",
    r"^(config-.*|site-packages|dist-packages|sitecustomize\.py|EXTERNALLY-MANAGED|LICENSE\.txt)$",
    r"^(curses|dbm|crypt\.py|pydoc\.py|this\.py|antigravity\.py|__phello__.*)$",
    r"(^|/)(__pycache__|tests?)$",
    r"\.a$",
    r"^lib-dynload/(_?tkinter|_?curses.*|_?g?dbm|readline|nis|spwd|ossaudiodev|_crypt)\.[^/]*so$",
    r"^lib-dynload/(_test.*|_xx.*|xx.*|_ctypes_test)\.[^/]*so$",
)
_ACCOUNTS = {
    "etc/passwd": f"root:x:0:0::/root:/none\nfriend:x:{USER}:{GROUP}::/data:/none\n",
    "etc/group": f"root:x:0:\nfriend:x:{GROUP}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


def finish(layer: Path) -> None:
    """Trim, compile and settle a layer of packages that lie under `layer`/opt."""
    _remove(layer, _PACKAGES)
    _write_command(layer / "opt" / "friend")
    _compile(layer / "opt", layer)
    settle(layer)


def system(layer: Path, *, libraries_of: Collection[Path]) -> None:
    """Python, its standard library, certificates, accounts, and every C library needed."""
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    _copy(interpreter, layer)
    _copy_library(library, layer, _STANDARD_LIBRARY)
    for name in ("python3", "python"):
        command = layer / "usr" / "bin" / name
        command.parent.mkdir(parents=True, exist_ok=True)
        if not command.exists():
            command.symlink_to(interpreter)
    wanted = [layer / library.relative_to("/"), *libraries_of]
    for shared in sorted(_libraries([interpreter, *_shared_objects(wanted)])):
        if not _within(shared, [layer, *libraries_of]):
            _copy(shared, layer)
    _link_top(layer)
    _certificates(layer)
    for name, text in _ACCOUNTS.items():
        (layer / name).parent.mkdir(parents=True, exist_ok=True)
        (layer / name).write_text(text, encoding="utf-8")
    _loader_cache(layer)
    _compile(layer / library.relative_to("/"), layer)
    settle(layer)
    temporary = layer / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    os.utime(temporary, (MOMENT, MOMENT))
    os.utime(layer, (MOMENT, MOMENT))


def check(layer: Path, *, libraries_of: Collection[Path]) -> None:
    """Stop if `layer`, made by `system`, lacks a C library of these packages."""
    needed = _libraries(_shared_objects(libraries_of))
    names = {path.name for path in needed if not _within(path, libraries_of)}
    if missing := names - {path.name for path in layer.rglob("*.so*")}:
        sys.exit(f"The image lacks {', '.join(sorted(missing))}.")


def settle(layer: Path) -> None:
    """Give everything one time, and modes that do not come from the checkout's umask."""
    for path in [layer, *layer.rglob("*")]:
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
    for path in [*layer.rglob("*"), layer]:
        os.utime(path, (MOMENT, MOMENT), follow_symlinks=False)


def _remove(root: Path, patterns: Iterable[str]) -> None:
    wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    for path in sorted(root.rglob("*")):
        if wanted.search(path.relative_to(root).as_posix()) and (
            path.exists() or path.is_symlink()
        ):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _write_command(code: Path) -> None:
    """The `friend` command; pip's own names the Python of the build."""
    if not (code / "friend").is_dir():
        return
    shutil.rmtree(code / "bin", ignore_errors=True)
    (code / "bin").mkdir()
    command = code / "bin" / "friend"
    command.write_text(
        "#!/usr/bin/python3\nfrom friend.cli import main\n\nmain()\n", encoding="utf-8"
    )
    command.chmod(0o755)


def _compile(folder: Path, layer: Path) -> None:
    compiled = compileall.compile_dir(
        folder,
        maxlevels=40,
        quiet=1,
        force=True,
        workers=0,
        stripdir=str(layer),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        sys.exit(f"Some files in {folder} could not be compiled.")


def _copy(path: Path, layer: Path) -> None:
    """A file to its own place, and what its name points to: libraries are found by both names."""
    real = path.resolve()
    target = layer / real.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(real, target)
    folder = path.parent.resolve()
    name = layer / (folder / path.name).relative_to("/")
    if name != target and not name.is_symlink():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.symlink_to(os.path.relpath(real, folder))


def _copy_library(library: Path, layer: Path, patterns: Iterable[str]) -> None:
    target = layer / library.relative_to("/")
    unwanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def left_out(folder: str, names: list[str]) -> set[str]:
        inside = Path(folder).relative_to(library)
        return {name for name in names if unwanted.search((inside / name).as_posix())}

    shutil.copytree(library, target, ignore=left_out, ignore_dangling_symlinks=True)


def _shared_objects(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*.so*") if path.is_file())


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The files that the dynamic loader would load for these, the loader included."""
    found: set[Path] = set()
    for program in programs:
        result = subprocess.run(  # noqa: S603
            ["/usr/bin/ldd", program], capture_output=True, text=True, check=False
        )
        if "not found" in result.stdout:
            sys.exit(f"{program} needs a library that the base image lacks:\n{result.stdout}")
        found |= {Path(name) for name in re.findall(r"(/\S+) \(0x", result.stdout)}
    return found


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(folder in path.parents for folder in folders)


def _link_top(layer: Path) -> None:
    """/lib and its like are links into /usr on today's Debian; the loader's name starts there."""
    for top in sorted(Path("/").glob("lib*")):
        if top.is_symlink() and (layer / "usr" / top.name).is_dir():
            (layer / top.name).symlink_to(Path("usr") / top.name)


def _certificates(layer: Path) -> None:
    paths = ssl.get_default_verify_paths()
    target = layer / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    target.parent.mkdir(parents=True)
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", target)
    # OpenSSL looks where it was built to look: a link from there, if that is elsewhere.
    named = layer / Path(paths.openssl_cafile).relative_to("/")
    if not named.exists():
        named.parent.mkdir(parents=True, exist_ok=True)
        named.symlink_to("/etc/ssl/certs/ca-certificates.crt")


def _loader_cache(layer: Path) -> None:
    """Lets the loader find libraries outside its built-in folders, as /usr/local/lib."""
    shutil.copyfile("/etc/ld.so.conf", layer / "etc" / "ld.so.conf")
    shutil.copytree("/etc/ld.so.conf.d", layer / "etc" / "ld.so.conf.d")
    subprocess.run(["/sbin/ldconfig", "-X", "-r", layer], check=True)  # noqa: S603
    for leftover in ("var", "etc/ld.so.conf.d", "etc/ld.so.conf"):
        path = layer / leftover
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Make a layer of an image.")
    parser.add_argument("what", choices=("finish", "system", "settle", "check"))
    parser.add_argument("layer", type=Path)
    parser.add_argument("--libraries-of", type=Path, nargs="*", default=[], metavar="DIR")
    options = parser.parse_args()
    if options.what == "finish":
        finish(options.layer)
    elif options.what == "settle":
        settle(options.layer)
    elif options.what == "system":
        system(options.layer, libraries_of=options.libraries_of)
    else:
        check(options.layer, libraries_of=options.libraries_of)


if __name__ == "__main__":
    _main()
