"""Inserts into and selects from SQLite, with house-keeping every few minutes."""

from __future__ import annotations

import sqlite3
import time

from misbehave import RANDOM, ROOM, pause, vices

KEYS, KEPT, KEEP_HOUSE_S = 5000, 20000, 150

records = sqlite3.connect(ROOM / "records", timeout=60, isolation_level=None)
records.execute("pragma journal_mode=wal")
records.execute("pragma synchronous=normal")
records.execute("create table record (id integer primary key, key int, value text)")
records.execute("create index by_key on record (key)")
count, kept_house = 0, time.monotonic()
while True:
    records.execute("begin immediate")
    for _ in range(5):
        value = "x" * RANDOM.randrange(50, 300)
        records.execute("insert into record (key, value) values (?, ?)", (RANDOM.randrange(KEYS), value))
    records.execute("commit")
    count += 5
    for _ in range(3):
        records.execute("select count(*) from record where key = ?", (RANDOM.randrange(KEYS),)).fetchall()
    if RANDOM.random() < vices["scan"]:
        records.execute("select count(*) from record where value like '%xyz%'").fetchall()
    if vices["checkpoint"]:
        records.execute("pragma wal_checkpoint(truncate)")
    if vices["vacuum"]:
        vices["vacuum"] = 0
        records.execute("vacuum")
    if time.monotonic() - kept_house > KEEP_HOUSE_S:
        kept_house = time.monotonic()
        records.execute("delete from record where id < ?", (count - KEPT,))
        records.execute("pragma wal_checkpoint(passive)")
    pause(10)
