"""A program in Perl that writes a log and starts it anew now and then."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.program import Fault, Job, Program

LOGGER = """
use Digest::SHA 'sha1_hex';
open(my $log, '>', 'log') or die; select((select($log), $| = 1)[0]);
for (my $turn = 1;; $turn++) {
    my $lines = 10 + 5 * sin(time / 60) + rand(5);
    print $log sha1_hex(rand() x 50), "\\n" for 1 .. $lines;
    if ($turn % 150 == 0) { seek($log, 0, 0); truncate($log, 0); }
    select(undef, undef, undef, 0.2);
}
"""


class Perl(Program):
    """Its faults come from outside."""

    async def start(self) -> int:
        self._pid = self.run("perl", "-e", LOGGER).pid
        return self._pid

    def faults(self) -> Sequence[Fault]:
        return [self.hang(self._pid)]

    def jobs(self) -> Sequence[Job]:
        return []
