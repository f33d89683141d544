"""The engine finds faults, keeps quiet about the rest, and remembers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from osdetectord.anomaly import EpisodeKind, Phase
from osdetectord.detection import engine as module
from osdetectord.detection.engine import Engine
from osdetectord.detection.evidences.lstm import Lstm
from osdetectord.detection.settings import Settings
from osdetectord.errors import ShapeError
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame

WIDTH = 12
METRICS = tuple(Metric(f"group.m{m:02d}", "x", Kind.GAUGE) for m in range(WIDTH))
SECOND = 10**9
START = 181


def normal(rows: int, seed: int = 1, width: int = WIDTH) -> np.ndarray:
    """Rows of a process under a load that wanders; every metric follows it, each with noise of its own."""
    rng = np.random.default_rng(seed)
    load = 0.3 * np.sin(np.arange(rows) * 2 * np.pi / 97) + np.cumsum(rng.normal(0, 0.01, rows)) * 0.2
    size = rng.uniform(5, 5000, width)
    return size * np.exp(load[:, None] + rng.normal(0, 0.05, (rows, width)))


def engine_of(series: Iterable[int], metrics: tuple[Metric, ...] = METRICS) -> Engine:
    engine = Engine(Settings(), metrics, 1.0)
    for number in series:
        engine.add(number, f"unit:{number}.service")
    return engine


class Watched:
    """An engine fed with one series at a second a row."""

    def __init__(self, settings: Settings | None = None, state_dir=None, program: str = "unit:a.service") -> None:
        self.engine = Engine(settings or Settings(), METRICS, 1.0, state_dir)
        self.engine.add(7, program)
        self.now = 0
        self.verdicts = []

    def feed(self, values: np.ndarray) -> list:
        told = []
        for row in values:
            self.now += SECOND
            verdict = self.engine.step(Frame(self.now, 1.0, np.array([7], np.uint64), METRICS, row[None]))
            self.verdicts.append(verdict)
            told += verdict.episodes
        return told

    def alarms(self) -> int:
        return sum(bool(verdict.alarm[0]) for verdict in self.verdicts)


def with_fault(values: np.ndarray, start: int, rows: int, factor: float, metrics=slice(0, 5)) -> np.ndarray:
    values = values.copy()
    values[start : start + rows, metrics] *= factor
    return values


def twice() -> np.ndarray:
    """A fault that comes back with the same face."""
    return with_fault(with_fault(normal(291, seed=19), START, 25, 6.0), 261, 25, 6.0)


def test_a_fault_is_found_within_five_rows_and_its_metrics_are_blamed():
    watched = Watched()
    told = watched.feed(with_fault(normal(211), START, 30, 6.0, [2, 5, 9]))
    opened = [episode for episode in told if episode.phase is Phase.OPENED]
    assert len(opened) == 1
    assert START < opened[0].opened_ns / SECOND <= START + 5
    assert {blame.metric for blame in opened[0].blames[:3]} == {"group.m02", "group.m05", "group.m09"}


def test_weak_evidence_is_believed_when_it_persists_and_its_metrics_are_blamed():
    watched = Watched()
    told = watched.feed(with_fault(normal(211), START, 30, 6.0, [2, 9]))
    opened = [episode for episode in told if episode.phase is Phase.OPENED]
    assert len(opened) == 1
    assert START < opened[0].opened_ns / SECOND <= START + 13
    assert {blame.metric for blame in opened[0].blames[:2]} == {"group.m02", "group.m09"}
    blame = opened[0].blames[0]
    assert blame.observed > blame.high > blame.low
    assert START <= blame.onset_ns / SECOND <= START + 5
    assert 0.0 < sum(blame.share for blame in opened[0].blames) <= 1.0 + 1e-9


def test_an_episode_is_closed_once_and_after_it_was_opened():
    told = Watched().feed(with_fault(normal(241), START, 20, 6.0))
    assert [e.phase for e in told if e.phase is not Phase.UPDATED] == [Phase.OPENED, Phase.CLOSED]
    assert told[-1].score >= told[0].score > 1.0
    assert 0.0 < told[-1].p_value <= told[0].p_value < 0.01


def test_normal_rows_raise_no_alarm():
    watched = Watched()
    watched.feed(normal(701, seed=11))
    assert watched.alarms() == 0


def test_scores_are_finite_and_zero_until_the_warm_up_is_over():
    watched = Watched()
    watched.feed(normal(79))
    score = np.array([verdict.score[0] for verdict in watched.verdicts])
    assert np.isfinite(score).all()
    assert not score[:60].any()
    assert score[61:].any()
    progress = [float(verdict.progress[0]) for verdict in watched.verdicts]
    assert progress[29] == pytest.approx(0.5)
    assert progress[-1] == 1.0


@pytest.mark.parametrize("cut", [97, 170, 271])
def test_nothing_is_said_before_it_could_be_known(cut):
    values = with_fault(normal(cut + 30), cut - 20, 30, 6.0)
    future = values.copy()
    future[cut:] = np.random.default_rng(cut).lognormal(0.0, 3.0, future[cut:].shape)
    first, second = Watched(), Watched()
    first.feed(values)
    second.feed(future)
    assert any(one.score[0] != two.score[0] for one, two in zip(first.verdicts, second.verdicts, strict=True))
    for one, two in zip(first.verdicts[:cut], second.verdicts[:cut], strict=True):
        assert (one.score[0], one.p_value[0], one.alarm[0]) == (two.score[0], two.p_value[0], two.alarm[0])
        assert one.episodes == two.episodes
        np.testing.assert_array_equal(one.low, two.low)


def test_a_series_is_judged_alike_whoever_else_is_watched():
    values = with_fault(normal(191), 151, 20, 6.0)
    alone = Watched()
    alone.feed(values)
    engine = engine_of(range(4))
    others = [normal(191, seed=s) for s in (3, 5, 7)]
    for t in range(191):
        rows = np.stack([others[0][t], others[1][t], values[t], others[2][t]])
        verdict = engine.step(Frame((t + 1) * SECOND, 1.0, np.arange(4, dtype=np.uint64), METRICS, rows))
        assert verdict.score[2] == pytest.approx(alone.verdicts[t].score[0], abs=1e-9)
        assert verdict.alarm[2] == alone.verdicts[t].alarm[0]


def test_load_that_grows_threefold_with_the_same_relations_is_no_fault():
    values = normal(221)
    values[START : START + 30] *= 3.0
    watched = Watched()
    watched.feed(values)
    assert watched.alarms() == 0


def test_load_that_grows_tenfold_is_a_fault():
    values = normal(221)
    values[START : START + 30] *= 10.0
    watched = Watched()
    assert watched.feed(values)


def test_traffic_that_falls_to_a_quarter_is_a_fault_and_what_fell_is_blamed():
    values = normal(221)
    values[START : START + 30] *= 0.25
    watched = Watched()
    told = watched.feed(values)
    assert told
    assert all(blame.observed < blame.low for blame in told[0].blames[:1])


def test_traffic_that_stops_is_a_fault():
    values = normal(221)
    values[START : START + 30] = 0.0
    watched = Watched()
    assert watched.feed(values)


@pytest.mark.parametrize("hurt", ["nan", "all_nan", "missing", "gap", "back", "constant"])
def test_what_is_no_fault_of_the_process_gives_no_alarm(hurt):
    watched = Watched()
    values = normal(251, seed=13)
    if hurt == "constant":
        values[:, 3] = 42.0
    watched.feed(values[:150])
    if hurt == "nan":
        values[150:170, ::2] = np.nan
    if hurt == "all_nan":
        values[150:200] = np.nan
    if hurt == "gap":
        watched.now += 3600 * SECOND
    if hurt == "back":
        watched.now -= 200 * SECOND
    if hurt == "missing":
        for _ in range(60):
            watched.now += SECOND
            empty = Frame(watched.now, 1.0, np.zeros(0, np.uint64), METRICS, np.zeros((0, WIDTH)))
            assert watched.engine.step(empty).episodes == ()
    watched.feed(values[150:])
    assert watched.alarms() == 0
    assert all(np.isfinite(verdict.score).all() for verdict in watched.verdicts)


def test_a_lasting_change_is_learnt_and_its_alarm_ends():
    values = normal(521, seed=17)
    values[START:, :6] *= 8.0
    watched = Watched()
    watched.feed(values)
    assert watched.alarms() > 0
    assert not watched.verdicts[-1].alarm[0]


def test_an_alarm_that_goes_on_for_three_minutes_is_closed_and_said_to_be_the_new_normal():
    values = normal(START + 200, seed=17)
    for m in range(WIDTH):  # before one metric is learnt the next one moves
        values[START + 15 * m :, m] *= 30.0
    told = [episode for episode in Watched().feed(values) if episode.phase is not Phase.UPDATED]
    assert [(episode.kind, episode.phase) for episode in told[:3]] == [
        (EpisodeKind.ANOMALY, Phase.OPENED),
        (EpisodeKind.ANOMALY, Phase.CLOSED),
        (EpisodeKind.NEW_NORMAL, Phase.OPENED),
    ]
    assert told[2].number > told[0].number and told[2].opened_ns == told[0].opened_ns


@pytest.mark.parametrize(("moved", "factor"), [(6, 30.0), (1, 4.0)])
@pytest.mark.parametrize("seed", [17, 23])
def test_a_lasting_change_is_said_once_and_then_to_be_the_new_normal(moved, factor, seed):
    values = normal(START + 500, seed=seed)
    values[START:, :moved] *= factor
    told = [episode for episode in Watched().feed(values) if episode.phase is not Phase.UPDATED]
    assert [(episode.kind, episode.phase) for episode in told] == [
        (EpisodeKind.ANOMALY, Phase.OPENED),
        (EpisodeKind.ANOMALY, Phase.CLOSED),
        (EpisodeKind.NEW_NORMAL, Phase.OPENED),
    ]


@pytest.mark.parametrize("seed", [17, 18, 19])
def test_a_process_hardly_known_has_a_new_normal_too(seed):
    values = normal(366, seed)
    values[116:, :6] *= 8.0
    assert EpisodeKind.NEW_NORMAL in {episode.kind for episode in Watched().feed(values)}


@pytest.mark.parametrize("rows", [60, 120])
def test_a_fault_that_is_over_after_two_minutes_is_no_new_normal(rows):
    told = Watched().feed(with_fault(normal(START + rows + 60, seed=17), START, rows, 30.0))
    assert {episode.kind for episode in told} == {EpisodeKind.ANOMALY}
    assert told[-1].phase is Phase.CLOSED


def test_the_same_fault_again_is_a_recurrence_with_its_count():
    values = twice()
    told = Watched().feed(values)
    opened = [episode for episode in told if episode.phase is Phase.OPENED]
    assert [episode.kind for episode in opened] == [EpisodeKind.ANOMALY, EpisodeKind.RECURRENCE]
    assert [episode.recurrence for episode in opened] == [0, 1]


def test_an_episode_marked_false_stays_quiet_and_one_marked_useful_does_not():
    values = twice()
    for useful, expected in ((False, 0), (True, 1)):
        watched = Watched()
        first = watched.feed(values[:240])
        watched.engine.mark(first[0].number, useful)
        again = watched.feed(values[240:])
        assert sum(episode.phase is Phase.OPENED for episode in again) == expected
        assert any(bool(verdict.alarm[0]) for verdict in watched.verdicts[240:]) == bool(expected)


def test_what_is_off_says_whether_the_settings_switched_it_off():
    engine = Engine(Settings.parse({"evidences": {"level": False}}), METRICS, 1.0)
    states = {state.name: (state.state, state.why) for state in engine.evidences}
    assert states["level"] == ("off", "switched off in the settings")
    assert states["compressed_sensing"] == ("off", "not switched on in the settings")
    assert states["local"] == ("on", "")


def test_processes_that_start_at_once_take_turns_to_learn_and_none_is_more_than_ready():
    count = 37
    engine = engine_of(range(count))
    rows = np.stack([normal(64, seed) for seed in range(count)], axis=1)
    numbers = np.arange(count, dtype=np.uint64)
    progress = [engine.step(Frame((t + 1) * SECOND, 1.0, numbers, METRICS, row)).progress for t, row in enumerate(rows)]
    assert np.min(progress) >= 0.0 and np.max(progress) == 1.0
    assert (np.array(progress)[:58] < 1.0).all() and (progress[-1] == 1.0).all()


def test_nobody_is_expected_to_spend_more_than_all_time_of_all_threads():
    metrics = (Metric("syscalls.poll_time", "s", Kind.COUNTER), Metric("process.threads", "threads", Kind.GAUGE))
    rng = np.random.default_rng(3)
    for threads in (1.0, 3.0):
        engine = engine_of([1], metrics)
        for t in range(120):
            row = np.array([[threads * rng.uniform(0.9, 1.1), threads]])
            verdict = engine.step(Frame((t + 1) * 10**9, 1.0, np.ones(1, np.uint64), metrics, row))
        assert verdict.low[0, 0] < threads == verdict.high[0, 0]


def test_a_mark_that_is_taken_back_changes_nothing():
    values = twice()
    watched = Watched()
    first = watched.feed(values[:240])
    watched.engine.mark(first[0].number, False)
    watched.engine.mark(first[0].number, None)
    again = watched.feed(values[240:])
    assert [e.kind for e in again if e.phase is Phase.OPENED] == [EpisodeKind.RECURRENCE]


@pytest.mark.parametrize("marked", [False, True])
def test_an_episode_is_counted_once_whether_or_not_it_is_marked_while_it_is_open(marked):
    values = np.concatenate([twice(), twice()[181:]])
    watched = Watched()
    counts = []
    for row in values:
        for episode in watched.feed(row[None]):
            if marked and episode.phase is Phase.OPENED:
                watched.engine.mark(episode.number, True)
            if episode.phase is Phase.OPENED:
                counts.append(episode.recurrence)
    assert counts == list(range(len(counts)))
    assert len(counts) >= 3


def test_a_mark_outlives_the_detector(tmp_path):
    values = twice()
    first = Watched(state_dir=tmp_path)
    told = first.feed(values[:240])
    first.engine.mark(told[0].number, False)
    first.engine.save()
    second = Watched(state_dir=tmp_path)
    second.now = first.now
    assert second.feed(values[240:]) == []


def test_what_is_known_of_programs_that_left_is_bounded_and_that_of_those_that_are_watched_stays(monkeypatch):
    monkeypatch.setattr(module, "MOST_CATALOGUES", 3)
    values = twice()
    watched = Watched()
    told = watched.feed(values[:240])
    watched.engine.mark(told[0].number, False)
    for number in range(100, 107):
        watched.engine.add(number, f"unit:{number}.service")
        watched.engine.mark(0, None)  # asks for what is known of all that are watched
        watched.engine.remove(number)
    assert list(watched.engine._catalogues) == ["unit:105.service", "unit:a.service", "unit:106.service"]
    assert watched.feed(values[240:]) == []


def test_a_restarted_program_starts_warm(tmp_path):
    values = normal(251, seed=23)
    first = Watched(state_dir=tmp_path)
    first.feed(values[:150])
    first.engine.remove(7)
    second = Watched(state_dir=tmp_path)
    second.feed(with_fault(values, 200, 20, 6.0)[150:])
    assert second.verdicts[0].progress[0] == 1.0
    assert second.alarms() > 0
    assert not any(verdict.alarm[0] for verdict in second.verdicts[:50])


def test_another_program_does_not_start_warm(tmp_path):
    first = Watched(state_dir=tmp_path)
    first.feed(normal(61))
    first.engine.save()
    second = Watched(state_dir=tmp_path, program="unit:b.service")
    second.feed(normal(1))
    assert second.verdicts[0].progress[0] < 1.0


def test_a_removed_series_leaves_its_place_clean():
    watched = Watched()
    watched.feed(normal(61))
    watched.engine.remove(7)
    watched.engine.add(8, "unit:other.service")
    verdict = watched.engine.step(Frame(10**12, 1.0, np.array([8], np.uint64), METRICS, normal(1)))
    assert verdict.progress[0] == pytest.approx(1 / 60)


def test_a_row_that_comes_after_its_series_was_removed_brings_nothing_back(tmp_path):
    values = normal(63)
    watched = Watched(state_dir=tmp_path)
    watched.engine.add(8, "unit:b.service")
    for t, row in enumerate(values):
        if t == 61:
            watched.engine.remove(7)
        frame = Frame((t + 1) * SECOND, 1.0, np.array([7, 8], np.uint64), METRICS, np.stack([row, row]))
        verdict = watched.engine.step(frame)
        assert verdict.series.tolist() == ([7, 8] if t < 61 else [8])
        assert verdict.progress[-1] == min(1.0, (t + 1) / 60)
    watched.engine.save()
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_is_judged_where_no_evidence_can_be_had(monkeypatch):
    monkeypatch.setattr(Lstm, "absent", classmethod(lambda cls: "no torch"))
    watched = Watched(Settings.parse({"evidences": Settings.only(["lstm"], {})}))
    assert watched.feed(with_fault(normal(141), 101, 20, 6.0)) == []
    assert [state.why for state in watched.engine.evidences if state.name == "lstm"] == ["no torch"]
    assert all(verdict.progress[0] == verdict.score[0] == 0.0 for verdict in watched.verdicts)


def test_processes_that_left_give_their_room_back():
    engine = engine_of(range(997))
    values = normal(3)
    for t, count in enumerate((997, 997, 3)):
        for number in range(count, 997):
            engine.remove(number)
        rows = np.repeat(values[t : t + 1], count, axis=0)
        engine.step(Frame((t + 1) * SECOND, 1.0, np.arange(count, dtype=np.uint64), METRICS, rows))
    assert all(len(array) < 200 for part in engine._parts() for array in part._arrays.values())
    engine.add(2000, "unit:late.service")
    verdict = engine.step(Frame(4 * SECOND, 1.0, np.array([1, 2000], np.uint64), METRICS, values[:2]))
    assert verdict.progress.tolist() == [4 / 60, 1 / 60]


def test_the_past_is_kept_only_as_long_as_it_is_learnt_from():
    watched = Watched()
    watched.feed(normal(307)[:239])
    history = watched.engine._life.history
    assert history.has(np.arange(1))[0]
    watched.feed(normal(307)[239:])
    assert not history.has(np.arange(1))[0]


def test_a_smaller_budget_makes_every_score_smaller():
    values = with_fault(normal(181), 151, 20, 3.0)
    generous, strict = Watched(Settings(budget=24.0)), Watched(Settings(budget=0.1))
    generous.feed(values)
    strict.feed(values)
    pairs = zip(generous.verdicts, strict.verdicts, strict=True)
    loud = [(g.score[0], s.score[0]) for g, s in pairs if g.score[0] > 0.5]
    assert loud
    assert all(s < g for g, s in loud)


@pytest.mark.parametrize("threshold", ["spot", "dspot"])
def test_a_fault_is_found_with_the_level_of_extreme_values_and_noise_is_not(threshold):
    fault = 1201
    watched = Watched(Settings(threshold=threshold))
    told = watched.feed(with_fault(normal(fault + 60, seed=37), fault, 30, 6.0, [2, 5, 9]))
    opened = [episode.opened_ns / SECOND for episode in told if episode.phase is Phase.OPENED]
    assert len(opened) == 1
    assert fault < opened[0] <= fault + 5


@pytest.mark.parametrize("threshold", ["spot", "dspot"])
def test_the_level_of_extreme_values_outlives_the_detector(tmp_path, threshold):
    values, settings = normal(907, seed=41), Settings(threshold=threshold)
    whole, first = Watched(settings), Watched(settings, state_dir=tmp_path)
    whole.feed(values[:800])
    first.feed(values[:800])
    first.engine.save()
    again = Watched(settings, state_dir=tmp_path)
    slot = np.arange(1)
    assert again.engine._threshold.level(slot) == whole.engine._threshold.level(slot)
    other = Watched(Settings(), state_dir=tmp_path)
    assert other.feed(values[:1]) == [] and other.verdicts[0].progress[0] == 1.0


def test_what_was_learnt_without_extreme_values_is_learnt_anew_with_them(tmp_path):
    first = Watched(state_dir=tmp_path)
    first.feed(normal(61))
    first.engine.save()
    second = Watched(Settings(threshold="spot"), state_dir=tmp_path)
    second.feed(normal(1))
    assert second.verdicts[0].progress[0] < 1.0


@pytest.mark.parametrize("interval_s", [2.0, 300.0])
def test_thirty_rows_are_past_enough_where_rows_are_far_apart(interval_s):
    engine, values = Engine(Settings(), METRICS, interval_s), normal(41)
    engine.add(7, "unit:a.service")
    for t, row in enumerate(values):
        time_ns = round((t + 1) * interval_s * SECOND)
        verdict = engine.step(Frame(time_ns, interval_s, np.array([7], np.uint64), METRICS, row[None]))
        assert (verdict.progress[0] == 1.0) == (t >= 29)
    assert 0.0 < verdict.score[0] < 1.0


def test_a_window_longer_than_half_of_the_past_waits_for_more_of_it():
    values, said = with_fault(normal(135), 121, 14, 6.0), []
    for window in ({"rows": 40}, False):
        watched = Watched(Settings.parse({"evidences": {"window_pca": window}}))
        watched.feed(values)
        said.append(np.array([verdict.score[0] for verdict in watched.verdicts]))
    with_it, without = said
    assert with_it[60:120].any()
    assert with_it[:120] == pytest.approx(without[:120])
    assert np.abs(with_it[121:] - without[121:]).min() > 0.01


def test_a_frame_with_other_metrics_is_refused():
    watched = Watched()
    frame = Frame(SECOND, 1.0, np.array([7], np.uint64), METRICS[:3], np.ones((1, 3)))
    with pytest.raises(ShapeError, match="3, 12"):
        watched.engine.step(frame)


def test_the_expected_range_holds_normal_samples():
    watched = Watched()
    values = normal(181, seed=29)
    watched.feed(values)
    inside = [
        (verdict.low[0] <= row) & (row <= verdict.high[0])
        for verdict, row in zip(watched.verdicts[100:], values[100:], strict=True)
    ]
    assert np.mean(inside) > 0.95


def test_every_evidence_alone_finds_a_loud_fault():
    steady = np.random.default_rng(31).lognormal(3.0, 0.1, (131, WIDTH))
    values = with_fault(steady, 111, 20, 30.0)
    for name in ("level", "local", "sparse", "innovation", "memory", "relation", "window_pca"):
        settings = replace(Settings(), evidences={name: Settings().evidences[name]})
        watched = Watched(settings)
        watched.feed(values)
        scores = np.array([verdict.score[0] for verdict in watched.verdicts])
        assert scores[111:].max() > 1.5 * scores[61:111].max(), name


def test_a_blame_beyond_all_numbers_leaves_shares_that_are_numbers(monkeypatch):
    watched = Watched()
    told = watched.feed(normal(START, seed=3))
    first = watched.engine._evidences[0]
    blame = type(first).blame
    monkeypatch.setattr(
        type(first), "blame", lambda self, rows: np.where(np.arange(WIDTH) < 2, np.inf, blame(self, rows))
    )
    told = watched.feed(with_fault(normal(START + 60, seed=3)[START:], 10, 40, 9.0))

    shares = [one.share for episode in told for one in episode.blames]
    assert shares
    assert np.isfinite(shares).all()


def test_of_two_processes_of_a_program_the_one_known_longer_is_remembered(tmp_path):
    watched = Watched(state_dir=tmp_path)
    watched.feed(normal(211))
    watched.engine.add(8, "unit:a.service")
    watched.engine.save()
    files = list(tmp_path.iterdir())
    before = [file.read_bytes() for file in files]
    watched.engine.remove(8)
    watched.engine.save()
    assert len(files) == 1 and [file.read_bytes() for file in files] == before
    assert Watched(state_dir=tmp_path).feed(normal(3)) == []
    again = Watched(state_dir=tmp_path)
    again.feed(normal(1))
    assert again.verdicts[0].progress[0] == 1.0
