"""How far a scan is, in words: the words of the design, and no nonsense at the edges."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from onnxmark.report.progress import Counts, duration, progress_line, rate_of, summary
from tests.report.documents import HOSTILE

MIDWAY = Counts(1_203, 10_000, n_matches=3, n_failed=12, bytes_done=36_000_000_000, seconds=1_203 / 4.1)


def test_the_words_of_the_design():
    assert progress_line(MIDWAY) == "1,203 of 10,000 models, 3 matches, 12 failed, 4.1 models/s, about 36 min left"


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (Counts(0), "0 models, 0 matches"),
        (Counts(0, 1), "0 of 1 model, 0 matches"),
        (Counts(1, n_matches=1, seconds=2), "1 model, 1 match, 0.5 models/s"),
        (Counts(5, 5, seconds=10), "5 of 5 models, 0 matches, 0.5 models/s"),
        (Counts(1, 2, n_inconclusive=7, seconds=1),
         "1 of 2 models, 0 matches, 7 inconclusive, 1.0 models/s, about 1 s left"),
        (Counts(40, 100, n_resumed=40, seconds=3), "40 of 100 models, 0 matches"),
        (Counts(0, 0), "0 of 0 models, 0 matches"),
        (Counts(1, 9, seconds=0.01), "1 of 9 models, 0 matches"),
    ],
)  # fmt: skip
def test_at_the_edges(counts, line):
    assert progress_line(counts) == line


def test_what_an_earlier_run_did_is_no_speed():
    resumed = replace(MIDWAY, n_done=6_000, n_resumed=5_000, seconds=100)
    assert resumed.rate == 10
    assert resumed.seconds_left == 400
    assert "10.0 models/s, about 7 min left" in progress_line(resumed)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (35 * 60, "35 min"),
        (89.4 * 60, "89 min"),
        (130 * 60, "2 h 10 min"),
        (47.9 * 3600, "47 h 54 min"),
        (76 * 3600, "3 d 4 h"),
        (2e9, "23,148 d 4 h"),
    ],
)
def test_times(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(1234.6, "1,235 models/s"), (4.12, "4.1 models/s"), (0.1, "0.1 models/s"), (0.05, "3.0 models/min"),
     (0.001, "3.6 models/h")],
)  # fmt: skip
def test_speeds(rate, words):
    assert rate_of(rate) == words


class TestSummary:
    def test_every_count_is_there(self):
        text = summary("/models", replace(MIDWAY, n_skipped=41, n_inconclusive=5, n_resumed=200))
        shown = {name.strip(): value for name, value in re.findall(r"^  ([a-z ]+?)\s{2,}(\S.*)$", text, re.MULTILINE)}
        assert shown["matches so far"] == "3"
        assert shown["inconclusive"] == "5"
        assert shown["failed"] == "12"
        assert shown["skipped"] == "41"
        assert shown["from an earlier run"] == "200"
        assert shown["size of these models"] == "36.0 GB"
        assert "12 %\n  1,203 of 10,000 models" in text
        assert "corrected for everything that was tried" in text

    @pytest.mark.parametrize(("n_done", "bar"), [(0, 0), (9_999, 39), (10_000, 40), (20_000, 40)])
    def test_the_bar_is_full_when_all_is_done_and_not_before(self, n_done, bar):
        text = summary("/models", Counts(n_done, 10_000))
        assert f"[{'#' * bar}{'.' * (40 - bar)}]" in text
        assert ("100 %" in text) == (n_done >= 10_000)

    def test_a_total_that_is_not_known_is_not_made_up(self):
        text = summary("/models", Counts(70, None, seconds=7))
        assert "70 done, and more are being found" in text
        assert "%" not in text
        assert re.search(r"time left\s+–", text)

    def test_nothing_to_do_is_all_done(self):
        assert "100 %\n  0 of 0 models" in summary("/models", Counts(0, 0))

    @pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
    def test_names_are_harmless(self, name):
        text = summary(name, MIDWAY)
        assert all(character.isprintable() or character == "\n" for character in text)
        assert len(text.splitlines()) == len(summary("/models", MIDWAY).splitlines())

    @given(
        st.builds(
            Counts,
            st.integers(0, 10**9), st.none() | st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9),
            st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**18),
            st.floats(0, 1e9),
        )
    )  # fmt: skip
    def test_it_fits_a_screen_whatever_the_counts(self, counts):
        lines = summary("/a/very/long/path/" * 9, counts).splitlines()
        assert len(lines) < 24
        assert max(map(cell_len, lines)) < 80
        assert progress_line(counts).isprintable()
