"""Two rows of each call, in the order of time, whatever was told of it when."""

from __future__ import annotations

import numpy as np

from osdetectord.collectors.syscall_log import CHUNK, CHUNK_RECORDS, MARGIN_NS, NAME, NEVER_LEAVES, RECORD, Logged, Rows

ANNA, BERTA = 101, 4_194_303
MS = 1_000_000
NAMES = [(1, ANNA, 11, 11, 0, b"anna"), (1, BERTA, 11, 12, 0, b"berta")]


def read(taken_ms: int, calls=(), under_way=(), names=()) -> Logged:
    """Calls are (entered, left, thread, number), times in ms; what has to be known to be known well before."""
    chunks = np.zeros(-(-len(calls) // CHUNK_RECORDS), CHUNK)
    records = records_of(calls)
    for index, chunk in enumerate(chunks):
        part = records[index * CHUNK_RECORDS : (index + 1) * CHUNK_RECORDS]
        chunk["count"] = len(part)
        chunk["rows"] = np.count_nonzero(part["entered_ns"]) + np.count_nonzero(part["left_ns"])
        chunk["records"][: len(part)] = part
    taken_ns = taken_ms * MS + MARGIN_NS
    return Logged(taken_ns, 0, np.array(list(names), NAME), records_of(under_way), chunks)


def records_of(calls) -> np.ndarray:
    return np.array(
        [
            (entered * MS, left * MS, 1000 + number, rest[0] if rest else -number, tid, number)
            for entered, left, tid, number, *rest in calls
        ],
        RECORD,
    )


def told(rows: np.ndarray) -> list[tuple[int, str, str, int]]:
    return [
        (int(row["time_ns"]) // MS, row["comm"].decode(), "leaves" if row["leave"] else "enters", int(row["number"]))
        for row in rows
    ]


def test_a_call_becomes_two_rows_with_argument_and_result():
    rows = Rows().of(read(10, [(2, 3, ANNA, 7)], names=NAMES))

    assert told(rows) == [(2, "anna", "enters", 7), (3, "anna", "leaves", 7)]
    assert rows["value"].astype(np.int64).tolist() == [1007, -7]
    assert rows[["pid", "tid"]].tolist() == [(11, 11), (11, 11)]


def test_rows_of_several_threads_are_in_the_order_of_time():
    calls = [(4, 5, ANNA, 2), (2, 9, BERTA, 1), (6, 7, ANNA, 3)]

    assert [row[0] for row in told(Rows().of(read(10, calls, names=NAMES)))] == [2, 4, 5, 6, 7, 9]


def test_what_happens_during_a_reading_waits_for_what_may_still_come_before_it():
    rows = Rows()
    first = rows.of(read(5, [(2, 7, ANNA, 1)], names=NAMES))
    second = rows.of(read(10, [(6, 8, BERTA, 2)]))

    assert told(first) == [(2, "anna", "enters", 1)]
    assert [row[:2] for row in told(second)] == [(6, "berta"), (7, "anna"), (8, "berta")]
    assert len(rows.rest()) == 0


def test_the_last_rows_wait_for_nobody():
    rows = Rows()
    rows.of(read(5, [(2, 7, ANNA, 1)], names=NAMES))

    assert told(rows.rest()) == [(7, "anna", "leaves", 1)]


def test_a_call_under_way_has_its_entry_once_however_often_it_is_found():
    rows = Rows()
    under_way = [(2, 0, ANNA, 1)]
    found = [told(rows.of(read(at, under_way=under_way, names=NAMES if at == 5 else ()))) for at in (5, 10, 15)]
    left = told(rows.of(read(20, [(2, 16, ANNA, 1), (17, 18, ANNA, 3)])))

    assert found == [[(2, "anna", "enters", 1)], [], []]
    assert left == [(16, "anna", "leaves", 1), (17, "anna", "enters", 3), (18, "anna", "leaves", 3)]


def test_a_call_that_leaves_while_it_is_found_under_way_has_two_rows():
    rows = Rows().of(read(10, [(2, 3, ANNA, 1)], under_way=[(2, 0, ANNA, 1)], names=NAMES))

    assert told(rows) == [(2, "anna", "enters", 1), (3, "anna", "leaves", 1)]


def test_a_call_that_was_seen_by_nobody_while_it_was_under_way_has_its_entry_late():
    rows = Rows()
    rows.of(read(10, names=NAMES))

    assert told(rows.of(read(20, [(2, 15, ANNA, 1)]))) == [(2, "anna", "enters", 1), (15, "anna", "leaves", 1)]


def test_a_call_that_never_leaves_has_one_row_whether_it_was_found_before_or_not():
    rows = Rows()
    ends = [(2, 0, ANNA, 60, NEVER_LEAVES), (3, 0, BERTA, 231, NEVER_LEAVES)]
    rows_of_both = told(rows.of(read(5, ends, under_way=[(2, 0, ANNA, 60)], names=NAMES)))

    assert rows_of_both == [(2, "anna", "enters", 60), (3, "berta", "enters", 231)]


def test_a_call_that_was_not_seen_entering_has_one_row():
    assert told(Rows().of(read(5, [(0, 3, ANNA, 1)], names=NAMES))) == [(3, "anna", "leaves", 1)]


def test_a_thread_has_its_new_name_from_its_renaming_on():
    rows = Rows()
    rows.of(read(1, names=NAMES))
    calls = [(2, 3, ANNA, 1), (4, 7, ANNA, 157), (4, 8, BERTA, 1), (8, 9, ANNA, 1)]
    later = told(rows.of(read(10, calls, names=[(5 * MS, ANNA, 11, 11, 0, b"hannah")])))

    assert [row[1] for row in later if row[1] != "berta"] == ["anna"] * 3 + ["hannah"] * 3
    assert told(rows.of(read(20, [(11, 12, ANNA, 1)])))[0][1] == "hannah"


def test_an_id_that_is_given_out_again_is_another_thread_s_from_then_on():
    rows = Rows()
    again = [*NAMES, (5 * MS, ANNA, 77, 78, 0, b"zoe")]
    calls = [(2, 0, ANNA, 231, NEVER_LEAVES), (6, 7, ANNA, 1)]
    found = rows.of(read(10, calls, names=again))

    assert told(found) == [(2, "anna", "enters", 231), (6, "zoe", "enters", 1), (7, "zoe", "leaves", 1)]
    assert found[["pid", "tid"]].tolist() == [(11, 11), (77, 78), (77, 78)]


def test_rows_of_nobody_are_counted():
    rows = Rows()

    assert len(rows.of(read(10, [(2, 3, ANNA, 1)]))) == 0
    assert rows.nameless == 2


def test_more_calls_than_a_chunk_holds_and_what_was_packed_are_the_same():
    calls = [(2 * n, 2 * n + 1, ANNA, n % 300) for n in range(1, 3 * CHUNK_RECORDS + 5)]
    logged = read(1000, calls, under_way=[(3, 0, BERTA, 5)], names=NAMES)
    unpacked = Logged.unpacked(b"".join(logged.packed()))

    assert told(Rows().of(unpacked)) == told(Rows().of(logged))
    assert logged.rows == unpacked.rows == 2 * len(calls)
    assert (unpacked.taken_ns, unpacked.wall_ns) == (logged.taken_ns, logged.wall_ns)
