"""Strings of a serialised program: what torch.export would evaluate, import or call is refused where it stands."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from onnxmark_torch.conversion.program_rules import UnsafeProgram, plain
from torch.utils import _pytree as pytree

EVIL = "__import__('os').system('true')"


def is_plain(place, text):
    try:
        return plain({place: text}) == {place: text}
    except UnsafeProgram:
        return False


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.conv2d.default",
        "torch.ops.aten.conv_transpose2d.input",
        "torch.ops.aten.add.Tensor",
        "_operator.mul",
        "torch.sym_max",
    ],
)
def test_operators_on_tensors_and_sizes(target):
    assert is_plain("target", target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.aten.__class__.mro",
        "torch.ops.aten.name.join",
        "torch.ops.aten.conv2d",
        "torch.ops.aten.conv2d.default.__init__",
        "torch.ops.aten.no_such_operator.default",
        "torch.ops.higher_order.cond",
        "torch.ops.prim.device.default",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "_operator.pow",
        "math.factorial",
        "#extension:op",
        "",
        "torch.ops.aten.add.Tensor\n",
    ],
)
def test_other_functions(target):
    with pytest.raises(UnsafeProgram, match="target says"):
        plain({"target": target})


x, y = sympy.Symbol("s77", positive=True, integer=True), sympy.Symbol("s12", integer=True)
SIZES = [x, x * y, 2 * x + y - 3, sympy.Max(x, 2), sympy.Mod(x, 4), sympy.Eq(x, 3), sympy.And(x > 3, y < 4)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sizes_as_sympy_writes_them(size):
    text = sympy.srepr(size)
    assert is_plain("expr_str", text)
    assert sympy.sympify(text) == size


@pytest.mark.parametrize(
    "text",
    [
        EVIL,
        f"Symbol({EVIL!r})",
        f"Add(Integer(1), {EVIL})",
        f"Symbol('s', positive={EVIL})",
        "Symbol('s').__class__",
        "Symbol('s', **{'integer': True})",
        "Symbol('s', 't')",
        "Integer('3')",
        "Integer(3)(4)",
        "(lambda: 1)()",
        "Pow(Integer(10), Integer(100000000))",
        "Lambda(Symbol('x'), 1)",
        "10**10**10",
        "~Integer(3)",
        "not 1",
        "s77",
        "Add(*[1, 2])",
        "",
        "((((",
        "(" * 5000,
        "-" * 50_000 + "1",
        "1\x00",
    ],
)
def test_sizes_that_are_more(text):
    with pytest.raises(UnsafeProgram, match="expr_str says"):
        plain({"expr_str": text})


@given(st.recursive(st.sampled_from([(), [], {}, 0]), lambda part: st.lists(part, max_size=3) | st.tuples(part, part)
                    | st.dictionaries(st.sampled_from(["x", "mask_2"]), part)))  # fmt: skip
def test_structures_as_pytree_writes_them(structure):
    text = pytree.treespec_dumps(pytree.tree_structure(structure))
    assert is_plain("in_spec", text)


@pytest.mark.parametrize(
    "text",
    [
        '[1, {"type": "collections.defaultdict", "context": {"default_factory_module": "os", "default_factory_name": '
        '"system", "dict_context": "[]"}, "children_spec": []}]',
        '[1, {"type": "collections.namedtuple", "context": "\\"Point\\"", "children_spec": []}]',
        """[1, {"type": "builtins.dict", "context": "[\\"k': print(1), 'x\\"]", "children_spec": []}]""",
        '[1, {"type": "builtins.dict", "context": "[{\\"__enum__\\": true}]", "children_spec": []}]',
        '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [{"type": "evil.Type", "context": null, '
        '"children_spec": []}]}]',
        '[1, {"type": "builtins.list"}]',
        "[1]",
        "{}",
        "",
        "[" * 100_000,
    ],
)
def test_structures_that_import(text):
    with pytest.raises(UnsafeProgram, match="in_spec says"):
        plain({"in_spec": text})


@pytest.mark.parametrize("place", ["name", "as_name", "forward_arg_names", "path_name", "type", "user_input_name"])
@pytest.mark.parametrize("text", [f"x={EVIL}", "x: int", "x\n", "x#", "é", "1x", "a b", "*args", "a.b"])
def test_names_become_source(place, text):
    assert is_plain(place, "conv_2d_1")
    with pytest.raises(UnsafeProgram, match=f"{place} says"):
        plain({place: text})


@pytest.mark.parametrize("place", ["parameter_name", "buffer_name", "fqn"])
def test_paths_have_dots(place):
    assert is_plain(place, "layer1.0.conv_1.weight")
    assert is_plain(place, "")
    for text in ('x"), exit() #', "a..b", ".a", "a-b"):
        assert not is_plain(place, text)


@pytest.mark.parametrize("key", [f"x={EVIL}", "a b", "é", "as_custom_obj", "as_operator", "as_graph", "custom_obj"])
def test_keys_become_source_too(key):
    with pytest.raises(UnsafeProgram, match="it holds"):
        plain({"tensor_values": {key: {}}})


@given(st.text(min_size=1), st.text(alphabet="abc_", min_size=1).map("unheard_of_".__add__))
def test_a_place_without_a_rule(text, place):
    with pytest.raises(UnsafeProgram, match=f"{place} says"):
        plain({place: [text]})


def test_a_bare_string():
    with pytest.raises(UnsafeProgram, match="its content says 'x'"):
        plain("x")


def test_descriptions_are_emptied_and_the_rest_is_kept():
    program = {
        "nodes": [{"target": "torch.ops.aten.relu.default", "metadata": {"stack_trace": "/home/me/secret.py"}}],
        "guards_code": [EVIL],
        "sizes": [1, 2.5, None, True],
    }
    assert plain(program) == {
        "nodes": [{"target": "torch.ops.aten.relu.default", "metadata": {}}],
        "guards_code": [],
        "sizes": [1, 2.5, None, True],
    }


def test_a_tensor_called_like_a_description_is_kept():
    values = {"tensor_values": {"metadata": {"dtype": 7}}}
    assert plain(values) == values


def test_values_of_arguments_may_be_any_text():
    assert is_plain("as_string", EVIL)
    assert is_plain("as_float", "Infinity")
    assert not is_plain("as_float", "inf")
