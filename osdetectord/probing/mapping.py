"""What a process has mapped: finds the binary that a location means, and the function that an address is in."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from osdetectord.errors import InvalidArgument, NoSuchProcess, NoSuchSymbol, OsdetectorError, Unsupported
from osdetectord.probing.elf import Elf
from osdetectord.probing.location import Location

MAX_LINKS = 40
"""Symbolic links that a path may lead over, as for the kernel (path_resolution(7))."""

MAX_OPEN_BINARIES = 32

LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *([^\n]*)\n")
DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a file in a process's memory; see proc_pid_maps(5)."""

    begin: int
    end: int
    executable: bool
    offset: int
    inode: int
    path: str
    deleted: bool


@dataclass(frozen=True, slots=True)
class Place:
    """An instruction to attach to.

    Parameters
    ----------
    path
        Of the file, as the daemon may open it for as long as ``fd`` is open.
    fd
        The file; the holder closes it.
    shown
        Path as the process sees it.
    inode
        Device and inode, which tell a replaced file.
    symbol
        Name of the function.
    address, offset
        Of its first instruction: virtual address and place in the file.
    is_go
        Whether the Go compiler made the file.
    """

    path: str
    fd: int
    shown: str
    inode: tuple[int, int]
    symbol: str
    address: int
    offset: int
    is_go: bool

    def close(self) -> None:
        os.close(self.fd)


def regions(pid: int) -> list[Region]:
    """Files that a process has mapped; raises NoSuchProcess."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as file:
            data = file.read()
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(f"no process {pid}") from None
    except PermissionError:
        raise Unsupported(f"the memory map of process {pid} can't be read: it needs CAP_SYS_PTRACE") from None
    root = _root(pid)
    out = []
    for begin, end, mode, offset, _, inode, name in LINE.findall(data):
        if inode == b"0":
            continue
        # the kernel writes a newline in a name as \012
        path = os.fsdecode(name.replace(b"\\012", b"\n"))
        out.append(
            Region(
                begin=int(begin, 16),
                end=int(end, 16),
                executable=mode[2:3] == b"x",
                offset=int(offset, 16),
                inode=int(inode),
                path=path.removesuffix(DELETED).removeprefix(root),
                deleted=path.endswith(DELETED),
            )
        )
    return out


def _root(pid: int) -> str:
    """What the kernel puts before the paths of a process whose root is another than ours, in our mount namespace.

    A process in a mount namespace of its own has the paths that it sees itself (d_path() of fs/d_path.c).
    """
    try:
        root = os.readlink(f"/proc/{pid}/root")
    except OSError:
        return ""
    return "" if root == "/" else root


def open_in(pid: int, path: str) -> int:
    """Open a file as a process sees it, its symbolic links too, inside its root.  Raises our errors."""
    if not pid:
        return _open(path, path)
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(f"no process {pid}") from None
    except PermissionError:
        raise Unsupported(f"the files of process {pid} can't be reached: it needs CAP_SYS_PTRACE") from None
    try:
        return _walk(root, path)
    except OSError as error:
        raise _not_opened(error, f"{path} of process {pid}") from None
    finally:
        os.close(root)


def _walk(root: int, path: str) -> int:
    """Open a file below a directory as if that were the root; raises OSError.

    This is openat2(2) with RESOLVE_IN_ROOT, which is not there where RestrictSUIDSGID= holds: a filter of system
    calls can't look at its arguments, and so systemd answers ENOSYS (seccomp_restrict_suid_sgid()).
    """
    directories = [os.dup(root)]
    parts = path.split("/")[::-1]
    links = 0
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(directories) > 1:
                    os.close(directories.pop())
                continue
            found = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directories[-1])
            directories.append(found)
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                continue
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            # of the link itself; a magic one of /proc leads where its text says, not where the kernel would go
            target = os.readlink("", dir_fd=found)
            os.close(directories.pop())
            while target.startswith("/") and len(directories) > 1:
                os.close(directories.pop())
            parts += target.split("/")[::-1]
        return os.open(f"/proc/self/fd/{directories[-1]}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        for directory in directories:
            os.close(directory)


def _open(path: str, shown: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _not_opened(error, shown) from None


def _not_opened(error: OSError, shown: str) -> OsdetectorError:
    if error.errno == errno.ENOENT:
        return NoSuchSymbol(f"no file {shown}")
    return Unsupported(f"{shown} can't be read: {(error.strerror or '').lower()}")


def find(location: Location, pid: int) -> Place:
    """Where a location is in a process; with pid 0, in a file that any process may map.

    Raises
    ------
    NoSuchProcess, NoSuchSymbol, InvalidArgument, Unsupported
        A message for each way in which it may not be there.
    """
    fd, shown = _open_binary(location.binary, pid)
    try:
        return _place(Elf(fd, shown), location, fd, shown)
    except BaseException:
        os.close(fd)
        raise


def _place(elf: Elf, location: Location, fd: int, shown: str) -> Place:
    if location.address is not None:
        address = location.address
        near = elf.name_at(address)
        symbol = hex(address) if near is None else near[0] if not near[1] else f"{near[0]}+{near[1]:#x}"
    else:
        function = elf.find(location.symbol)
        if function.chosen_at_run_time:
            raise Unsupported(
                f"{shown} chooses one of several {function.name} for each machine when it is loaded (IFUNC): "
                "name that one by its address"
            )
        address, symbol = function.address, function.name
    status = os.fstat(fd)
    return Place(
        path=f"/proc/self/fd/{fd}",
        fd=fd,
        shown=shown,
        inode=(status.st_dev, status.st_ino),
        symbol=symbol,
        address=address,
        offset=elf.offset_of(address),
        is_go=elf.is_go,
    )


def _open_binary(binary: str, pid: int) -> tuple[int, str]:
    if not pid:
        if not binary.startswith("/"):
            raise InvalidArgument(f"binary {binary!r}: without a process it must be an absolute path")
        return _open(binary, binary), binary
    if binary.startswith("/"):
        return open_in(pid, binary), binary
    executable = _executable(pid)
    if not binary or binary in (os.path.basename(executable), "exe"):
        # follows to the file that runs, even if its name has been given to another
        return _open(f"/proc/{pid}/exe", executable), executable
    return _open_library(binary, pid)


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(DELETED).removeprefix(_root(pid))
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(f"no process {pid}") from None
    except PermissionError:
        raise Unsupported(f"the executable of process {pid} can't be read: it needs CAP_SYS_PTRACE") from None


def _open_library(name: str, pid: int) -> tuple[int, str]:
    mapped = {region.path: region for region in regions(pid) if region.executable}
    wanted = re.compile(rf"(lib)?{re.escape(name)}(-[\d.]+)?(\.so(\.[\d.]+)*)?")
    found = [region for path, region in mapped.items() if wanted.fullmatch(os.path.basename(path))]
    if not found:
        libraries = sorted({os.path.basename(path) for path in mapped})
        raise NoSuchSymbol(f"process {pid} maps no library {name}; it maps {', '.join(libraries[:20]) or 'none'}")
    if len(found) > 1:
        paths = ", ".join(region.path for region in found)
        raise InvalidArgument(f"process {pid} maps several libraries {name}, give the path of one: {paths}")
    region = found[0]
    if region.deleted:
        raise Unsupported(f"{region.path} was replaced since process {pid} mapped it: restart the process")
    fd = open_in(pid, region.path)
    if os.fstat(fd).st_ino != region.inode:
        os.close(fd)
        raise Unsupported(f"{region.path} was replaced since process {pid} mapped it: restart the process")
    return fd, region.path


class Names:
    """Names of addresses in a process; keeps the last memory map, so that it can answer after its end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._regions: Sequence[Region] = ()
        self._binaries: OrderedDict[str, Elf | None] = OrderedDict()
        self._known: dict[int, str] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look at the memory map again, where the process still is."""
        try:
            now = regions(self._pid)
        except (NoSuchProcess, Unsupported, OSError):  # no descriptor is free: what was known still helps
            return
        if now:
            self._regions = now

    def name(self, address: int) -> str:
        """``function+0x12 (libc.so.6)``, or the address itself where nothing is known of it."""
        known = self._known.get(address)
        if known is None:
            known = self._known[address] = self._find(address)
        return known

    def _find(self, address: int) -> str:
        region = next((region for region in self._regions if region.begin <= address < region.end), None)
        if region is None:
            return hex(address)
        base = os.path.basename(region.path)
        elf = self._binary(region)
        inside = None if elf is None else elf.address_of(region.offset + address - region.begin)
        found = None if elf is None or inside is None else elf.name_at(inside)
        if found is None:
            return f"{hex(address) if inside is None else hex(inside)} ({base})"
        return f"{found[0]}+{found[1]:#x} ({base})"

    def _binary(self, region: Region) -> Elf | None:
        if region.path not in self._binaries:
            self._binaries[region.path] = self._open(region)
            if len(self._binaries) > MAX_OPEN_BINARIES:
                self._binaries.popitem(last=False)
        return self._binaries[region.path]

    def _open(self, region: Region) -> Elf | None:
        try:
            fd = open_in(self._pid, region.path)
        except OsdetectorError:
            return None
        try:
            elf = Elf(fd, region.path)
            if region.deleted or os.fstat(fd).st_ino != region.inode:
                return None
            # all that is needed later is read now
            elf.name_at(0)
            return elf
        except OsdetectorError:
            return None
        finally:
            os.close(fd)
