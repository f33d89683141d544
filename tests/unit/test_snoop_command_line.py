"""The exit status of snooping that never begins says whose fault it is, in one line."""

import pytest

from osdetectord.snoop.__main__ import main


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("-c", ""), 2, "the command is empty"),
        (("-c", 'echo "a'), 2, "no closing quotation"),
        (("-c", "true", "-i", "0"), 2, "--interval is 0.0, expected seconds from 0.1"),
        (("-c", "true", "--configure_file", "none.json"), 1, "none.json: no such file or directory"),
        (("-c", "no-such-program"), 127, "cannot run no-such-program"),
        (("-p", "4194304"), 4, "no process 4194304"),
    ],
)
def test_what_cannot_begin_says_why_and_by_its_status_whose_fault_it_is(
    monkeypatch, capsys, tmp_path, words, status, said
):
    monkeypatch.chdir(tmp_path)

    assert main(words) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("osdctl snoop: ") and said in line
    assert not list(tmp_path.iterdir())
