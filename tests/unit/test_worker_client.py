"""The link to the detector: a real worker process answers, and a dead or slow one holds nothing up."""

import asyncio
import os
import signal
import time

import numpy as np
import pytest

from osdetectord import messages, worker_client
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame
from osdetectord.wire import Decoder
from osdetectord.worker_client import MAX_WAITING_FRAMES, Setup, WorkerClient

METRICS = tuple(Metric(f"m{n}", "calls", Kind.COUNTER) for n in range(5))
PARTS = METRICS[:2]
GROUPS = {"": METRICS, "functions": PARTS}
SETUP = Setup(GROUPS, 1.0, {})


def frame(at):
    values = np.arange(10, dtype=float).reshape(2, 5) + at
    return Frame(at * 10**9, 1.0, np.array([3, 5], np.uint64), METRICS, values)


class Heard:
    def __init__(self):
        self.ready, self.verdicts, self.lost = [], [], []

    def worker_ready(self, evidences):
        self.ready.append(evidences)

    def worker_verdict(self, verdict, group):
        self.verdicts.append((group, verdict))

    def worker_lost(self, why, asked):
        self.lost.append(f"{why}, asked for" if asked else why)


async def until(condition, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not come about"
        await asyncio.sleep(0.01)


async def connected(client, heard):
    task = asyncio.ensure_future(client.run())
    await until(lambda: heard.ready)
    return task


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_real_worker_answers_each_frame_and_is_started_again_when_killed(tmp_path):
    async def scenario():
        heard = Heard()
        client = WorkerClient(None, str(tmp_path), SETUP, heard)
        client.add(3, "redis")
        client.add(5, "nginx")
        task = await connected(client, heard)
        assert any(evidence.state == "on" for evidence in heard.ready[0])
        for at in range(1, 8):
            client.send(frame(at))
        await until(lambda: len(heard.verdicts) == 7)
        assert (heard.verdicts[0][0], heard.verdicts[0][1].series.tolist()) == ("", [3, 5])
        await until(lambda: client.rss_bytes > 10 << 20)

        first = client.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(heard.ready) == 2)
        assert heard.lost == ["detector killed by SIGKILL"] and client.pid != first
        client.send(frame(9))
        await until(lambda: len(heard.verdicts) == 8)
        child = client.pid
        await ended(task)
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)

    asyncio.run(scenario())


def test_parts_are_judged_beside_processes_by_the_same_worker(tmp_path):
    async def scenario():
        heard = Heard()
        client = WorkerClient(None, str(tmp_path), SETUP, heard)
        task = await connected(client, heard)
        client.add(1 << 40, "functions :f redis", "functions")
        for at in range(1, 4):
            client.send(frame(at))
            part = Frame(at * 10**9, 1.0, np.array([1 << 40], np.uint64), PARTS, np.array([[at, 7.0]]))
            client.send(part, "functions")
        await until(lambda: len(heard.verdicts) == 6)
        assert [group for group, _ in heard.verdicts] == ["", "functions"] * 3
        assert heard.verdicts[1][1].series.tolist() == [1 << 40]
        assert heard.verdicts[1][1].low.shape == (1, len(PARTS))
        assert heard.lost == []
        await ended(task)

    asyncio.run(scenario())


def test_new_settings_make_a_new_detector_at_once(tmp_path):
    async def scenario():
        heard = Heard()
        client = WorkerClient(None, str(tmp_path), SETUP, heard)
        task = await connected(client, heard)
        client.reconfigure(Setup(GROUPS, 1.0, {"budget": 2}))
        await until(lambda: len(heard.ready) == 2)
        assert heard.lost == ["settings changed, asked for"] and client.state == "connected"
        await ended(task)

    asyncio.run(scenario())


def test_settings_that_the_worker_refuses_are_said(tmp_path):
    async def scenario():
        heard = Heard()
        client = WorkerClient(None, str(tmp_path), Setup(GROUPS, 1.0, {"budget": -1}), heard)
        task = asyncio.ensure_future(client.run())
        await until(lambda: "budget is -1" in client.state)
        await ended(task)

    asyncio.run(scenario())


class Server:
    """A detector that reads, and answers only what it is told to."""

    def __init__(self, path):
        self.path, self.messages, self.writers = path, [], []

    async def __aenter__(self):
        self.server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def _serve(self, reader, writer):
        self.writers.append(writer)
        decoder = Decoder()
        writer.write(messages.ready(()))
        while data := await reader.read(1 << 16):
            self.messages += decoder.feed(data)


def test_a_worker_that_never_answers_drops_the_oldest_frames_and_counts_them(tmp_path):
    async def scenario():
        heard = Heard()
        path = str(tmp_path / "socket")
        async with Server(path) as server:
            client = WorkerClient(path, None, SETUP, heard)
            task = await connected(client, heard)
            for at in range(1, MAX_WAITING_FRAMES + 8):
                client.send(frame(at))
                await asyncio.sleep(0)
            await until(lambda: any(m.type == "frame" for m in server.messages))
            assert client.dropped_frames in (6, 7)
            assert [m.type for m in server.messages].count("frame") == 1
            await ended(task)

    asyncio.run(scenario())


def test_a_worker_that_stays_silent_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_client, "_SILENCE_S", 0.2)

    async def scenario():
        heard = Heard()
        path = str(tmp_path / "socket")
        async with Server(path):
            client = WorkerClient(path, None, SETUP, heard)
            task = await connected(client, heard)
            client.send(frame(1))
            await until(lambda: heard.lost)
            assert "no verdict for" in heard.lost[0]
            await ended(task)

    asyncio.run(scenario())


def test_a_worker_that_sends_rubbish_is_given_up_and_not_believed(tmp_path):
    async def scenario():
        heard = Heard()
        path = str(tmp_path / "socket")
        async with Server(path) as server:
            client = WorkerClient(path, None, SETUP, heard)
            task = await connected(client, heard)
            server.writers[0].write(b"\xff" * 64)
            await until(lambda: heard.lost)
            assert "over the bound" in heard.lost[0] and heard.verdicts == []
            await ended(task)

    asyncio.run(scenario())


def test_without_a_worker_frames_are_counted_as_dropped_and_the_link_lives(tmp_path):
    async def scenario():
        heard = Heard()
        client = WorkerClient(str(tmp_path / "none"), None, SETUP, heard)
        task = asyncio.ensure_future(client.run())
        await until(lambda: "No such file" in client.state)
        before_s = client.progress_s
        client.send(frame(1))
        await until(lambda: client.progress_s > before_s)
        assert client.dropped_frames == 1
        await ended(task)

    asyncio.run(scenario())


def test_a_new_worker_is_told_of_every_series(tmp_path):
    async def scenario():
        heard = Heard()
        path = str(tmp_path / "socket")
        client = WorkerClient(path, None, SETUP, heard)
        for series in (2, 3, 5):
            client.add(series, f"program {series}")
        client.remove(3)
        async with Server(path) as server:
            task = await connected(client, heard)
            client.add(7, "program 7")
            await until(lambda: len(server.messages) == 4)
            assert [m.type for m in server.messages] == ["start", "add", "add", "add"]
            assert [m.fields["series"] for m in server.messages[1:]] == [2, 5, 7]
            await ended(task)

    asyncio.run(scenario())
