"""Every symmetry on every network: the answers stay, the weights move, and what is free is all found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxmark.errors import AttackError
from onnxmark.model.channels.grouping import channel_groups
from onnxmark.model.channels.groups import Commutes
from onnxmark.model.editing.editable import EditableModel
from onnxmark.symmetries import DummyNeurons, InputPermutation, OutputPermutation, Permutation, Rescaling, SignFlip
from onnxmark.symmetries.regions import free_regions

from .networks import SUBJECTS, Subject
from .subjects import assert_same_answers, file_means, tensors_of

ATTACKS = {
    "permutes": [Permutation(), Permutation(0.5), InputPermutation(), OutputPermutation()],
    "rescales": [Rescaling(0.5), Rescaling(1.5)],
    "flips": [SignFlip(), SignFlip(1.0)],
    "grows": [
        *(DummyNeurons(0.5, kind) for kind in ("zero", "clique", "split", "mixed")),
        DummyNeurons(1.0, shuffle=False),
    ],
}
EVERY = [pytest.param(what, attack, id=attack.label) for what, attacks in ATTACKS.items() for attack in attacks]
every_subject = pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)


def groups(subject: Subject, tmp_path: Path):
    return channel_groups(EditableModel.load(subject.save(tmp_path / "net.onnx")))


@every_subject
def test_what_is_free_is_found(subject, tmp_path):
    found = groups(subject, tmp_path)
    assert sum(group.problem is None for group in found) == subject.permutes
    assert sum(group.rigid is None for group in found) == subject.grows
    for commutes, expected in ((Commutes.SCALE, subject.rescales), (Commutes.SIGN, subject.flips)):
        assert sum(isinstance(free_regions(group, commutes, None), tuple) for group in found) == expected


@every_subject
@pytest.mark.parametrize(("what", "attack"), EVERY)
def test_answers_stay_and_weights_move(subject, what, attack, tmp_path):
    source, result = subject.save(tmp_path / "net.onnx"), tmp_path / "attacked.onnx"
    before = source.read_bytes()
    if not getattr(subject, what):
        with pytest.raises(AttackError, match=r"no layer can have .* \(.*\); try another attack"):
            attack.rewrite(source, result, file_means())
        assert not result.exists()
        return
    sentences = attack.rewrite(source, result, file_means())
    assert source.read_bytes() == before
    assert sentences[0].startswith(f"{attack.done}: {getattr(subject, what)} (")
    onnx.shape_inference.infer_shapes(onnx.load(result), check_type=True, strict_mode=True)
    # Float32 has 1e-7; the least favourable factors, 1.5 standard deviations of a logarithm, cost a digit.
    assert_same_answers(source, result, 1e-5)
    old, new = tensors_of(source), tensors_of(result)
    moved = [name for name in old if old[name].ndim > 1 and not np.array_equal(old[name], new.get(name))]
    assert moved


@every_subject
def test_dead_neurons_where_nothing_stays_nothing(subject, tmp_path):
    source, result = subject.save(tmp_path / "net.onnx"), tmp_path / "attacked.onnx"
    growing = [group for group in groups(subject, tmp_path) if group.rigid is None]
    homogeneous = any(all(Commutes.ZERO in region.commutes for region in group.regions) for group in growing)
    if homogeneous:
        DummyNeurons(0.5, "dead").rewrite(source, result, file_means())
        assert_same_answers(source, result)
    else:
        with pytest.raises(AttackError, match="no layer can have neurons added"):
            DummyNeurons(0.5, "dead").rewrite(source, result, file_means())


@pytest.mark.parametrize(("what", "attack"), EVERY)
def test_the_seed_decides(what, attack, tmp_path):
    source = SUBJECTS["linear"].save(tmp_path / "net.onnx")
    results = []
    for number, seed in enumerate((1, 1, 2)):
        attack.rewrite(source, tmp_path / f"{number}.onnx", file_means(seed=seed))
        results.append((tmp_path / f"{number}.onnx").read_bytes())
    assert results[0] == results[1]
    # All signs flipped are all signs flipped.
    assert (results[1] == results[2]) == (attack == SignFlip(1.0))
