"""A stock Debian kernel: fetched with apt, unpacked, never installed."""

from __future__ import annotations

import lzma
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache") / "osdetectord-kernels"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
META = "linux-image-amd64"

MODULES = (
    # in the order in which they need each other; what a kernel has built in has no file
    *("netfs", "fscache", "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("9pnet", "9p", "9pnet_virtio", "overlay"),
    *("crc16", "crc32c_generic", "libcrc32c", "mbcache", "jbd2", "ext4", "virtio_blk"),
)
"""What it takes to see the host's root and a disk."""


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel that can be booted.

    Parameters
    ----------
    release
        As ``uname -r`` says it.
    kernel
        The compressed kernel.
    modules
        Those of :data:`MODULES` that it has, uncompressed, in their order.
    """

    release: str
    kernel: Path
    modules: tuple[Path, ...]


def fetch(suite: str) -> Image:
    """The kernel that Debian's security archive has for a release now, such as ``bookworm``; kept from then on."""
    apt = _Apt(CACHE / suite, f"deb [signed-by={KEYRING}] {_security_archive()} {suite}-security main\n")
    package = apt.depends(META)
    release = package.removeprefix("linux-image-")
    directory = CACHE / release
    if not (directory / "complete").exists():
        (directory / "modules").mkdir(parents=True, exist_ok=True)
        _unpack(apt.download(package), release, directory)
        (directory / "complete").touch()
    held = {path.stem: path for path in (directory / "modules").iterdir()}
    return Image(release, directory / "vmlinuz", tuple(held[name] for name in MODULES if name in held))


def _security_archive() -> str:
    """Where this machine's own apt has Debian's security archive from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = sorted({line.split()[0] for line in told.splitlines() if line.endswith("-security")})
    assert found, "apt has no source of Debian's security archive"
    return found[0]


class _Apt:
    """The client with a source, lists and a cache of its own: nothing of the machine's is read or changed."""

    def __init__(self, directory: Path, source: str) -> None:
        (directory / "lists/partial").mkdir(parents=True, exist_ok=True)
        (directory / "sources.list").write_text(source)
        self._directory = directory
        self._options = [
            *("-o", f"Dir::Etc::sourcelist={directory}/sources.list", "-o", "Dir::Etc::sourceparts=/dev/null"),
            *("-o", f"Dir::State::lists={directory}/lists", "-o", f"Dir::Cache={directory}"),
            *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"),
        ]
        self._run("apt-get", "--quiet", "update")

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [program, *self._options, *words], cwd=self._directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{program} {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout

    def depends(self, package: str) -> str:
        """The one package that a package stands for."""
        lines = self._run("apt-cache", "show", "--no-all-versions", package).splitlines()
        (needed,) = (line for line in lines if line.startswith("Depends: "))
        return needed.split()[1]

    def download(self, package: str) -> Path:
        """Fetch and verify; the caller's to delete."""
        self._run("apt-get", "--quiet", "download", package)
        (path,) = self._directory.glob(f"{package}_*.deb")
        return path


def _unpack(package: Path, release: str, directory: Path) -> None:
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        for member in archive:
            path = PurePosixPath(member.name)
            module, extension, compressed = path.name.partition(".ko")
            if path.name == f"vmlinuz-{release}":
                (directory / "vmlinuz").write_bytes(_content(archive, member))
            elif extension and module in MODULES:
                content = _content(archive, member)
                (directory / f"modules/{module}.ko").write_bytes(lzma.decompress(content) if compressed else content)
    assert unpacking.returncode == 0 and (directory / "vmlinuz").exists(), f"{package} can't be unpacked"
    package.unlink()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, member.name
    return file.read()
