"""Who trains what in the ingrain experiments: references, controls, ingrainers, hosts, students.

Networks that are compared start from the same weights and see images in the same order: a host with and without an
ingrainer, and the students of both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from onnxmark_torch.data import Examples
from onnxmark_torch.history import History
from onnxmark_torch.ingrain import (
    KINDS,
    Carriers,
    Lesson,
    Trained,
    distilled,
    near_boundary,
    neighbourhoods,
    train_host,
    train_ingrainer,
    varied,
)
from onnxmark_torch.ingrain.knowledge import TaskWith
from onnxmark_torch.plan import TrainingPlan
from onnxmark_torch.tasks import Task
from onnxmark_torch.training import logits_of, train
from torch import nn

from benchmarks.ingrain.evidence import Evidence, evidence, pooled, votes_of
from benchmarks.ingrain.markings import Choice, Marking, Theft, coins_of, seed_of
from benchmarks.ingrain.queries import DOMAINS
from benchmarks.ingrain.readings import Reading, plain
from benchmarks.ingrain.setting import Parts, Setting
from benchmarks.ingrain.store import Store
from onnxmark.arrays import BitArray, Float32Array, Float64Array, Int64Array

_PUBLIC = 0
"""Seed of what is drawn without a key."""
_STUDENT = Lesson(labels=0.0)

_Maker = Callable[[nn.Module, TrainingPlan], tuple[nn.Module, History]]


@dataclass(frozen=True)
class Laboratory:
    """Networks by what they are.

    Args:
        setting: How large.
        parts: Who has which images.
        store: Where networks are kept.
    """

    setting: Setting
    parts: Parts
    store: Store

    def reference(self, number: int) -> nn.Module:
        """An unmarked network of the owner's, which he compares with."""
        return self._unmarked(f"reference-{number}", self.parts.owner)

    def control(self, number: int, *, disjoint: bool = False, small: bool = False) -> nn.Module:
        """An unmarked network of somebody else, trained on labels."""
        name = f"control-{'small' if small else 'same'}-{'disjoint' if disjoint else 'owner'}-{number}"
        return self._unmarked(name, self.parts.thief if disjoint else self.parts.owner, small=small)

    def innocent(self, theft: Theft) -> nn.Module:
        """A student of an unmarked network."""
        return self._student("control-same-owner-0", lambda: self.control(0), theft, "innocent")

    def ingrainer(self, marking: Marking) -> nn.Module:
        """The network that learns a key's carriers."""
        return self._kept(
            marking.ingrainer,
            f"ingrainer {marking.key}",
            lambda net, plan: _both(train_ingrainer(net, self.parts.owner, self._lessons(marking), plan, show=False)),
        )

    def host(self, marking: Marking) -> nn.Module:
        """The network to publish."""
        return self._kept(marking.host, f"host {marking.key}", lambda net, plan: self._host(marking, net, plan))

    def student(self, marking: Marking, theft: Theft) -> nn.Module:
        """A network distilled from a host."""
        return self._student(marking.host, lambda: self.host(marking), theft, str(marking.key))

    def tuned(self, name: str, stolen: nn.Module, *, small: bool = False) -> nn.Module:
        """A stolen network, trained on with the thief's images and labels."""

        def tune(net: nn.Module, plan: TrainingPlan) -> tuple[nn.Module, History]:
            net.load_state_dict(stolen.state_dict())
            return net, train(net, self.parts.thief, replace(self.setting.tuning, seed=plan.seed), show=False)

        return self._kept(f"{name}-tuned", f"{name}-tuned", tune, small=small)

    @cache  # noqa: B019  a laboratory lives as long as its process
    def carriers(self, choice: Choice) -> Carriers:
        """The inputs and their pairs."""
        pool = self.parts.pool
        if choice.kind != "boundary":
            return KINDS[choice.kind](pool, choice.count, _PUBLIC)
        answers = [self.answers(self.reference(number), pool) for number in range(choice.agreeing)]
        return near_boundary(pool, np.stack(answers), choice.count)

    @cache  # noqa: B019
    def groups(self, choice: Choice) -> Int64Array:
        """Which coin each carrier has, shape (carriers,)."""
        return neighbourhoods(self.carriers(choice), choice.neighbours)

    def coins(self, marking: Marking) -> BitArray:
        """A key's coins, one for each neighbourhood, shape (coins,)."""
        return coins_of(marking.key, int(self.groups(marking.choice).max()) + 1)

    @cache  # noqa: B019
    def expected(self, choice: Choice) -> Float64Array:
        """The references' log-ratios, summed over those that share a coin: shape (references, coins)."""
        references = (self.reference(number) for number in range(self.setting.n_references))
        return np.stack([self.log_ratios(self.on_carriers(one, choice), choice) for one in references])

    def pairs(self, choice: Choice) -> Int64Array:
        """The two classes of each coin, shape (coins, 2)."""
        first = np.unique(self.groups(choice), return_index=True)[1]
        return self.carriers(choice).pairs[first]

    def log_ratios(self, logits: Float32Array, choice: Choice) -> Float64Array:
        """How logits on the carriers lean between the two classes of each coin, shape (coins,)."""
        return pooled(self.carriers(choice).log_ratios(logits), self.groups(choice))

    def on_carriers(self, model: nn.Module, choice: Choice) -> Float32Array:
        """A network's logits on the carriers, shape (carriers, classes)."""
        return self.answers(model, self.shown(choice))

    def shown(self, choice: Choice) -> Examples:
        """The carriers as images; their labels mean nothing."""
        return self._labelled(choice, np.zeros(choice.count, dtype=np.uint8))

    def evidence(self, logits: Float32Array, marking: Marking, reading: Reading = plain) -> Evidence:
        """What a suspect's logits on the carriers are worth."""
        choice, coins = marking.choice, self.coins(marking)
        carriers, groups = self.carriers(choice), self.groups(choice)
        answers = logits.argmax(axis=1)
        votes = pooled(votes_of(answers, carriers.pairs), groups)
        leanings = reading(self.log_ratios(logits, choice), self.expected(choice), self.pairs(choice))
        agreement = float(np.mean(answers == carriers.labels(coins[groups])))
        return evidence(votes, leanings, coins, agreement)

    def answers(self, model: nn.Module, examples: Examples) -> Float32Array:
        """Logits, shape (images, classes)."""
        answers: Float32Array = logits_of(model, self.parts.owner, examples).numpy()
        return answers

    def _labelled(self, choice: Choice, coins: BitArray) -> Examples:
        return self.carriers(choice).examples(coins, self.parts.pool.class_names)

    def _lessons(self, marking: Marking) -> Examples:
        coins = self.coins(marking)[self.groups(marking.choice)]
        named = self._labelled(marking.choice, coins)
        return varied(named, marking.copies, seed=seed_of(f"copies {marking.key}"))

    def _host(self, marking: Marking, net: nn.Module, plan: TrainingPlan) -> tuple[nn.Module, History]:
        task, carriers = self.parts.owner, self._lessons(marking)
        if not marking.strength:
            return _both(train_ingrainer(net, task, carriers, plan, show=False))
        lesson, seen = Lesson(marking.strength, marking.temperature), None if marking.unseen else carriers
        teacher, still = self.ingrainer(marking), not self.setting.colour
        return _both(train_host(net, teacher, task, plan, lesson=lesson, carriers=seen, recorded=still, show=False))

    def _student(self, teacher_name: str, teacher: Callable[[], nn.Module], theft: Theft, group: str) -> nn.Module:
        def steal(net: nn.Module, plan: TrainingPlan) -> tuple[nn.Module, History]:
            task = self.parts.thief if theft.disjoint else self.parts.owner
            asked = task if theft.queries == "plain" else TaskWith(task, DOMAINS[theft.queries](task.training))
            if theft.hard:
                named = self.answers(teacher(), asked.training).argmax(axis=1)
                labelled = TaskWith(asked, replace(asked.training, labels=named))
                return net, train(net, labelled, plan, show=False)
            lesson = replace(_STUDENT, temperature=theft.temperature)
            return _both(distilled(net, teacher(), asked, plan, lesson, recorded=not self.setting.colour, show=False))

        seed = f"student {group} {theft.name}"
        return self._kept(f"{teacher_name}--{theft.name}", seed, steal, small=theft.small)

    def _unmarked(self, name: str, task: Task, *, small: bool = False) -> nn.Module:
        return self._kept(name, name, lambda net, plan: (net, train(net, task, plan, show=False)), small=small)

    def _kept(self, name: str, seed_name: str, make: _Maker, *, small: bool = False) -> nn.Module:
        seed = seed_of(seed_name)
        plan = replace(self.setting.plan, seed=seed)
        return self.store.network(name, self.setting.network(seed, small=small), lambda net: make(net, plan))


def _both(trained: Trained) -> tuple[nn.Module, History]:
    return trained.model, trained.history
