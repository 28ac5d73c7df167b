"""Attacks on the reader, as a table: the door an attack comes in by, what it does, and the answer it gets.

What a file breaks by its bytes alone is in ``test_hostile.py``, and the ways out of the model's directory one by one in
``test_external.py``. This table is the whole picture in one place: every row is made by code, carried out against every
entry point that could meet it, and answered by one type of error with the words given, or explicitly let through.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from onnxmark.errors import (
    ExternalDataError,
    KeyFileError,
    MalformedModel,
    ModelError,
    ModelLimitError,
    ModelUnavailable,
    NotAModel,
    OnnxmarkError,
)
from onnxmark.keys import load_key
from onnxmark.model import open_model
from tests.model.models import block, constant, conv, model, number, save, tensor, varint, weights

W = weights(6, 4, 3, 3)
HEAD = number(1, 8)
CONV = block(1, block(1, b"x") + block(1, b"w") + block(2, b"y") + block(4, b"Conv"))

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Attack:
    """One row.

    Args:
        door: ``open``, ``list`` or ``read``: the call that must refuse it; ``key`` for the key loader; ``none`` for
            what looks like an attack and is let through.
        build: Makes the file in an empty folder and returns its path.
        error: What is raised.
        words: What the message says, a regular expression.
    """

    door: str
    build: Build
    error: type[OnnxmarkError] = OnnxmarkError
    words: str = ""


def written(data: bytes) -> Build:
    def build(folder: Path) -> Path:
        path = folder / "m.onnx"
        path.write_bytes(data)
        return path

    return build


def graph(*fields: bytes) -> bytes:
    return HEAD + block(7, b"".join(fields))


def stored(dims: list[int], data: bytes = b"", *, more: bytes = b"", code: int = T.FLOAT) -> bytes:
    return block(
        5, b"".join(number(1, size) for size in dims) + number(2, code) + block(8, b"w") + more + block(9, data)
    )


def made(model_: onnx.ModelProto) -> Build:
    return lambda folder: save(model_, folder / "m.onnx")


def outside(
    place: Callable[[Path], str] | str, offset: str | None = None, length: str | None = None, size: int = W.nbytes
) -> Build:
    """A model in ``home`` whose weights are said to lie at a place; ``secret`` lies beside ``home``, ``d`` in it."""

    def build(folder: Path) -> Path:
        home = folder / "home"
        home.mkdir()
        (folder / "secret").write_bytes(W.tobytes())
        (home / "d").write_bytes(W.tobytes()[:size])
        location = place if isinstance(place, str) else place(home)
        return save(model([conv("w")], [referring("w", location, offset, length)]), home / "m.onnx")

    return build


def referring(name: str, location: str, offset: str | None = None, length: str | None = None) -> onnx.TensorProto:
    tensor_ = T(name=name, data_type=T.FLOAT, dims=W.shape, data_location=T.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor_.external_data.add(key=key, value=value)
    return tensor_


def link(name: str, target: str) -> Callable[[Path], str]:
    def place(home: Path) -> str:
        (home / name).symlink_to(target)
        return name

    return place


def two_links(home: Path) -> str:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    return "a"


def link_to_link(home: Path) -> str:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to(home.parent / "secret")
    return "a"


def linked_folder(home: Path) -> str:
    (home / "sub").symlink_to(home.parent, target_is_directory=True)
    return "sub/secret"


def hard_link(home: Path) -> str:
    (home / "hard").hardlink_to(home.parent / "secret")
    return "hard"


def pipe(home: Path) -> str:
    os.mkfifo(home / "pipe")
    return "pipe"


def folder_(home: Path) -> str:
    (home / "sub").mkdir()
    return "sub"


def listening(home: Path) -> str:
    # The path of a socket has room for a hundred bytes only, less than pytest's folders take.
    before = Path.cwd()
    os.chdir(home)
    try:
        with socket.socket(socket.AF_UNIX) as made_:
            made_.bind("s")
    finally:
        os.chdir(before)
    return "s"


def hugging_face(escape: bool) -> Build:
    def build(folder: Path) -> Path:
        repository = folder / "models--org--net"
        snapshot = repository / "snapshots" / "abc"
        blobs = (folder / "elsewhere" if escape else repository) / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir(parents=True)
        (repository / "blobs").mkdir(exist_ok=True)
        (blobs / "2").write_bytes(W.tobytes())
        save(model([conv("w")], [referring("w", "m.data")]), repository / "blobs" / "1")
        (snapshot / "m.onnx").symlink_to("../../blobs/1")
        (snapshot / "m.data").symlink_to(blobs / "2")
        return snapshot / "m.onnx"

    return build


def overlapping(second: int) -> Build:
    """Two tensors in one file, ``second`` bytes apart."""

    def build(folder: Path) -> Path:
        (folder / "d").write_bytes(W.tobytes() * 2)
        tensors = [referring("v", "d", "0"), referring("w", "./d", str(second), str(W.nbytes))]
        return save(model([conv("v", out="a"), conv("w")], tensors), folder / "m.onnx")

    return build


def shortened_under_way(folder: Path) -> Path:
    (folder / "d").write_bytes(W.tobytes())
    return save(model([conv("w")], [referring("w", "d")]), folder / "m.onnx")


def sparse_file(size: int) -> Build:
    """A file of ``size`` bytes on paper, and of a few on disk, whose graph claims all of them."""

    def build(folder: Path) -> Path:
        path = folder / "m.onnx"
        rest = size - 16
        head = HEAD + varint(7 << 3 | 2) + varint(rest) + varint(5 << 3 | 2) + varint(rest - 20)
        path.write_bytes(head)
        os.truncate(path, size)
        return path

    return build


def nested(levels: int) -> bytes:
    inner = block(1, block(4, b"Relu"))
    for _ in range(levels):
        inner = block(1, block(4, b"If") + block(5, block(1, b"then_branch") + number(20, 5) + block(6, inner)))
    return HEAD + block(7, inner)


def functions(levels: int, calls: int) -> onnx.ModelProto:
    """Functions that call each other: ``calls`` to the power of ``levels`` convolutions."""
    opset = [helper.make_opsetid("", 17)]
    bodies = [[conv("b", "a", "o")]]
    for level in range(1, levels):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "o"]
        bodies.append(
            [helper.make_node(f"F{level - 1}", [names[i], "b"], [names[i + 1]], domain="f") for i in range(calls)]
        )
    made_ = [helper.make_function("f", f"F{i}", ["a", "b"], ["o"], body, opset) for i, body in enumerate(bodies)]
    return model([helper.make_node(f"F{levels - 1}", ["x", "w"], ["y"], domain="f")], [tensor("w", W)], functions=made_)


def filled(*sizes: int) -> onnx.ModelProto:
    """Weights of any size out of a few bytes."""
    nodes = [constant("n", np.array(sizes, np.int64)), helper.make_node("ConstantOfShape", ["n"], ["w"]), conv("w")]
    return model(nodes)


def numpy_file(header: str, body: bytes = b"") -> Build:
    text = header.encode("latin1")
    return written(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body)


ATTACKS: dict[str, Attack] = {
    # The file itself.
    "file: pipe": Attack("open", lambda folder: folder / pipe(folder), ModelUnavailable, "is a pipe"),
    "file: folder": Attack("open", lambda folder: folder, ModelUnavailable, "is a directory"),
    "file: device": Attack("open", lambda _: Path("/dev/zero"), ModelUnavailable, "is a device"),
    "file: socket": Attack("open", lambda folder: folder / listening(folder), ModelUnavailable, "cannot be opened"),
    "file: link loop": Attack("open", lambda folder: folder / two_links(folder), ModelUnavailable, "Too many levels"),
    "file: link to nothing": Attack("open", lambda f: f / link("a", "b")(f), ModelUnavailable, "No such file"),
    "file: name too long": Attack("open", lambda folder: folder / ("n" * 5000), ModelUnavailable, "too long"),
    "file: NUL in its name": Attack("open", lambda folder: folder / "a\0b", ModelUnavailable, "null"),
    "file: link, and the model is sound": Attack(
        "none", lambda f: f / link("l", made(model([conv("w")], [tensor("w", W)]))(f).name)(f)
    ),
    # Framing.
    "wire: more declared than there is": Attack(
        "open", written(HEAD + varint(7 << 3 | 2) + varint(3 << 30)), MalformedModel, r"field 7 needs 3221225472 bytes"
    ),
    "wire: length of 2^64 - 1": Attack(
        "open", written(HEAD + varint(7 << 3 | 2) + varint(2**64 - 1)), MalformedModel,
        "needs 18446744073709551615 bytes",
    ),
    "wire: three gigabytes on paper": Attack("open", sparse_file(3 << 30), MalformedModel, "field numbered 0"),
    "wire: one byte": Attack("open", written(b"\x08"), MalformedModel, "a field cut short at byte"),
    "wire: nothing but a tag": Attack("open", written(HEAD + b"\x3a"), MalformedModel, "a field cut short"),
    "wire: tag of eleven bytes": Attack("open", written(HEAD + b"\xff" * 11), MalformedModel, "more than ten bytes"),
    "wire: tag beyond 32 bits": Attack("open", written(HEAD + varint(1 << 40) + b"\0"), MalformedModel, "numbered"),
    "wire: groups inside each other": Attack(
        "open", written(HEAD + varint(99 << 3 | 3) * 65), ModelLimitError, "groups nested more than 64"
    ),
    "wire: group closed by another": Attack(
        "open", written(HEAD + varint(99 << 3 | 3) + varint(98 << 3 | 4)), MalformedModel, "never began"
    ),
    "wire: graph as a group": Attack(
        "open", written(HEAD + varint(7 << 3 | 3) + CONV + varint(7 << 3 | 4)), NotAModel, "holds no graph"
    ),
    "wire: graph as a number": Attack("open", written(HEAD + number(7, 5)), NotAModel, "holds no graph"),
    "wire: graph of no length": Attack("open", written(HEAD + block(7, b"")), NotAModel, "no nodes and no init"),
    "wire: field over the end of its message": Attack(
        "open", written(HEAD + block(7, block(1, varint(4 << 3 | 2) + b"\x7fConv")) + block(2, bytes(200))),
        MalformedModel, "field 4 needs 127 bytes, 4 are left",
    ),
    "wire: overlong numbers": Attack(
        "none", written(HEAD + block(7, stored([1, 1, 1], bytes(4), more=b"\x10\x81\x80\x80\x00") + CONV))
    ),
    "wire: ten thousand unknown fields": Attack(
        "none", written(HEAD + block(7, number(999, 1) * 10_000 + stored([1, 1, 1], bytes(4)) + CONV))
    ),
    "wire: two models one after the other": Attack("none", written(graph(stored([1, 1, 1], bytes(4))) + graph(CONV))),
    # Counts and nesting.
    "bomb: graphs in graphs": Attack("list", written(nested(500)), ModelLimitError, "nested more than 64"),
    "bomb: functions, ten to the eighth": Attack("list", made(functions(9, 10)), ModelLimitError, "visits more than"),
    "bomb: functions 40 deep": Attack("list", made(functions(40, 1)), ModelLimitError, "more than 32 deep"),
    "bomb: a name of two megabytes": Attack(
        "open", written(graph(block(1, block(4, b"n" * (2 << 20))))), ModelLimitError, "name or value of 2097152 bytes"
    ),
    "bomb: a metadata entry of twenty megabytes": Attack(
        "open", written(graph(stored([1], bytes(4)), CONV) + block(14, block(1, b"k") + block(2, bytes(20 << 20)))),
        ModelLimitError, "a name or value of 20971520 bytes",
    ),
    "bomb: terabytes of zeros": Attack("read", made(filled(1 << 20, 1 << 20, 1)), ModelLimitError, "raise the limit"),
    "bomb: as large as allowed, 300 times": Attack(
        "read",
        made(model(
            [constant("n", np.array([1 << 10, 1 << 10, 4])), helper.make_node("ConstantOfShape", ["n"], ["v0"]),
             *(helper.make_node("Neg", [f"v{i}"], [f"v{i + 1}"]) for i in range(300)), conv("v300")])),
        ModelLimitError, "256 times the limit",
    ),
    # Shapes.
    "dims: negative": Attack("open", written(graph(stored([-2, -2], bytes(16)))), MalformedModel, "negative dimension"),
    "dims: product wraps to the size": Attack(
        "read", written(graph(stored([2**62, 4, 1], b""), CONV)), MalformedModel, r"needs more than 2\^64 bytes, has 0"
    ),
    "dims: endless, yet no elements": Attack(
        "read", written(graph(stored([0, 2**62, 2**62], b""), CONV)), ModelLimitError, "raise the limit"
    ),
    "dims: 65 of them": Attack("open", written(graph(stored([1] * 65, bytes(4)))), ModelLimitError, "more than 64"),
    "dims: shape that overflows on the way": Attack(
        "read",
        made(model([helper.make_node("Flatten", ["v"], ["f"], axis=2), helper.make_node("Shape", ["f"], ["n"]),
                    helper.make_node("ConstantOfShape", ["n"], ["w"]), conv("w")],
                   [T(name="v", data_type=T.FLOAT, dims=[2**62, 4, 1])])),
        ModelError, "more elements than any machine can hold",
    ),
    # External data: ways out.
    "external: parent": Attack("read", outside("../secret"), ExternalDataError, r"contains '\.\.'"),
    "external: parent by the way": Attack("read", outside("d/../../secret"), ExternalDataError, r"contains '\.\.'"),
    "external: parent, backslashes": Attack("read", outside("..\\secret"), ExternalDataError, r"contains '\.\.'"),
    "external: absolute": Attack("read", outside(lambda h: f"{h.parent}/secret"), ExternalDataError, "not relative"),
    "external: drive": Attack("read", outside("c:secret"), ExternalDataError, "not relative"),
    "external: share": Attack("read", outside("\\\\host\\d"), ExternalDataError, "not relative"),
    "external: NUL": Attack("read", outside("d\0.onnx"), ExternalDataError, "contains a NUL"),
    "external: URL": Attack("read", outside("file:///etc/passwd"), ExternalDataError, "is not beside the model"),
    "external: home": Attack("read", outside("~/secret"), ExternalDataError, "is not beside the model"),
    "external: name too long": Attack("read", outside("n" * 5000), ExternalDataError, "is not beside the model"),
    "external: link out": Attack("read", outside(link("a", "../secret")), ExternalDataError, "leads out"),
    "external: link to a link out": Attack("read", outside(link_to_link), ExternalDataError, "leads out"),
    "external: folder that is a link out": Attack("read", outside(linked_folder), ExternalDataError, "leads out"),
    "external: link to a device": Attack("read", outside(link("a", "/dev/zero")), ExternalDataError, "leads out"),
    "external: link to the process's own files": Attack(
        "read", outside(link("a", "/proc/self/mem")), ExternalDataError, "leads out"
    ),
    "external: two links at each other": Attack("read", outside(two_links), ExternalDataError, "not beside the model"),
    "external: hard link": Attack("none", outside(hard_link)),
    "external: link that stays inside": Attack("none", outside(link("a", "d"))),
    "external: Hugging Face cache": Attack("none", hugging_face(escape=False)),
    "external: blobs of another repository": Attack("read", hugging_face(escape=True), ExternalDataError, "leads out"),
    # External data: no regular files.
    "external: pipe": Attack("read", outside(pipe), ExternalDataError, "is a pipe"),
    "external: folder": Attack("read", outside(folder_), ExternalDataError, "is a directory"),
    "external: the folder itself": Attack("read", outside("."), ExternalDataError, "is a directory"),
    "external: socket": Attack("read", outside(listening), ExternalDataError, "cannot be opened|is a socket"),
    # External data: extents.
    "extent: file cut short": Attack(
        "read", outside("d", size=800), ExternalDataError, "ends at byte 864 of 'd', which has 800"
    ),
    "extent: offset beyond the file": Attack("read", outside("d", "864"), ExternalDataError, "ends at byte 1728"),
    "extent: end wraps around 64 bits": Attack(
        "read", outside("d", str(2**63 - 1), str(W.nbytes)), ExternalDataError, "ends at byte 9223372036854776671"
    ),
    "extent: negative offset": Attack("read", outside("d", "-864"), ExternalDataError, "offset '-864' is not a number"),
    "extent: negative length": Attack("read", outside("d", "0", "-1"), ExternalDataError, "length '-1' is not"),
    "extent: offset of a thousand digits": Attack("read", outside("d", "9" * 1000), ExternalDataError, "not a number"),
    "extent: offset with a sign": Attack("read", outside("d", "+0"), ExternalDataError, "is not a number"),
    "extent: offset with underscores": Attack("read", outside("d", "0_0"), ExternalDataError, "is not a number"),
    "extent: length of zero": Attack("read", outside("d", "0", "0"), ExternalDataError, "864 bytes by its shape and 0"),
    "extent: length unlike the shape": Attack("read", outside("d", "0", "4"), ExternalDataError, "by its shape and 4"),
    "extent: half in another tensor": Attack(
        "read", overlapping(432), ExternalDataError, "bytes 432 to 1296 overlap those of 'v', 0 to 864"
    ),
    "extent: one byte in another tensor": Attack("read", overlapping(863), ExternalDataError, "overlap those of 'v'"),
    "extent: one after the other": Attack("none", overlapping(864)),
    "extent: tied weights": Attack("none", overlapping(0)),
    # Keys.
    "key: pipe": Attack("key", lambda folder: folder / pipe(folder), KeyFileError, "is no file"),
    "key: device": Attack("key", lambda _: Path("/dev/zero"), KeyFileError, "is no file"),
    "key: link loop": Attack("key", lambda folder: folder / two_links(folder), KeyFileError, "Too many levels"),
    "key: text that calls": Attack("key", numpy_file("__import__('os').abort()"), KeyFileError, "cannot be read"),
    "key: parentheses": Attack("key", numpy_file("(" * 9000), KeyFileError, "cannot be read"),
    "key: minus signs": Attack("key", numpy_file("-" * 15000 + "1"), KeyFileError, "cannot be read"),
    "key: header of 64 KiB": Attack("key", numpy_file("1," * 32000), KeyFileError, "cannot be read"),
    "key: axes in hexadecimal": Attack(
        "key", numpy_file(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0x{'f' * 5000}, 1)}}"), KeyFileError,
        "of astronomical size",
    ),
    "key: a thousand axes": Attack(
        "key", numpy_file(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({'1, ' * 1000})}}"), KeyFileError,
        "declares 1,000 axes",
    ),
    "key: endless axes, no data": Attack(
        "key", numpy_file(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62}, {2**62})}}"), KeyFileError,
        "impossible shape",
    ),
    "key: elements that are arrays": Attack(
        "key", numpy_file("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (1, 1)}", bytes(16)), KeyFileError,
        "unexpected element type",
    ),
}  # fmt: skip


def through(path: Path) -> None:
    """Open, list, look through and read, noting every door that was passed."""
    with open_model(path, limit=1 << 24) as opened:
        _ = opened.metadata
        PASSED.append("open")
        sites = opened.sites()
        PASSED.append("list")
        assert sites
        for site in sites:
            opened.folding(site)
            opened.read(site)
        PASSED.append("read")


PASSED: list[str] = []
BEFORE = {"open": [], "list": ["open"], "read": ["open", "list"]}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str, tmp_path: Path) -> None:
    attack = ATTACKS[name]
    path = attack.build(tmp_path)
    PASSED.clear()
    began = time.process_time()
    if attack.door == "none":
        through(path)
        assert PASSED == ["open", "list", "read"]
        return
    call = load_key if attack.door == "key" else through
    with pytest.raises(attack.error, match=attack.words) as caught:
        call(path)
    assert str(caught.value).isprintable()
    assert BEFORE.get(attack.door, []) == PASSED
    assert time.process_time() - began < 60


def test_no_file_is_left_open(tmp_path: Path) -> None:
    for index, attack in enumerate(ATTACKS.values()):
        folder = tmp_path / str(index)
        folder.mkdir()
        path = attack.build(folder)
        if "bomb" in list(ATTACKS)[index]:
            continue
        try:
            (load_key if attack.door == "key" else through)(path)
        except OnnxmarkError:
            continue
    # Others' descriptors may be closed meanwhile by the collector, so only ours are looked at.
    held = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [target for target in held if target.startswith(str(tmp_path))] == []


def test_nothing_outside_is_ever_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing after having opened would still have opened a pipe, or a device that rewinds."""
    seen: list[Path] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest, **more: (seen.append(Path(path)), real(path, *rest, **more))[1])
    for index, (name, attack) in enumerate(ATTACKS.items()):
        if name.startswith("external: ") and attack.error is ExternalDataError and "leads out" in attack.words:
            folder = tmp_path / str(index)
            folder.mkdir()
            path = attack.build(folder)
            with pytest.raises(ExternalDataError, match="leads out"):
                through(path)
    assert len(seen) > 4
    assert {path.name for path in seen} == {"m.onnx"}


def test_data_cut_short_after_the_listing(tmp_path: Path) -> None:
    with open_model(shortened_under_way(tmp_path)) as opened:
        (site,) = opened.sites()
        os.truncate(tmp_path / "d", 100)
        with pytest.raises(ModelError, match=r"truncated: byte 0 should be followed by 864, found 100"):
            opened.read(site)


def test_model_cut_short_after_the_listing(tmp_path: Path) -> None:
    path = save(model([conv("w")], [tensor("w", W)]), tmp_path / "m.onnx")
    with open_model(path) as opened:
        (site,) = opened.sites()
        os.truncate(path, 100)
        with pytest.raises(MalformedModel, match="truncated"):
            opened.read(site)


def test_thousands_of_data_files_need_few_open_files(tmp_path: Path) -> None:
    """A file for every tensor is how large models used to be exported; a process may hold a thousand open."""
    import resource

    tensors, nodes = [], []
    for i in range(300):
        (tmp_path / f"d{i}").write_bytes(W.tobytes())
        tensors.append(referring(f"w{i}", f"d{i}"))
        nodes.append(conv(f"w{i}", out=f"y{i}"))
    path = save(model(nodes, tensors), tmp_path / "m.onnx")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 100, hard))  # noqa: PTH208
    try:
        with open_model(path) as opened:
            found = opened.weights()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 300
