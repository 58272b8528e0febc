"""Debian folders that hold the real editors: how each is made, kept and entered.

    python -m tests.hosts.chroots [NAME...]

builds what is missing and says how long it took and how large it is. Needs root and mmdebstrap. A program in a host
sees the host's own /usr, and at their usual places this repository and the Python that runs it: an editor's plugin
starts the real core, as on an artist's machine.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
X11_SOCKETS = Path("/tmp/.X11-unix")
STAMP = "complete-recipe"
"""File in a host that is written last: the hash of the recipe that it was made from."""


class HostUnavailable(Exception):
    """A host cannot be made here; the message says why."""


PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "Xvfb": "xvfb",
    "openbox": "openbox",
    "xdotool": "xdotool",
    "import": "imagemagick",
}
"""What the tests call on this machine, and the Debian package that each comes from."""

# A program that is started so is killed when the thread that started it ends, even if by kill -9.
ENDS_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True)
class Recipe:
    """What a host is made of."""

    name: str
    editor: str
    """"krita" or "gimp"."""
    version: str
    """How its editor's version starts."""
    suites: tuple[str, ...]
    packages: tuple[str, ...]
    preferences: str = ""
    """For /etc/apt/preferences.d: which suite a package comes from."""
    required: bool = True
    """Without it the tests fail; otherwise its own are skipped, loudly."""

    @property
    def hash(self) -> str:
        # Whether it is required does not change what is inside.
        parts = {**asdict(self), "required": None, "options": OPTIONS}
        return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()


OPTIONS = (
    "--variant=apt",
    "--mode=root",
    f"--keyring={KEYRING}",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Retries "3"',
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("krita51", "krita", "5.1", ("bookworm",), ("krita", "python3-pyqt5")),
        Recipe("krita52", "krita", "5.2", ("trixie",), ("krita", "python3-pyqt5")),
        Recipe(
            "krita6",
            "krita",
            "6.",
            ("sid", "experimental"),
            ("krita", "python3-pyqt6", "qt6-svg-plugins"),  # without the last one Krita 6 has no icons
            "Package: krita krita-data\nPin: release a=experimental\nPin-Priority: 990\n",
            required=False,  # both suites move, and may not be installable on a given day
        ),
        Recipe("gimp30", "gimp", "3.0", ("trixie",), ("gimp", "python3-gi-cairo")),
        Recipe("gimp32", "gimp", "3.2", ("forky",), ("gimp", "python3-gi-cairo"), required=False),
    )
}


@dataclass(frozen=True)
class Host:
    """A complete host."""

    recipe: Recipe
    root: Path

    def popen(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        writable: Sequence[Path] = (),
        **options: Any,
    ) -> subprocess.Popen[bytes]:
        """Start a program in the host, with exactly this environment.

        Folders have the same path inside as outside: those in `writable`, and read-only the repository and its
        Python. /tmp is the program's own, loopback is this machine's. Mounts and processes are private to it: none
        is left when the program ends, nor when the Popen is killed, which kills all that it started as well.
        """
        script = self._script([str(part) for part in command], environment, writable)
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]
        return subprocess.Popen([*ENDS_WITH_PARENT, *isolated], **options)

    def run(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        writable: Sequence[Path] = (),
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the host to its end, see `popen`; its stderr is with its stdout."""
        process = self.popen(
            command, environment, writable, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=-2
        )
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, said.decode(errors="replace"))

    def _script(
        self, command: Sequence[str], environment: Mapping[str, str], writable: Sequence[Path]
    ) -> str:
        root = shlex.quote(str(self.root))
        lines = [
            "set -e",
            "mount --make-rprivate /",
            f"mount --rbind /dev {root}/dev",
            f"mount --rbind /sys {root}/sys",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
        ]
        screens = [X11_SOCKETS] if X11_SOCKETS.exists() else []  # missing until the first X server has run
        for path in [*read_only_paths(), *screens, *writable]:
            target = root + shlex.quote(str(path))
            # What is mounted on must be there, a file for a file; the host's own is left as it is.
            make = "mkdir -p" if path.is_dir() else "touch -a"
            lines += [f"{make} {target}", f"mount --rbind {shlex.quote(str(path))} {target}"]
            if path not in writable:
                lines.append(f"mount -o remount,bind,ro {target}")
        lines += [
            # Not exec: a program that is process 1 is not sent its signals, and must reap what others leave.
            f"chroot {root} env -i "
            + shlex.join([*(f"{name}={value}" for name, value in environment.items()), *command])
            + " && exit 0 || exit $?",
        ]
        return "\n".join(lines)


def read_only_paths() -> list[Path]:
    """The repository and the Python that runs it, without those that lie in one another.

    A host has a /usr of its own: of a Python that is part of this system's /usr, the interpreter and the standard
    library alone go to the host, where they find their libraries as long as the host's Debian is not the older one.
    """
    base = Path(sys.base_prefix)
    python = [_interpreter(), Path(sysconfig.get_path("stdlib"))] if base == Path("/usr") else [base]
    paths = {REPOSITORY, Path(sys.prefix), *python} - {Path("/usr")}
    return sorted(path for path in paths if not paths & set(path.parents))


def _interpreter() -> Path:
    """The program in /usr that the Python of a virtual environment is a link to.

    Raises HostUnavailable for a name that means another Python in a host.
    """
    program = Path(sys.executable)
    while program.is_symlink() and Path("/usr") not in program.parents:
        program = program.parent / program.readlink()
    if program.is_symlink():
        raise HostUnavailable(
            f"The tests' Python is {program}, which is another Python in a host. Make .venv anew with its full "
            f"name: rm -r .venv; make .venv/installed-dev PYTHON={program.resolve()}."
        )
    return program


def host(name: str) -> Host:
    """The host of that name, made if need be."""
    return Host(RECIPES[name], ensure(name))


def ensure(name: str) -> Path:
    """The root folder of a host; made anew where it is missing, half made, or of another recipe.

    Raises HostUnavailable with mmdebstrap's last words.
    """
    recipe = RECIPES[name]
    root = hosts_folder() / name
    root.parent.mkdir(parents=True, exist_ok=True)
    with _lock(root.with_name(f"{name}.lock")):
        stamp = root / STAMP
        if stamp.exists() and stamp.read_text() == recipe.hash:
            return root
        partial = root.with_name(f"{name}.partial")
        _remove(root)
        _remove(partial)
        _build(recipe, partial)
        (partial / STAMP).write_text(recipe.hash)
        partial.rename(root)
    return root


def hosts_folder() -> Path:
    """Where hosts are kept."""
    return Path(
        os.environ.get("LAZYDIFFUSION_HOSTS") or Path.home() / ".cache/lazydiffusion/hosts"
    ).absolute()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep a second run of the tests from making the same host."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove(folder: Path) -> None:
    if folder.exists():
        # rm, because shutil.rmtree would follow a mount of /dev that something else has left there.
        subprocess.run(["rm", "-rf", "--one-file-system", "--", folder], check=True)


def _build(recipe: Recipe, folder: Path) -> None:
    if os.geteuid() != 0:
        raise HostUnavailable(f"Only root can make the host {recipe.name}. Run the tests as root.")
    if not shutil.which("mmdebstrap"):
        raise HostUnavailable(
            f"mmdebstrap makes the host {recipe.name} and is missing: apt install mmdebstrap."
        )
    options = [*OPTIONS, *_apt_options(), f"--include={','.join(recipe.packages)}"]
    if recipe.preferences:
        write = f'printf %s {shlex.quote(recipe.preferences)} > "$1/etc/apt/preferences.d/host"'
        options.append(f'--setup-hook=mkdir -p "$1/etc/apt/preferences.d"; {write}')
    mirror = _mirror()
    sources = [f"deb {mirror} {suite} main" for suite in recipe.suites]
    command = ["mmdebstrap", *options, recipe.suites[0], str(folder), *sources]
    made = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if made.returncode:
        _remove(folder)
        said = made.stdout.decode(errors="replace").splitlines()[-15:]
        raise HostUnavailable(
            f"The host {recipe.name} cannot be made: mmdebstrap ended with {made.returncode}.\n"
            + "\n".join(said)
        )


def _mirror() -> str:
    """The Debian mirror of this machine."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    for address in listed.stdout.split():
        if address.rstrip("/").endswith("/debian"):
            return address.rstrip("/")
    raise HostUnavailable(
        "apt's sources on this machine name no Debian mirror (an address that ends in /debian)."
    )


def _apt_options() -> list[str]:
    """What this machine's apt was told about reaching its mirror: proxies, and whether its dates hold."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True)
    wanted = ("Acquire::Check-", "Acquire::http::", "Acquire::https::")
    return [f"--aptopt={line.rstrip(';')}" for line in dump.stdout.splitlines() if line.startswith(wanted)]


def main() -> int:
    """Build hosts, two at a time. 1 when a required one is missing afterwards."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.hosts.chroots", description="Build the editors' hosts."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)}; all if none is given"
    )
    names = parser.parse_args().names or list(RECIPES)
    if unknown := sorted(set(names) - set(RECIPES)):
        parser.error(f"there is no host {', '.join(unknown)}; there are {', '.join(RECIPES)}")

    if missing := sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)}):
        words = " ".join(missing)
        print(f"The tests in real editors need {words}: apt-get install {words}.", file=sys.stderr)  # noqa: T201
        return 1

    def make(name: str) -> bool:
        started = time.monotonic()
        try:
            root = ensure(name)
        except HostUnavailable as error:
            kind = "required" if RECIPES[name].required else "not required: its tests are SKIPPED"
            print(f"HOST UNAVAILABLE ({kind}): {error}", file=sys.stderr, flush=True)  # noqa: T201
            return not RECIPES[name].required
        seconds = time.monotonic() - started
        size = subprocess.run(
            ["du", "-sxm", root], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        print(f"{name}: {size} MB in {root}, {seconds:.1f} s", flush=True)  # noqa: T201
        return True

    with ThreadPoolExecutor(2) as pool:
        return 0 if all(list(pool.map(make, names))) else 1


if __name__ == "__main__":
    sys.exit(main())
