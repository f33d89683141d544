"""PostgreSQL: the backend of one client."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.detection.recording.program import Fault, Job, Program, free_port

ACCOUNTS = 20000
TABLES = f"""
create table account (id int primary key, branch int, balance int, note text);
insert into account select i, i % 20, 0, repeat('x', 60) from generate_series(1, {ACCOUNTS}) i;
create table history (account int, delta int, at timestamp);
analyze;
"""
CHECKPOINTS = "while :; do echo checkpoint\\;; sleep 0.3; done"


def _home() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: nothing in /usr/lib/postgresql")
    return found[-1]


class Postgres(Program):
    """Short transactions, sent without waiting for the answer."""

    async def start(self) -> int:
        self._port, self._home = free_port(), _home()
        self.room.chmod(0o777)
        data = self.room / "data"
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        subprocess.run(
            self._as_owner(f"{self._home}/initdb -D {data} -A trust -U postgres"),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/tmp",
        )
        server = self.run(
            *self._as_owner(
                f"exec {self._home}/postgres -D {data} -p {self._port} -k {self.room} "
                "-c listen_addresses= -c shared_buffers=16MB -c checkpoint_timeout=300 "
                # or else a killed client's lock is held until its statement ends
                "-c client_connection_check_interval=500"
            )
        )
        for _ in range(100):
            done = subprocess.run([*self._client(), "-c", "select 1"], capture_output=True, check=False)
            if done.returncode == 0:
                break
            await asyncio.sleep(0.2)
        subprocess.run([*self._client(), "-c", TABLES], check=True, stdout=subprocess.DEVNULL)
        self._session = self.run(*self._client(), feed=True)
        await asyncio.sleep(1.0)
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        self._pid = next(int(pid) for pid in children if b"[local]" in Path(f"/proc/{pid}/cmdline").read_bytes())
        self.begin("client", lambda: self.load.drive(8.0, self._ask))
        return self._pid

    def _as_owner(self, command: str) -> list[str]:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "bash", "-c", command]

    def _client(self) -> list[str]:
        return [
            str(self._home / "psql"),
            "-h",
            str(self.room),
            "-p",
            str(self._port),
            "-U",
            "postgres",
            "-q",
            "postgres",
        ]

    async def _ask(self) -> None:
        account, delta = self.random.randrange(1, ACCOUNTS), self.random.randrange(-500, 500)
        self._send(
            f"begin; update account set balance = balance + {delta} where id = {account}; "
            f"select balance from account where id = {account}; "
            f"insert into history values ({account}, {delta}, now()); commit;"
        )

    def _send(self, words: str) -> None:
        assert self._session.stdin is not None
        os.set_blocking(self._session.stdin.fileno(), False)
        try:
            os.write(self._session.stdin.fileno(), words.encode() + b"\n")
        except BlockingIOError:
            return

    async def _slow_queries(self) -> None:
        while True:
            self._send("select count(*) from account a join account b using (branch) where a.id < 100;")
            await asyncio.sleep(0.5)

    def _sql(self, words: str) -> None:
        self.run(*self._client(), "-c", words)

    def faults(self) -> Sequence[Fault]:
        lock = "begin; lock table account; select pg_sleep(1000)"
        piped = f"{CHECKPOINTS} | {' '.join(self._client())}"
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.helper("lock_held", *self._client(), "-c", lock),
            self.helper("checkpoint_storm", "bash", "-c", piped),
            Fault("slow_queries", lambda: self.begin("slow", self._slow_queries), lambda: self.cease("slow")),
        ]

    def jobs(self) -> Sequence[Job]:
        dump = [str(self._home / "pg_dump"), *self._client()[1:-2], "-f", "/dev/null", "postgres"]
        return [
            *super().jobs(),
            Job("vacuum", lambda: self._sql("vacuum analyze")),
            Job("checkpoint", lambda: self._sql("checkpoint")),
            Job("backup", lambda: self.run(*dump)),
        ]
