"""Reading source as the contract needs it: calls, fields, members and names, told apart as Python would."""

from __future__ import annotations

from pathlib import Path

import pytest
from vllm_source import NotThere, VLLMSource


def source_of(tmp_path: Path, **files: str) -> VLLMSource:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    return VLLMSource(tmp_path)


def test_a_call_is_taken_or_refused_as_python_would(tmp_path: Path) -> None:
    source = source_of(
        tmp_path,
        a="def f(one, two=2, *, three, four=4): ...\n"
        "class C:\n    @staticmethod\n    def s(x): ...\n    def m(self, x, /, y=0, **more): ...\n",
    )
    f = source.signature("vllm.a", "f")
    assert f.refusal(("one",), ("three",)) is None
    assert f.refusal(("one", "two"), ("three", "four")) is None
    assert f.refusal(("two",), ("three",)) == "takes one by position, not two"
    assert f.refusal(("one",), ("three", "five")) == "takes no five"
    assert f.refusal(("one",), ()) == "wants three too"
    assert f.refusal(("one", "two", "three"), ()) == "takes one, two by position, not one, two, three"
    assert source.signature("vllm.a", "C.s").refusal(("x",), ()) is None
    assert source.signature("vllm.a", "C.m").refusal(("x",), ("anything",)) is None
    by_name = source.signature("vllm.a", "C.m").parameters[0]
    assert (by_name.name, by_name.named, by_name.required) == ("x", False, True)


def test_a_class_without_a_constructor_takes_its_fields(tmp_path: Path) -> None:
    source = source_of(
        tmp_path,
        a="from vllm.b import B\nclass A(B):\n    y: int\n    z: int = field(default=0, init=False)\n",
        b="class B:\n    x: int\n    k: ClassVar[int] = 3\n    def m(self):\n        self.w = 1\n",
    )
    assert source.signature("vllm.a", "A").refusal((), ("x", "y")) is None
    assert source.signature("vllm.a", "A").refusal((), ("x",)) == "wants y too"
    assert source.signature("vllm.a", "A").refusal((), ("x", "y", "z")) == "takes no z"
    assert source.members("vllm.a", "A") == {"x", "y", "z", "k", "m", "w"}
    assert source.bases("vllm.a", "A") == {"A", "B"}


def test_a_name_that_is_there_for_types_alone_cannot_be_imported(tmp_path: Path) -> None:
    source = source_of(tmp_path, a="if TYPE_CHECKING:\n    from vllm.b import B\n", b="class B: ...\n")
    with pytest.raises(NotThere, match=r"vllm\.a has no B"):
        source.find("vllm.a", "B")
    with pytest.raises(NotThere, match="no module"):
        source.find("vllm.c", "B")
