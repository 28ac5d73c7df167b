"""Which tensors of a model are host weights, and through which chain a layer reaches them: a listing without payloads.

Names say nothing (exporters and optimisers rename, fold, transpose and quantise), so a site is defined by use: the
constant that a layer's weight input evaluates to. Which operators have one is :mod:`onnxmark.model.layers`' business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxmark.errors import ModelError, ModelLimitError
from onnxmark.model.expression import Apply, Expression, Leaf, census, chain, stored_leaf
from onnxmark.model.graph import GraphView
from onnxmark.model.hosts import Host, Unfit
from onnxmark.model.layers import layer_of, readings
from onnxmark.model.limits import MAX_ITEMS
from onnxmark.model.payload import Payloads
from onnxmark.model.plan import Obstacle, Planner
from onnxmark.model.records import Node, Storage
from onnxmark.model.scope import Scope


@dataclass(frozen=True, slots=True)
class Use:
    """A node that uses a site's weights, and as which of its inputs."""

    scope: Scope = field(repr=False)
    node: int
    input: int


@dataclass(frozen=True, slots=True)
class WeightSite:
    """Host weights of one layer, or of several that share them.

    Args:
        name: Name of the stored tensor (initializer, or output of a Constant node), unique within the model.
        nodes: Nodes that use it, each with its scope (``If_3/then_branch/conv``).
        op: Operator of the first of them.
        position: Index among the model's sites.
        shape: Canonical shape ``(out, in / group, *spatial)``; empty if unknown.
        dtype: Element type in the file, ``float32``; empty if unknown.
        stored: In words, how the file stores it and what it passes through.
        group: Convolution groups; 1 for fully connected layers.
        problem: Why the weights cannot be read, or None.
        plan: How to compute the canonical weights, or None.
        native: The same before they are brought into canonical order, as the node sees them.
        uses: The nodes in ``nodes``, for rewriting.
        error: What reading it raises, if that is known already.
    """

    name: str
    nodes: tuple[str, ...]
    op: str
    position: int
    shape: tuple[int, ...]
    dtype: str
    stored: str
    group: int
    problem: str | None
    plan: Expression | None = field(default=None, repr=False, compare=False)
    native: Expression | None = field(default=None, repr=False, compare=False)
    uses: tuple[Use, ...] = field(default=(), repr=False, compare=False)
    error: ModelError | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class _Draft:
    name: str
    op: str
    group: int
    uses: list[Use]
    plan: Expression | None = None
    native: Expression | None = None
    label: str = ""
    problem: str | None = None
    error: ModelError | None = None


def locate(view: GraphView, planner: Planner, payloads: Payloads) -> tuple[WeightSite, ...]:
    """Every site of a model, in graph order.

    Raises:
        ModelLimitError: Expanding the model's functions and subgraphs takes too long.
        MalformedModel: A node of interest is damaged.
    """
    drafts: dict[tuple[object, ...], _Draft] = {}
    block_sizes: dict[int, tuple[int, ...]] = {}
    for scope, index in view.walk(is_layer):
        for draft in _drafts(scope, index, planner, block_sizes):
            shared = (id(draft.plan), draft.op, draft.group) if draft.plan is not None else (id(draft),)
            known = drafts.setdefault(shared, draft)
            if known is not draft:
                known.uses.extend(draft.uses)
    steps = 0
    for draft in drafts.values():
        if draft.native is None:
            continue
        found, size = census(draft.plan or draft.native)
        steps += size
        # Layers strung along one long chain would make every later walk, and every reading, quadratic.
        if steps > MAX_ITEMS:
            raise ModelLimitError(
                f"{payloads.source}: weights are computed in more than {MAX_ITEMS} steps; no real model is like that"
            )
        _check(draft, found, payloads)
    return _finished(list(drafts.values()))


def is_layer(node: Node) -> bool:
    """Whether ``node`` is of an operator that has host weights."""
    return layer_of(node) is not None


def _drafts(scope: Scope, index: int, planner: Planner, block_sizes: dict[int, tuple[int, ...]]) -> list[_Draft]:
    """The weights of a node, once for every way to read them."""
    node = scope.nodes[index]
    layer = layer_of(node)
    assert layer is not None
    attributes = scope.attributes(node)
    last: Obstacle | None = None
    for place in layer.inputs:
        outcome = planner.plan(scope, node.inputs[place] if place < len(node.inputs) else "")
        if isinstance(outcome, Obstacle):
            last = last if last is not None and not last.dynamic else outcome
            continue
        if layer.dense and len(outcome.shape) < 2:
            return []
        host = Host(scope, index, place, outcome, attributes, planner, block_sizes)
        path, use = scope.node_path(index), Use(scope, index, place)
        try:
            found = readings(layer, host)
        except Unfit as why:
            return [_Draft(path, node.op_type, host.group, [use], None, outcome, problem=str(why))]
        return [_Draft(path, node.op_type, host.group, [use], plan, outcome, label) for label, plan in found]
    if layer.dense and (last is None or last.dynamic):
        return []
    reason = last.reason if last is not None else "the node has no weight input"
    place = layer.inputs[0]
    name = node.inputs[place] if place < len(node.inputs) else ""
    group = attributes["group"].integer if "group" in attributes else 1
    return [_Draft(name or scope.node_path(index), node.op_type, group, [Use(scope, index, place)], problem=reason)]


def _check(draft: _Draft, found: tuple[Leaf, ...], payloads: Payloads) -> None:
    try:
        for leaf in found:
            for tensor in (leaf.tensor,) if leaf.sparse is None else (leaf.sparse.values, leaf.sparse.indices):
                if tensor is not None:
                    payloads.check(tensor)
    except ModelError as error:
        if draft.problem is None:
            draft.problem, draft.error = str(error), error


def _finished(drafts: list[_Draft]) -> tuple[WeightSite, ...]:
    taken: dict[str, int] = {}
    leaves: list[Leaf | None] = []
    for draft in drafts:
        leaf = None if draft.native is None else stored_leaf(draft.native)
        leaves.append(leaf)
        if leaf is not None and leaf.name:
            draft.name = f"{leaf.name}#{draft.label}" if draft.label else leaf.name
    names = {draft.name for draft in drafts}
    sites = []
    for position, draft in enumerate(drafts):
        name, count = draft.name, taken.get(draft.name, 0)
        taken[draft.name] = count + 1
        while count and (name := f"{draft.name}#{count + 1}") in names:
            count += 1
        if count:
            taken[draft.name] = count + 1
            names.add(name)
        shape = draft.plan.shape if draft.plan is not None else ()
        leaf = leaves[position]
        sites.append(
            WeightSite(
                name=name,
                nodes=tuple([use.scope.node_path(use.node) for use in draft.uses]),
                op=draft.op,
                position=position,
                shape=shape,
                dtype=leaf.dtype.name if leaf is not None else "",
                stored=_stored(draft.plan or draft.native) if draft.native is not None else "absent",
                group=draft.group,
                problem=draft.problem,
                plan=draft.plan,
                native=draft.native,
                uses=tuple(draft.uses),
                error=draft.error,
            )
        )
    return tuple(sites)


def _stored(expression: Expression | None) -> str:
    assert expression is not None
    leaf = stored_leaf(expression)
    holder = leaf.tensor if leaf.tensor is not None else leaf.sparse.values if leaf.sparse is not None else None
    where = holder.storage.words if holder is not None else "attribute"
    if holder is not None and holder.storage is Storage.EXTERNAL:
        where += f" {dict(holder.external).get('location', '')!r}"
    stored = f"{leaf.origin} {leaf.dtype.name}, {where}{leaf.note}"
    if expression is leaf:
        return stored
    words = [step.words for step in reversed(chain(expression)) if isinstance(step, Apply) and step.words]
    if len(words) > 12:
        words = [*words[:6], f"{len(words) - 12} more", *words[-6:]]
    return " → ".join([stored, *words])
