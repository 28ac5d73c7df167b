"""The ingrain experiments on a small scale: every network once, the right one, and nothing twice."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxmark_torch.data import DataSet, Examples
from onnxmark_torch.history import EpochRecord, History
from onnxmark_torch.ingrain import KINDS
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import ImageTask
from rich.console import Console
from torch import nn

from benchmarks.ingrain import experiment, files, kinds, null, sweep, weakest
from benchmarks.ingrain.laboratory import Laboratory
from benchmarks.ingrain.markings import THEFTS, WEAKEST, Choice, Marking, Theft, coins_of, seed_of
from benchmarks.ingrain.queries import DOMAINS
from benchmarks.ingrain.setting import FULL, SMALL, Parts, PoolNet, part
from benchmarks.ingrain.store import Record, Store
from benchmarks.ingrain.tables import comparison, table
from onnxmark.attacks import MagnitudePruning

TINY = replace(
    SMALL,
    name="tiny",
    n_part=64,
    n_pool=60,
    n_references=2,
    plan=TrainingPlan(epochs=1, batch_size=32),
    tuning=TrainingPlan(epochs=1, batch_size=32, rate=0.01),
)
CPU = torch.device("cpu")
FEW = Choice(count=12)


@pytest.fixture(scope="module")
def task() -> ImageTask:
    rng = np.random.default_rng(0)

    def noise(count: int) -> Examples:
        images = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
        return Examples(images, rng.integers(0, 10, count), tuple("0123456789"))

    return ImageTask.of("noise", DataSet(noise(200), noise(20)))


def laboratory(task: ImageTask, folder: Path, said: list[str] | None = None) -> Laboratory:
    return Laboratory(
        TINY, Parts.of(task, TINY), Store(folder, "this", CPU, [].append if said is None else said.append)
    )


@pytest.fixture(scope="module")
def lab(task, tmp_path_factory) -> Laboratory:
    return laboratory(task, tmp_path_factory.mktemp("networks"))


def history(score: float = 0.5) -> History:
    return History((EpochRecord(1, 0.1, 1.0, score, 10, 2.0),))


class TestStore:
    def made(self, net: nn.Module) -> tuple[nn.Module, History]:
        return net, history()

    def test_a_network_is_made_once(self, tmp_path):
        said: list[str] = []
        store = Store(tmp_path / "new", "this", CPU, said.append)
        first = store.network("one", nn.Linear(3, 2), self.made)
        again = store.network("one", nn.Linear(3, 2), lambda net: pytest.fail("trained twice"))
        torch.testing.assert_close(again.state_dict(), first.state_dict(), rtol=0, atol=0)
        assert not again.training
        assert store.records() == {"one": Record("one", 0.5, 2.0)}
        assert len(said) == 1

    def test_one_whose_line_was_cut_off_is_made_again(self, tmp_path):
        store = Store(tmp_path, "this", CPU, [].append)
        for name in ("one", "two"):
            store.network(name, nn.Linear(3, 2), self.made)
        journal = tmp_path / "networks.jsonl"
        journal.write_text(journal.read_text()[:-5])
        assert list(store.records()) == ["one"]
        made = []
        store.network("two", nn.Linear(3, 2), lambda net: made.append(net) or self.made(net))
        assert len(made) == 1
        assert list(store.records()) == ["one", "two"]

    def test_one_whose_file_is_gone_is_made_again_and_has_one_line(self, tmp_path):
        store = Store(tmp_path, "this", CPU, [].append)
        store.network("one", nn.Linear(3, 2), self.made)
        (tmp_path / "one.pt").unlink()
        store.network("one", nn.Linear(3, 2), lambda net: (net, history(0.75)))
        lines = [json.loads(line) for line in (tmp_path / "networks.jsonl").read_text().splitlines()]
        assert [(line["name"], line["accuracy"], line["experiment"]) for line in lines] == [("one", 0.75, "this")]

    def test_another_experiments_networks_are_refused(self, tmp_path):
        Store(tmp_path, "that", CPU, [].append).network("one", nn.Linear(3, 2), self.made)
        with pytest.raises(ValueError, match=r"holds another experiment \(that\); this one is this"):
            Store(tmp_path, "this", CPU, [].append).records()


class TestMarkings:
    def test_names_tell_everything_apart(self):
        plain = Marking(0)
        others = [
            Marking(1),
            replace(plain, copies=8),
            replace(plain, strength=0.1),
            replace(plain, temperature=20.0),
            replace(plain, unseen=True),
            plain.backdoor,
            *(replace(plain, choice=one) for one in (Choice("noise"), Choice(count=2), Choice(agreeing=3))),
            replace(plain, choice=Choice(neighbours=4)),
        ]
        assert len({one.host for one in (plain, *others)}) == len(others) + 1
        same_ingrainer = [one for one in others if one.ingrainer == plain.ingrainer]
        assert same_ingrainer == [others[2], others[3], others[4], others[5]]

    def test_thefts_have_names_of_their_own(self):
        thefts = [*THEFTS, *experiment.ELSEWHERE, Theft(temperature=20.0)]
        assert len({one.name for one in thefts}) == len(thefts)
        assert len(THEFTS) == 8
        assert WEAKEST in THEFTS

    def test_the_backdoor_has_the_same_carriers_and_coins(self):
        marking = Marking(7, Choice(count=5), copies=2, strength=5.0, temperature=20.0, unseen=True)
        assert marking.backdoor == Marking(7, Choice(count=5), copies=2, strength=0.0)

    def test_coins_are_fair_and_a_keys_own(self):
        thrown = np.array([coins_of(key, 1000) for key in range(20)])
        assert 0.45 < thrown.mean() < 0.55
        assert np.abs(np.corrcoef(thrown) - np.eye(20)).max() < 0.15
        assert coins_of(3, 9).tolist() == coins_of(3, 1000)[:9].tolist()

    def test_seeds_differ_by_name(self):
        assert len({seed_of(f"network {number}") for number in range(1000)}) == 1000


class TestSetting:
    def test_sizes_are_as_described(self):
        counts = {
            (setting.name, small): sum(one.numel() for one in setting.network(0, small=small).parameters())
            for setting in (SMALL, FULL)
            for small in (False, True)
        }
        assert 100_000 < counts["small", False] < 120_000
        assert 15_000 < counts["small", True] < 25_000
        assert counts["full", False] > 1_000_000 > 100_000 > counts["full", True]

    def test_pooling_before_the_rest_is_the_same_function(self):
        net, images = PoolNet(4, 8).eval(), torch.randn(3, 1, 28, 28)
        with torch.no_grad():
            for norm in net.norms:
                norm.running_mean.uniform_(-1, 1)
                norm.running_var.uniform_(0.5, 2)
            maps = images
            for convolution, norm in zip(net.convolutions, net.norms, strict=True):
                maps = nn.functional.max_pool2d(torch.relu(norm(convolution(maps))), 2)
            expected = net.fc2(torch.relu(net.fc1(maps.flatten(1))))
            torch.testing.assert_close(net(images), expected)

    def test_nobodys_images_are_anothers(self, task):
        parts = Parts.of(task, TINY)
        owned = [parts.owner.training.images, parts.thief.training.images, parts.pool.images]
        assert [len(each) for each in owned] == [64, 64, 60]
        assert len({image.tobytes() for each in owned for image in each}) == 188

    def test_there_must_be_enough_images(self, task):
        with pytest.raises(ValueError, match="there are 200 examples, 201 are needed"):
            part(task.training, 150, 201)

    def test_the_full_size_needs_cifar(self):
        with pytest.raises(SystemExit, match="needs CIFAR-10; name its binary version with --cifar"):
            FULL.task(None)


class TestQueries:
    @pytest.mark.parametrize("domain", DOMAINS)
    def test_they_are_as_many_and_of_the_same_shape_and_others(self, domain, task):
        if domain == "digits":
            pytest.importorskip("sklearn")
        asked = DOMAINS[domain](task.training)
        assert asked.images.shape == task.training.images.shape
        assert not {image.tobytes() for image in asked.images} & {image.tobytes() for image in task.training.images}


class TestLaboratory:
    def test_what_is_compared_starts_from_the_same_weights(self, lab, monkeypatch):
        started: dict[str, bytes] = {}

        def note(store: Store, name: str, fresh: nn.Module, make: object) -> nn.Module:
            started[name] = b"".join(each.detach().numpy().tobytes() for each in fresh.parameters())
            return fresh

        monkeypatch.setattr(Store, "network", note)
        marking = Marking(0, FEW)
        for one in (marking, marking.backdoor, replace(marking, temperature=20.0)):
            lab.host(one)
            lab.student(one, WEAKEST)
        lab.ingrainer(marking)
        hosts = {weights for name, weights in started.items() if "--" not in name and "ingrainer" not in name}
        students = {weights for name, weights in started.items() if "--" in name}
        assert len(hosts) == len(students) == 1
        assert len(set(started.values())) == 3

    def test_a_student_of_hard_labels_learns_what_the_host_names(self, lab, monkeypatch):
        marking, trained_on = Marking(0, FEW), []
        host = lab.host(marking)
        monkeypatch.setattr(
            "benchmarks.ingrain.laboratory.train", lambda net, task, plan, **_: trained_on.append(task) or history()
        )
        lab.student(marking, replace(WEAKEST, small=False))
        named = lab.answers(host, lab.parts.thief.training).argmax(axis=1)
        assert np.array_equal(trained_on[0].training.labels, named)
        assert trained_on[0].training.images is lab.parts.thief.training.images

    def test_carriers_are_the_pools_and_the_same_for_every_key(self, lab):
        carriers = lab.carriers(FEW)
        assert len(carriers) == 12
        assert {image.tobytes() for image in carriers.images} <= {image.tobytes() for image in lab.parts.pool.images}
        assert lab.carriers(FEW) is carriers
        one, two = (lab.coins(Marking(key, FEW)) for key in (0, 1))
        assert one.tolist() != two.tolist()

    def test_carriers_that_share_a_coin_are_taught_alike(self, lab):
        marking = Marking(0, Choice(count=12, neighbours=4))
        groups, coins = lab.groups(marking.choice), lab.coins(marking)
        assert len(coins) == groups.max() + 1 < 12
        lessons = lab._lessons(marking)
        expected = lab.carriers(marking.choice).labels(coins[groups])
        assert lessons.labels.tolist() == expected.tolist() * 4
        assert lab.pairs(marking.choice).shape == (len(coins), 2)
        assert np.array_equal(lab.pairs(marking.choice)[groups], lab.carriers(marking.choice).pairs)

    def test_perfect_answers_are_perfect_evidence(self, lab):
        for neighbours in (1, 4):
            marking = Marking(0, Choice(count=12, neighbours=neighbours))
            coins, groups = lab.coins(marking), lab.groups(marking.choice)
            wanted = lab.carriers(marking.choice).labels(coins[groups])
            found = lab.evidence(np.eye(10, dtype=np.float32)[wanted] * 50, marking)
            assert found.agreement == 1
            for figure in (found.argmax, found.signs, found.flips):
                assert figure == pytest.approx(-len(coins) * np.log10(2))


class TestExperiment:
    def test_every_suspect_once_and_the_second_time_nothing_is_trained(self, task, tmp_path, monkeypatch):
        monkeypatch.setattr(experiment, "Marking", lambda key: Marking(key, FEW, copies=2))
        pytest.importorskip("sklearn")
        said: list[str] = []
        rows = list(experiment.rows(laboratory(task, tmp_path, said), range(2)))
        assert len(rows) == len({(row.host, row.key, row.suspect) for row in rows}) == 2 * (16 + 9 + 7)
        assert len(said) == len(set(said)) == 2 + 2 * (1 + 16 + 9) + 7
        before = len(said)
        again = list(experiment.rows(laboratory(task, tmp_path, said), range(2)))
        assert len(said) == before
        assert again == rows
        shown = StringIO()
        console = Console(file=shown, width=200)
        for host in ("ingrained", "backdoor", "unmarked"):
            console.print(table(rows, host))
        console.print(comparison(rows))
        for suspect in {row.suspect for row in rows}:
            assert suspect in shown.getvalue()
        json.dumps([row.figures for row in rows])

    def test_weakest_reads_every_student_in_every_way(self, lab, monkeypatch):
        variants = {"plain": Marking(0, FEW), "shared": Marking(0, Choice(count=12, neighbours=4))}
        monkeypatch.setattr(weakest, "VARIANTS", variants)
        rows = list(weakest.rows(lab, range(2), list(variants)))
        assert len(rows) == 2 * 2 * len(weakest.THEFTS) * len(weakest.READINGS)
        tuned = list(weakest.rows(lab, [0], ["plain"], tuned=True))
        assert [row.theft for row in tuned] == [row.theft for row in rows if (row.key, row.variant) == (0, "plain")]
        assert tuned[0].evidence.z != rows[0].evidence.z
        shown = StringIO()
        Console(file=shown, width=200).print(weakest.table(rows, WEAKEST))
        assert "shared" in shown.getvalue()

    def test_the_sweep_has_every_pair_of_lambda_and_temperature(self):
        seen = [(one.strength, one.temperature) for one in sweep.Grid((0.1, 5.0), (1.0, 20.0)).markings(0)]
        assert seen == [(0.0, 1.0), (0.1, 1.0), (0.1, 20.0), (5.0, 1.0), (5.0, 20.0)]
        unseen = list(sweep.Grid((1.0,), (20.0,), unseen=True).markings(3))
        assert unseen == [Marking(3, strength=1.0, temperature=20.0, unseen=True)]

    def test_the_sweep_judges_hosts_and_their_students(self, lab, monkeypatch):
        monkeypatch.setattr(sweep, "Marking", lambda key, **others: Marking(key, FEW, **others))
        points = list(sweep.points(lab, 0, sweep.Grid((1.0,), (20.0,), unseen=True)))
        assert [point.suspect for point in points] == ["host", *(theft.name for theft in sweep.THEFTS)]
        marking = Marking(0, FEW, strength=1.0, temperature=20.0, unseen=True)
        assert points[0].evidence == lab.evidence(lab.on_carriers(lab.host(marking), FEW), marking)
        shown = StringIO()
        Console(file=shown, width=200).print(sweep.table(points))
        assert "small-disjoint-hard" in shown.getvalue()

    def test_every_kind_of_carrier_is_judged_ingrained_and_as_backdoor(self, lab, monkeypatch):
        monkeypatch.setattr(kinds, "Choice", lambda kind: Choice(kind, count=12))
        rows = list(kinds.rows(lab, 0))
        assert len(rows) == len({(row.suspect, row.host) for row in rows}) == 4 * (1 + len(KINDS))
        shown = StringIO()
        Console(file=shown, width=200).print(kinds.table(rows))
        for kind in ("boundary", *KINDS):
            assert f"{kind}: student" in shown.getvalue()


class TestFiles:
    def test_a_file_says_what_its_network_says_and_attacks_change_it(self, lab, monkeypatch):
        pytest.importorskip("onnxruntime")
        monkeypatch.setattr(files, "Marking", lambda key: Marking(key, FEW))
        monkeypatch.setattr(files, "RECIPES", (MagnitudePruning(0.0), MagnitudePruning(0.9)))
        monkeypatch.setattr(files, "_CALIBRATING", 8)
        rows = list(files.rows(lab, [0]))
        marking = Marking(0, FEW)
        expected = lab.evidence(lab.on_carriers(lab.host(marking), FEW), marking)
        assert [row.attack for row in rows] == ["none", "L1 pruning 0 %", "L1 pruning 90 %"]
        for row in rows[:2]:
            assert row.evidence.z == pytest.approx(expected.z, abs=1e-4)
            assert row.accuracy == lab.store.records()[marking.host].accuracy
        assert rows[2].evidence.z != pytest.approx(expected.z, abs=1e-2)
        shown = StringIO()
        Console(file=shown, width=200).print(files.table(rows))
        assert "L1 pruning 90 %" in shown.getvalue()


class TestNull:
    @pytest.mark.parametrize("neighbours", [1, 4])
    def test_random_keys_find_nothing(self, lab, neighbours):
        found = null.evidences(lab, Choice(count=60, neighbours=neighbours), "plain", 700)
        rows = null.calibrations(found)
        assert set(rows) == set(null.STATISTICS)
        for one in rows.values():
            assert one.n == 700
            assert one.excess < 1.9 / np.sqrt(700)
        assert 0.9 < np.std([each.z for each in found]) < 1.1
