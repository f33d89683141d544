"""Specifications find the processes that they mean, among the real ones of this machine."""

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from osdetectord.errors import NoSuchUser
from osdetectord.matching import Matcher
from osdetectord.target import parse_spec


@pytest.fixture(params=["osd-{}-zz", "osd-{}-ééé"], ids=["ascii", "cut"])
def sleeper(tmp_path, request):
    # the second has 16 bytes, of which the kernel keeps 15: it cuts the last character in two
    number = f"{os.getpid() % 100000:05}"
    program = tmp_path / request.param.format(number)
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    end = time.monotonic() + 5
    while Path(f"/proc/{process.pid}/exe").readlink() != program:
        assert time.monotonic() < end
    yield process, program
    process.kill()
    process.wait()


def test_a_process_is_found_by_command_executable_and_user(sleeper):
    process, program = sleeper
    matcher = Matcher()
    assert matcher.find(parse_spec(f"comm:{program.name}")) == [process.pid]
    assert matcher.find(parse_spec(f"exe:{program}")) == [process.pid]
    assert process.pid in matcher.find(parse_spec(f"user:{pwd.getpwuid(os.getuid()).pw_name}"))
    assert process.pid in matcher.find(parse_spec(f"user:{os.getuid()}"))
    assert matcher.cmdline(process.pid) == f"{program} 60"


def test_a_program_is_found_by_a_link_to_it_and_no_longer_when_that_leads_elsewhere(sleeper, tmp_path):
    process, program = sleeper
    (tmp_path / "bin").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(program)
    matcher = Matcher()
    for path in (f"{tmp_path}/bin/{program.name}", f"{tmp_path}/bin/link"):
        assert matcher.find(parse_spec(f"exe:{path}")) == [process.pid]
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("/bin/true")
    assert matcher.find(parse_spec(f"exe:{tmp_path}/link")) == []


def test_a_program_that_was_replaced_is_still_found_by_its_path(sleeper):
    process, program = sleeper
    program.unlink()
    assert Matcher().find(parse_spec(f"exe:{program}")) == [process.pid]


def test_neither_this_process_nor_the_kernels_own_threads_are_found():
    found = Matcher().find(parse_spec("user:root"))
    assert os.getpid() not in found and 2 not in found


def test_a_process_that_is_gone_matches_nothing():
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    matcher = Matcher()
    for spec in ("comm:true", "exe:/bin/true", "user:root", "cgroup:/x", "unit:x"):
        assert not matcher.among([process.pid], parse_spec(spec), "/x")


def fake_proc(tmp_path, groups):
    for pid, text in groups.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    return Matcher(tmp_path)


@pytest.mark.parametrize("root", ["", "/machine.slice/box"])
def test_a_unit_is_its_control_group_and_what_is_below_it(tmp_path, root):
    matcher = fake_proc(
        tmp_path,
        {
            1: f"0::{root}/init.scope\n",
            10: f"0::{root}/system.slice/nginx.service\n",
            11: f"0::{root}/system.slice/nginx.service/below\n",
            12: f"0::{root}/system.slice/nginx.service-not\n",
            13: f"12:pids:/x\n1:name=systemd:{root}/system.slice/nginx.service\n0::/\n",
        },
    )
    assert matcher.find(parse_spec("unit:nginx"), "/system.slice/nginx.service") == [10, 11, 13]
    assert matcher.find(parse_spec("unit:nginx"), "") == []
    assert matcher.find(parse_spec(f"cgroup:{root}/system.slice/nginx.service")) == [10, 11, 13]


def test_a_user_is_looked_up_once_for_all_processes(monkeypatch):
    asked, look_up = [], pwd.getpwnam

    def counted(name):
        asked.append(name)
        return look_up(name)

    monkeypatch.setattr(pwd, "getpwnam", counted)
    spec = parse_spec(f"user:{pwd.getpwuid(os.getuid()).pw_name}")
    assert Matcher().among([os.getpid()] * 3, spec) == [os.getpid()] * 3
    assert len(asked) == 1
    assert Matcher().find(spec) and len(asked) == 2


def test_an_unknown_user_is_named():
    with pytest.raises(NoSuchUser, match="no user '²'"):
        Matcher().find(parse_spec("user:²"))
    with pytest.raises(NoSuchUser, match="no user 'nobody-such'"):
        Matcher().find(parse_spec("user:nobody-such"))
