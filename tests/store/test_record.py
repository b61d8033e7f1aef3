"""Compact records: what is read is what is documented, sizes are those of the arithmetic, and worse forms are not kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from ganinv.codes.code import Code, HeadCode, LowRank
from ganinv.codes.parts import Delta
from ganinv.config import validate
from ganinv.errors import ConfigError, GaninvError, NotFinite
from ganinv.generators.config import GeneratorConfig
from ganinv.generators.files import open_generator
from ganinv.generators.stylegan2 import Generator
from ganinv.records import RecordConfig
from ganinv.records.record import decode, encode
from ganinv.records.verify import Measured, Record, verified
from tests.tiny import random_w, tiny_generator

INT8 = RecordConfig(dtype="int8")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of(**extras: object) -> Code:
    return Code(torch.zeros(1, 4, 8), **extras)  # type: ignore[arg-type]


def through(code: Code, record: RecordConfig) -> Code:
    """Written and read."""
    data = encode(code, record)
    return Code(code.w) if data is None else Code(code.w, **decode(data))


def weight(code: Code, name: str = "convs.1.weight") -> Delta:
    assert code.weights is not None
    return code.weights[name]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_layout_in_memory_does_not_matter(dtype: str) -> None:
    const = normal(1, 3, 4, 4)
    transposed = normal(1, 4, 3).mT
    for given in (const.to(memory_format=torch.channels_last), const[..., ::2], const.expand(1, 3, 4, 4)):
        read = through(of(const=given), RecordConfig(dtype=dtype)).const
        torch.testing.assert_close(read, given, atol=1e-3, rtol=1e-3)
    weight = through(of(weights={"a.weight": LowRank(transposed, normal(1, 4, 9))}), RecordConfig(dtype=dtype)).weights
    assert weight is not None
    torch.testing.assert_close(weight["a.weight"].left, transposed, atol=1e-3, rtol=1e-3)  # type: ignore[union-attr]


def test_int8_is_within_half_a_step_of_each_row() -> None:
    rows = torch.tensor([1e-6, 1e-3, 1.0, 300.0, 1e6, 0.0])  # every row has a step of its own
    exact = rows[None, :, None, None, None] * normal(1, 6, 5, 3, 3)
    read = weight(through(of(weights={"convs.1.weight": exact}), INT8))
    assert isinstance(read, Tensor)
    step = exact.abs().flatten(2).amax(2) / 127
    worst = (read - exact).abs().flatten(2).amax(2)
    assert (worst <= 0.5001 * step).all()
    assert (worst[:, :5] > 0.3 * step[:, :5]).all()  # and it is rounded at all


def test_int8_holds_integers_and_steps() -> None:
    data = encode(of(weights={"convs.1.weight": normal(1, 6, 5, 3, 3)}), INT8)
    assert data is not None
    tensors = load(data)
    assert {name: t.dtype for name, t in tensors.items()} == {
        "weights.convs.1.weight.int8": torch.int8,
        "weights.convs.1.weight.step": torch.float32,
    }
    whole, step = tensors["weights.convs.1.weight.int8"], tensors["weights.convs.1.weight.step"]
    assert step.shape == (1, 6, 1, 1, 1)
    assert int(whole.abs().max()) == 127
    assert torch.equal(decode(data)["weights"]["convs.1.weight"], whole.float() * step)


def test_int8_of_factors_has_a_step_per_component() -> None:
    scale = torch.tensor([1.0, 1e-2, 1e-4])
    exact = LowRank(normal(1, 64, 3) * scale, normal(1, 3, 90) * scale[:, None])
    read = weight(through(of(weights={"convs.1.weight": exact}), INT8))
    assert isinstance(read, LowRank)
    for part, wanted, dim in ((read.left, exact.left, 1), (read.right, exact.right, 2)):
        step = wanted.abs().amax(dim, keepdim=True) / 127
        assert ((part - wanted).abs() <= 0.5001 * step).all()


def test_int8_is_for_weight_offsets_with_rows() -> None:
    code = of(
        weights={
            "convs.1.bias": normal(1, 6),
            "convs.1.noise_strength": normal(1),
            "torgbs.0.affine.weight": normal(1, 6, 4),
        },
        noise={2: normal(1, 1, 8, 8)},
        styles={"convs.1": normal(1, 6)},
        scales={"convs.2.weight": HeadCode(normal(1, 40), torch.ones(1)), "convs.3.weight": normal(1, 6, 6, 3, 3)},
    )
    data = encode(code, INT8)
    assert data is not None
    kinds = {name: tensor.dtype for name, tensor in load(data).items()}
    assert {name for name, kind in kinds.items() if kind == torch.int8} == {"scales.convs.3.weight.int8"}
    assert kinds["scales.convs.2.weight.code"] == torch.float32
    rest = {name for name, kind in kinds.items() if kind == torch.float16}
    assert rest == {
        "weights.convs.1.bias",
        "weights.convs.1.noise_strength",
        "weights.torgbs.0.affine.weight",  # rows of four: a step each would cost more than it saves
        "noise.2",
        "styles.convs.1",
    }


def test_float16_and_float32_are_what_they_say() -> None:
    exact = normal(1, 6, 5, 3, 3)
    for dtype, kind in (("float16", torch.float16), ("float32", torch.float32)):
        read = weight(through(of(weights={"convs.1.weight": exact}), RecordConfig(dtype=dtype)))  # type: ignore[arg-type]
        assert torch.equal(read, exact.to(kind).float())  # type: ignore[arg-type]


def test_low_rank_keeps_its_bound_in_float16() -> None:
    steep = torch.linalg.qr(normal(32, 32))[0] * 0.5 ** torch.arange(32) @ normal(32, 288, seed=1)
    exact = steep.reshape(1, 32, 32, 3, 3)
    read = weight(through(of(weights={"convs.1.weight": exact}), RecordConfig(form="low-rank", error=0.02)))
    assert isinstance(read, LowRank)
    error = float((read.dense(exact.shape[1:]) - exact).norm() / exact.norm())
    assert 0.002 < error <= 0.02 + 1e-3
    capped = weight(through(of(weights={"convs.1.weight": exact}), RecordConfig(form="low-rank", error=0, max_rank=3)))
    assert isinstance(capped, LowRank)
    assert capped.left.shape == (1, 32, 3)


@pytest.mark.parametrize("record", [RecordConfig(), INT8, RecordConfig(dtype="float32"), RecordConfig(form="low-rank")])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_by_name(record: RecordConfig, bad: float) -> None:
    exact = normal(1, 6, 5, 3, 3)
    exact[0, 2, 1, 0, 0] = bad
    with pytest.raises(GaninvError, match=r"weights\.convs\.1\.weight cannot be stored.*1 of 270 are NaN or infinite"):
        encode(of(weights={"convs.1.weight": exact}), record)


@pytest.mark.parametrize("record", [RecordConfig(), INT8, RecordConfig(form="low-rank")])
def test_zeros_are_dropped(record: RecordConfig) -> None:
    nothing = torch.zeros(1, 6, 5, 3, 3)
    assert encode(of(weights={"convs.1.weight": nothing, "convs.1.bias": torch.zeros(1, 6)}), record) is None
    data = encode(of(weights={"convs.1.weight": nothing, "convs.2.weight": normal(1, 6, 5, 3, 3)}), record)
    assert data is not None
    assert all(name.startswith("weights.convs.2.weight") for name in load(data))


@pytest.mark.parametrize("names", [["weights.a.int8"], ["weights.a.step"], ["weights.a.int8", "weights.b.step"]])
def test_integers_without_their_steps_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"needs|no integers"):
        decode(save({name: torch.ones(1, 2, 9) for name in names}))


def test_a_record_can_stand_in_yaml() -> None:
    assert validate(RecordConfig, {"form": "low-rank", "dtype": "int8", "error": 0.1, "max_rank": 8}, "x").name == (
        "low-rank int8"
    )
    with pytest.raises(ConfigError, match="did you mean 'dtype'"):
        validate(RecordConfig, {"dtyp": "int8"}, "x")
    names = [[each.name for each in record.and_safer()] for record in (RecordConfig(), INT8)]
    assert names == [["float16", "float32"], ["int8", "float16", "float32"]]
    low = RecordConfig(form="low-rank", error=0.2, max_rank=4).and_safer()
    assert [each.name for each in low] == ["low-rank float16", "low-rank float16", "float16", "float32"]
    assert (low[1].error, low[1].max_rank) == (0.1, 8)


def shapes_at_1024() -> dict[str, torch.Size]:
    """Config F: 512 channels up to 64 pixels, then half as many with each doubling."""
    with torch.device("meta"):
        channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)
        g = Generator(GeneratorConfig(resolution=1024, channels=channels, z_dim=512, w_dim=512))
    return {name: p.shape for name, p in g.synthesis.named_parameters()}


def size(weights: dict[str, Delta], record: RecordConfig) -> int:
    data = encode(of(weights=weights), record)
    assert data is not None
    return len(data)


def low_rank(shape: torch.Size, rank: int) -> LowRank:
    return LowRank(normal(1, shape[0], rank), normal(1, rank, shape[1:].numel()))


@pytest.mark.seconds
def test_sizes_at_1024_are_those_of_the_arithmetic() -> None:
    """In MB per image (inversion-speedups, section 8): all of the synthesis in float16 56.5, convolutions 47.2, int8
    half of that, rank 8 and 16 in float16 0.96 and 1.9."""
    shapes = shapes_at_1024()
    assert sum(s.numel() for s in shapes.values()) == 28_268_812
    every: dict[str, Delta] = {name: torch.ones(1, *s) for name, s in shapes.items()}
    convs = {name: d for name, d in every.items() if len(shapes[name]) == 4 and name.startswith("convs.")}
    assert size(every, RecordConfig()) == pytest.approx(56.5e6, rel=0.002)
    assert size(every, INT8) == pytest.approx(28.4e6, rel=0.01)
    assert size(convs, RecordConfig()) == pytest.approx(47.2e6, rel=0.002)
    assert size(convs, INT8) == pytest.approx(23.6e6, rel=0.002)
    for rank, expected in ((8, 0.96e6), (16, 1.92e6)):
        factors: dict[str, Delta] = {name: low_rank(shapes[name], rank) for name in convs}
        assert size(factors, RecordConfig()) == pytest.approx(expected, rel=0.005)
        assert size(factors, INT8) < 0.52 * expected


def test_rank_four_takes_less_than_a_twentieth_of_the_dense_delta() -> None:
    """The bar of low-rank tuning, on the embedded generator with every parameter tuned, in float16."""
    shapes = {name: p.shape for name, p in open_generator().synthesis.named_parameters()}
    dense = 4 * sum(s.numel() for s in shapes.values())
    tuned: dict[str, Delta] = {
        name: low_rank(s, 4) if len(s) > 1 and 4 * (s[0] + s[1:].numel()) < s.numel() else normal(1, *s)
        for name, s in shapes.items()
    }
    assert dense == 3_716_576
    assert size(tuned, RecordConfig()) <= 0.05 * dense
    # The same arithmetic when a dense delta is cut afterwards.
    after: dict[str, Delta] = {name: normal(1, *s) for name, s in shapes.items()}
    assert size(after, RecordConfig(form="low-rank", error=0, max_rank=4)) <= 0.05 * dense


def test_a_form_that_renders_worse_is_not_kept() -> None:
    """Two tuned biases that cancel each other: float16 cannot hold their difference."""
    g = tiny_generator()
    count = len(g.synthesis.torgbs)
    biases: dict[str, Delta] = {f"torgbs.{b}.bias": torch.zeros(1, 3) for b in range(count)}
    biases[f"torgbs.{count - 2}.bias"], biases[f"torgbs.{count - 1}.bias"] = (
        torch.full((1, 3), 3000.9),
        torch.full((1, 3), -3000.6),
    )
    code = Code(random_w(g, 1), weights=biases)
    image = g.render(code)

    def measure(some: Code, which: Sequence[int]) -> list[Measured]:
        gaps = (g.render(some) - image).square().mean((1, 2, 3)).tolist()
        return [(gap, gap) for gap in gaps]

    (loose,) = verified([code], [(1e-6, 1e-6)], RecordConfig(max_rise=None), measure)
    assert isinstance(loose, Record)
    assert (loose.form, loose.distance > 0.01) == ("float16", True)
    (kept,) = verified([code], [(1e-6, 1e-6)], RecordConfig(), measure)
    assert isinstance(kept, Record)
    assert (kept.form, kept.distance < 1e-6) == ("float32", True)
    assert len(kept.extras or b"") > len(loose.extras or b"")
    read = Code(kept.w[None], **decode(kept.extras or b""))
    assert torch.equal(g.render(read), image)


def test_codes_are_rendered_together_and_only_where_that_can_tell_something() -> None:
    g = tiny_generator()
    calls: list[list[int]] = []

    def measure(some: Code, which: Sequence[int]) -> list[Measured]:
        assert len(some) == len(which)
        calls.append(list(which))
        # The second image's code is worse in every form that rounds.
        return [(0.5, 0.9 if k == 1 and len(calls) == 1 else 0.5) for k in which]

    plain, broken = Code(random_w(g, 1)), Code(random_w(g, 1), styles={"convs.1": torch.full((1, 16), float("nan"))})
    tuned = [Code(random_w(g, 1, seed=s), styles={"convs.1": normal(1, 16, seed=s)}) for s in (1, 2)]
    known: list[Measured | None] = [(0.5, 0.5)] * 4
    first, second, bare, refused = verified([*tuned, plain, broken], known, RecordConfig(), measure)
    assert isinstance(first, Record)
    assert isinstance(second, Record)
    assert (first.form, second.form, calls) == ("float16", "float32", [[0, 1], [1]])
    assert bare == Record(bare.w, None, None, 0.5, 0.5)  # type: ignore[union-attr]
    assert isinstance(refused, NotFinite)


def test_what_was_not_measured_is_rendered_only_where_something_is_left_out() -> None:
    g = tiny_generator()
    calls: list[int] = []

    def measure(some: Code, which: Sequence[int]) -> list[Measured]:
        calls.append(len(some))
        return [(0.5, 0.5)] * len(some)

    tuned = Code(random_w(g, 1), weights={"convs.1.weight": normal(1, 16, 16, 3, 3)})
    (rounded,) = verified([tuned], [None], RecordConfig(), measure)
    assert isinstance(rounded, Record)
    assert (rounded.form, rounded.distance, calls) == ("float16", None, [])
    assert rounded.extras == encode(tuned)
    (cut,) = verified([tuned], [None], RecordConfig(form="low-rank"), measure)
    assert isinstance(cut, Record)
    assert (cut.form, cut.distance, calls) == ("low-rank float16", 0.5, [1, 1])
