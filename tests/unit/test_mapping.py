"""Files of a process are opened inside its root, wherever their symbolic links point."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from osdetectord.probing.mapping import MAX_LINKS, _walk


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A root with the file /usr/lib/lib.so, and a file beside it that nothing inside may reach."""
    inside = tmp_path / "root"
    (inside / "usr/lib").mkdir(parents=True)
    (inside / "usr/lib/lib.so").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    fd = os.open(inside, os.O_PATH | os.O_DIRECTORY)
    yield fd, inside
    os.close(fd)


def read(root: int, path: str) -> str:
    with os.fdopen(_walk(root, path)) as file:
        return file.read()


@pytest.mark.parametrize(
    ("link", "target"),
    [("lib", "usr/lib"), ("lib", "/usr/lib"), ("usr/lib64", "../usr/./lib//"), ("lib", "/../../usr/lib")],
)
def test_links_are_followed_as_the_process_would(root: tuple[int, Path], link: str, target: str) -> None:
    fd, inside = root
    (inside / link).symlink_to(target)
    assert read(fd, f"/{link}/lib.so") == read(fd, "/usr/lib/lib.so") == "inside"


@pytest.mark.parametrize("path", ["/../secret", "/usr/../../secret", "/out", "/up/secret"])
def test_nothing_outside_is_reached(root: tuple[int, Path], path: str) -> None:
    fd, inside = root
    (inside / "out").symlink_to(inside.parent / "secret")
    (inside / "up").symlink_to("..")
    with pytest.raises(FileNotFoundError):
        read(fd, path)


def test_links_in_a_circle_are_an_error_and_no_descriptor_stays(root: tuple[int, Path]) -> None:
    fd, inside = root
    (inside / "a").symlink_to("b")
    (inside / "b").symlink_to("/a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        _walk(fd, "/a")
    with pytest.raises(NotADirectoryError):
        _walk(fd, "/usr/lib/lib.so/x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_as_many_links_as_the_kernel_follows_are_followed(root: tuple[int, Path]) -> None:
    fd, inside = root
    (inside / "0").symlink_to("usr/lib/lib.so")
    for n in range(1, MAX_LINKS):
        (inside / str(n)).symlink_to(str(n - 1))
    assert read(fd, f"/{MAX_LINKS - 1}") == "inside"
