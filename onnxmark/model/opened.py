"""An open model: the one object the rest of onnxmark holds when it looks into a file."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Self

from onnxmark.errors import ModelError, NotAModel, WeightsUnresolved
from onnxmark.model import foreign
from onnxmark.model.decode import Decoder, explain
from onnxmark.model.folding import Folding, folding_of
from onnxmark.model.graph import GraphView
from onnxmark.model.limits import MAX_TENSOR_BYTES
from onnxmark.model.locate import WeightSite, locate
from onnxmark.model.outline import has_outline
from onnxmark.model.payload import Payloads
from onnxmark.model.plan import Planner
from onnxmark.model.records import Header
from onnxmark.model.resolve import resolve
from onnxmark.model.source import Source
from onnxmark.model.wire import Wire
from onnxmark.weights import Origin, WeightSet, WeightTensor


class Model:
    """An ONNX model, open for reading. Nothing is executed and payloads are read only by :meth:`read`.

    Args:
        path: The file.
        limit: Bytes a single tensor may have as float32.
    """

    def __init__(self, path: Path, limit: int = MAX_TENSOR_BYTES) -> None:
        self.path = path
        self._source = Source(path)
        self.size = self._source.size
        """Bytes of the file, external data not counted."""
        self.payloads = Payloads(self._source, path, limit)
        """The elements of its tensors."""
        try:
            with _keeping():
                self._decoder, self._header, self.graph = _parsed(self._source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Model({str(self.path)!r})"

    def close(self) -> None:
        """Close the file and its external data."""
        self._source.close()
        self.payloads.external.close()

    @property
    def producer(self) -> str:
        """Name and version of the program that wrote the file."""
        return self._header.producer

    @property
    def ir_version(self) -> int:
        """ONNX IR version."""
        return self._header.ir_version

    @property
    def opsets(self) -> dict[str, int]:
        """Operator set version by domain."""
        return dict(self._header.opset)

    @property
    def opset(self) -> int:
        """Version of the standard operator set; 0 if the file does not say."""
        return self._header.opset.get("", self._header.opset.get("ai.onnx", 0))

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The model's ``metadata_props``."""
        return self._decoder.metadata(self._header.metadata)

    @cached_property
    def _planner(self) -> Planner:
        return Planner(self.payloads)

    @cached_property
    def _sites(self) -> tuple[WeightSite, ...]:
        with _keeping():
            return locate(self.graph, self._planner, self.payloads)

    def sites(self) -> tuple[WeightSite, ...]:
        """Where the host weights are, in graph order, also those that cannot be read (with their ``problem``).

        Raises:
            ModelLimitError: Functions or subgraphs unfold without end.
            MalformedModel: The graph is damaged.
        """
        return self._sites

    def site(self, name: str) -> WeightSite:
        """The site called ``name``.

        Raises:
            WeightsUnresolved: There is none.
        """
        for site in self.sites():
            if site.name == name:
                return site
        raise WeightsUnresolved(f"{self._source}: no layer's weights are called {name!r}; onnxmark inspect lists them")

    def read(self, site: WeightSite) -> WeightTensor:
        """The weights at ``site``: float32, canonical order, read-only.

        Raises:
            WeightsUnresolved: They are not constants of the file, or pass through what we cannot fold.
            MalformedModel: The stored tensor contradicts itself.
            ExternalDataError: Its data file cannot serve.
            ModelLimitError: They are larger than this model was opened to read.
        """
        if site.error is not None:
            raise type(site.error)(str(site.error))
        if site.plan is None or site.problem is not None:
            raise WeightsUnresolved(f"{self._source}: weights {site.name!r} of node {site.nodes[0]!r}: {site.problem}")
        values = resolve(site.plan, self.payloads)
        return WeightTensor(site.name, values, Origin(site.nodes[0], site.op, site.position, site.stored, site.group))

    def folding(self, site: WeightSite) -> Folding | None:
        """Whether batch normalisation is folded into ``site``, with the evidence; None for other than convolutions."""
        return folding_of(site, self._planner)

    def read_folded(self, site: WeightSite) -> WeightTensor | None:
        """The weights at ``site`` with the normalisation that follows them folded in; None where none does.

        Raises:
            ModelError: See :meth:`read`.
        """
        folding = self.folding(site)
        if folding is None or folding.folded is None or site.problem is not None:
            return None
        values = resolve(folding.folded, self.payloads)
        stored = f"{site.stored} → BatchNormalization folded in"
        return WeightTensor(site.name, values, Origin(site.nodes[0], site.op, site.position, stored, site.group))

    def weights(self, names: Collection[str] | None = None) -> WeightSet:
        """All weights that can be read, or exactly those called ``names``.

        Raises:
            WeightsUnresolved: One of ``names`` is missing or cannot be read.
            ModelError: See :meth:`read`.
        """
        if names is not None:
            return WeightSet(tuple(self.read(self.site(name)) for name in names))
        found = []
        for site in self.sites():
            if site.problem is None:
                try:
                    found.append(self.read(site))
                except WeightsUnresolved:
                    continue
        return WeightSet(tuple(found))


def open_model(path: str | PathLike[str], limit: int = MAX_TENSOR_BYTES) -> Model:
    """Open the ONNX model at ``path``; use it in a ``with`` statement.

    Args:
        path: The file.
        limit: Bytes a single tensor may have as float32, 8 GiB by default.

    Raises:
        ModelUnavailable: There is no regular, readable file.
        NotAModel: It is something else.
        MalformedModel: It is damaged.
        ModelLimitError: It is larger or deeper than any real model.
    """
    return Model(Path(fspath(path)), limit)


@contextmanager
def _keeping() -> Iterator[None]:
    """Without the collector of cycles: a listing makes much that stays and no garbage, and it would see it all."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _parsed(source: Source) -> tuple[Decoder, Header, GraphView]:
    head = source.upto(0, foreign.HEAD)
    if not head:
        raise NotAModel(f"{source} is empty; get the model again")
    other = foreign.recognised(head)
    if other is not None and not has_outline(source):
        raise _other(source, *other)
    decoder = Decoder(Wire(source))
    try:
        header = decoder.header()
        graph = GraphView(decoder, header)
    except ModelError as error:
        other = explain(head)
        if other is not None:
            raise _other(source, *other) from error
        raise
    root = graph.root.body.graph
    if not root.nodes and not root.initializers and not root.sparse_initializers:
        raise NotAModel(f"{source}: its graph has no nodes and no initializers, so there is no model in it")
    return decoder, header, graph


def _other(source: Source, what: str, advice: str) -> NotAModel:
    return NotAModel(f"{source} is {what}, not an ONNX model; {advice}")
