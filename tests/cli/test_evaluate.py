"""``onnxmark evaluate`` as users run it; what is evaluated is the core's, and here stands in for hours of training."""

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onnxmark import evaluation
from onnxmark.cli import evaluating, run
from onnxmark.evaluation import EXAMPLE, Estimate, Progress, load_plan
from tests.report import synthetic_evaluations as synthetic

PLAN = """
title = "a plan"
networks = 2
payloads = 2
[task]
name = "digits"
[[architectures]]
name = "conv-net"
[[schemes]]
scheme = "projection"
"""


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def asked(monkeypatch):
    """What the core is asked for; it answers at once."""
    calls = []

    def evaluate(plan, laboratory, **options):
        calls.append({"title": plan.title, "laboratory": laboratory, **options})
        if options["progress"] is not None:
            options["progress"](Progress(3, 8, 1, 60.0, 100.0, "network 1, noise 0.2"))
        return synthetic.small()

    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    return calls


def answering(monkeypatch, answer):
    def evaluate(*_, **__):
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(evaluation, "evaluate", evaluate)


class TestExample:
    def test_it_is_a_plan(self, tmp_path, capsys):
        assert run(["evaluate", "--example"]) == 0
        (tmp_path / "plan.toml").write_text(capsys.readouterr().out)
        assert (tmp_path / "plan.toml").read_text() == EXAMPLE
        assert len(load_plan(tmp_path / "plan.toml").schemes) >= 3

    def test_without_a_plan_it_is_named(self, capsys):
        assert run(["evaluate"]) == 2
        assert "name a plan, or ask for an --example" in capsys.readouterr().err


class TestDryRun:
    def test_it_says_how_much_and_how_long_and_touches_nothing(self, plan, monkeypatch, capsys):
        def estimate(found, laboratory, *, jobs):
            assert (found.title, callable(laboratory)) == ("a plan", True)
            return Estimate(12, 1_440, 2_345, 9_380, 8_000.0, jobs)

        monkeypatch.setattr(evaluation, "estimate", estimate)
        assert run(["evaluate", str(plan), "--dry-run", "-j", "3"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[-1] for line in lines[:4]] == ["12", "1,440", "2,345", "9,380"]
        assert lines[4].startswith("about 2 h 13 min on this machine with 3 workers")
        assert [path.name for path in plan.parent.iterdir()] == ["plan.toml"]

    def test_one_worker_is_one_worker(self):
        assert "with 1 worker," in evaluating.lines_of(Estimate(1, 1, 1, 1, 30.0, 1))[-1]


class TestEvaluate:
    def test_the_journal_stands_beside_the_plan_and_networks_go_when_nobody_asked_for_them(self, plan, asked, capsys):
        assert run(["evaluate", str(plan), "-j", "2", "--no-progress"]) == 0
        (call,) = asked
        assert (call["title"], call["jobs"], call["progress"]) == ("a plan", 2, None)
        assert (call["journal"], call["work"], call["keep"]) == (plan.with_suffix(".journal"), None, False)
        assert call["laboratory"].__name__ == "laboratory"
        assert "Highest symbol error rate" in capsys.readouterr().out

    def test_journal_and_folder_of_the_users_choice(self, plan, asked, tmp_path):
        journal, work = tmp_path / "other", tmp_path / "networks"
        assert run(["evaluate", str(plan), "--journal", str(journal), "--work", str(work), "--no-progress"]) == 0
        (call,) = asked
        assert (call["journal"], call["work"], call["keep"]) == (journal, work, True)
        assert call["jobs"] >= 1

    def test_every_form(self, plan, asked, tmp_path, capsys):
        forms = ("json", "jsonl", "csv", "md", "html", "rich")
        outputs = [part for form in forms for part in ("-o", f"{form}={tmp_path / form}")]
        assert run(["evaluate", str(plan), "--no-progress", "--format", "json", *outputs]) == 0
        assert json.loads(capsys.readouterr().out) == synthetic.small()
        for form in forms:
            assert "full carrier" in (tmp_path / form).read_text()
        assert run(["report", str(tmp_path / "json"), "--format", "csv"]) == 0
        assert capsys.readouterr().out == (tmp_path / "csv").read_text()

    @pytest.mark.parametrize("form", ["sarif", "junit"])
    def test_forms_without_sense_are_refused_before_any_work(self, plan, asked, capsys, form):
        assert run(["evaluate", str(plan), "--format", form]) == 2
        assert f"no {form} form of onnxmark/evaluation/v1" in capsys.readouterr().err
        assert asked == []

    def test_what_broke_exits_with_3_and_still_reports(self, plan, monkeypatch, capsys):
        answering(monkeypatch, synthetic.partial())
        assert run(["evaluate", str(plan), "--no-progress"]) == 3
        assert "PARTLY EVALUATED" in capsys.readouterr().out

    def test_an_interruption_keeps_the_journal_and_says_so(self, plan, monkeypatch, capsys):
        answering(monkeypatch, KeyboardInterrupt())
        assert run(["evaluate", str(plan), "--no-progress"]) == 130
        shown = capsys.readouterr()
        assert f"the journal '{plan.with_suffix('.journal')}' is kept: run the same command to go on" in shown.err
        assert shown.out == ""


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("title = ", "is not TOML"),
            (PLAN.replace("networks = 2", "network = 2"), "'networks' is missing"),
            (PLAN.replace('"projection"', '"projektion"'), "no plugin 'projektion' in onnxmark.schemes"),
            (PLAN + "\n[policy]\nalpa = 0.1\n", "did you mean 'alpha'?"),
            (PLAN.replace("networks = 2", 'networks = 2\nlaboratory = "kitchen"'), "no plugin 'kitchen'"),
        ],
    )
    def test_a_plan_that_is_none_has_one_line(self, plan, capsys, text, words):
        plan.write_text(text)
        assert run(["evaluate", str(plan), "--no-progress"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("onnxmark: error: ")
        assert words in line

    def test_no_file(self, tmp_path, capsys):
        assert run(["evaluate", str(tmp_path / "absent.toml")]) == 2
        assert "absent.toml' cannot be read: No such file or directory" in capsys.readouterr().err

    @pytest.mark.parametrize("more", [[], ["--dry-run"]])
    def test_without_torch_the_extra_is_named(self, plan, more):
        code = (
            "import sys; sys.modules['torch'] = None; from onnxmark.cli import run; "
            f"sys.exit(run(['evaluate', {str(plan)!r}, *{more!r}]))"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert "needs torch, which is not installed; run: pip install 'onnxmark[torch]'" in result.stderr

    def test_help_has_examples_and_loads_nothing_heavy(self):
        code = (
            "import sys; from onnxmark.cli import run; run(['evaluate', '--help']); "
            "print([m for m in ('numpy', 'onnx', 'torch', 'onnxmark.evaluation') if m in sys.modules], file=sys.stderr)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stderr.strip() == "[]"
        assert "onnxmark evaluate plan.toml --dry-run" in result.stdout

    def test_the_page_it_names_exists(self):
        root = Path(__file__).parents[2]
        assert "docs/ieee3304.md" in (run.__globals__["evaluate"].__doc__ or "")
        assert (root / "docs" / "ieee3304.md").is_file()


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgress:
    @pytest.mark.parametrize(
        ("progress", "line"),
        [
            (Progress(0, 1_120, 0, 0.0, None, ""), "0 of 1,120 steps"),
            (
                Progress(312, 1_120, 40, 900.0, 2_520.0, "network 1, noise 0.2"),
                "312 of 1,120 steps, 40 from the journal, about 42 min left: network 1, noise 0.2",
            ),
            (Progress(8, 8, 0, 5.0, 0.0, "last"), "8 of 8 steps: last"),
            (Progress(1, 8, 0, 5.0, 35.0, "\x1b[31m"), "1 of 8 steps, about 35 s left: \\x1b[31m"),
        ],
    )
    def test_a_line(self, progress, line):
        assert evaluating.line_of(progress) == line

    def test_elsewhere_than_on_a_terminal_a_line_now_and_then(self, monkeypatch, capsys):
        now = [1_000.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        with evaluating.evaluation_progress(quiet=False) as tell:
            for count, later in enumerate((0, 1, 58, 2, 59, 61)):
                now[0] += later
                tell(Progress(count, 9, 0, now[0], None, ""))
        assert [re.search(r"\d", line).group() for line in capsys.readouterr().err.splitlines()] == ["0", "3", "5"]

    def test_a_bar_on_a_terminal(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        with evaluating.evaluation_progress(quiet=False) as tell:
            tell(Progress(3, 8, 1, 60.0, 100.0, "[red]network[/red] 1"))
        assert "3 of 8 steps, 1 from the journal, about 2 min left: [red]network[/red] 1" in terminal.getvalue()

    def test_quiet_is_quiet(self, plan, asked, capsys):
        assert run(["evaluate", str(plan), "--no-progress"]) == 0
        assert capsys.readouterr().err == ""

    def test_it_is_told_on_standard_error(self, plan, asked, capsys):
        assert run(["evaluate", str(plan), "--format", "json"]) == 0
        shown = capsys.readouterr()
        assert "3 of 8 steps, 1 from the journal, about 2 min left: network 1, noise 0.2" in shown.err
        json.loads(shown.out)
