"""Colour control: matching of mean and covariance, YCbCr, and luminance mode."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from impasto import color
from impasto.color import Variant
from impasto.errors import InputError
from impasto.statistics import Moments

VARIANTS = get_args(Variant)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def correlated(seed: int, size: int = 40) -> Tensor:
    """Noise in correlated channels, mostly inside of 0..1."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.rand(3, 3, generator=g) * 0.08 + torch.eye(3) * 0.08
    noise = (mix @ torch.randn(3, size * size, generator=g)).reshape(3, size, size)
    return (0.3 + 0.4 * torch.rand(3, 1, 1, generator=g) + noise).clamp(0, 1)


def smooth(seed: int) -> Tensor:
    """Like a photograph: broad shapes, strong luminance, colours weak (deviation about 0.02)."""
    g = torch.Generator().manual_seed(seed)
    light = interpolate(torch.rand(1, 1, 5, 5, generator=g), (48, 32), mode="bicubic")[0]
    tint = interpolate(torch.rand(1, 3, 4, 4, generator=g), (48, 32), mode="bicubic")[0]
    return (0.15 + 0.6 * light + 0.1 * tint).clamp(0, 1)


def grey(seed: int) -> Tensor:
    return smooth(seed)[:1].repeat(3, 1, 1)


def statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    flat = picture.double().flatten(1)
    return flat.mean(1), torch.cov(flat, correction=0)


def moments(picture: Tensor) -> Moments:
    return Moments.of(picture.double())


ORDINARY = [
    (correlated(0), correlated(1)),
    (correlated(2), smooth(3)),
    (smooth(4), correlated(5)),
    (smooth(6), smooth(7)),
]
SINGLE = torch.tensor([0.9, 0.2, 0.1])[:, None, None].repeat(1, 9, 7)
TWO = torch.where(torch.rand(1, 20, 20, generator=torch.Generator().manual_seed(0)) < 0.3, 0.9, 0.1)
TWO_COLOURS = torch.cat([TWO, 1 - TWO, 0.5 * TWO])
DEGENERATE = {
    "grey": grey(8),
    "grey, 8 bits and rounded per channel": (grey(8) * torch.tensor([1, 0.9, 0.8])[:, None, None])
    .mul(255)
    .round()
    .div(255),
    "single": SINGLE,
    "black": torch.zeros(3, 4, 4),
    "two colours": TWO_COLOURS,
    "one pixel": SINGLE[:, :1, :1],
    "two pixels": correlated(9)[:, :1, :2],
    "three pixels": correlated(9)[:, :3, :1],
    "one line": correlated(9)[:, :1],
}
degenerate = pytest.mark.parametrize("odd", DEGENERATE.values(), ids=DEGENERATE.keys())


def test_modes() -> None:
    assert color.MODES == ("match", "match-style", "luminance")
    assert VARIANTS == ("eigenvalue", "cholesky", "monge")


@each_variant
@pytest.mark.parametrize(("source", "target"), ORDINARY)
def test_match_reaches_mean_and_covariance(
    source: Tensor, target: Tensor, variant: Variant
) -> None:
    mean, covariance = statistics(target)
    before = statistics(source)[1]
    assert not torch.allclose(before, covariance, rtol=0, atol=1e-3)
    for wanted in (target, moments(target)):
        got_mean, got = statistics(color.match(source, wanted, variant, clip=False))
        torch.testing.assert_close(got_mean, mean, rtol=0, atol=1e-6)
        torch.testing.assert_close(got, covariance, rtol=0, atol=1e-6)  # 1e-4 asked for


@each_variant
def test_the_matrix_is_the_formula(variant: Variant) -> None:
    source, target = moments(correlated(0)), moments(correlated(1))
    a, b = color.transfer_matrix(source, target, variant)
    assert a.dtype == b.dtype == torch.float64
    assert a.shape == (3, 3)
    assert b.shape == (3,)
    s, t = source.covariance, target.covariance
    torch.testing.assert_close(a @ s @ a.T, t, rtol=0, atol=1e-12)  # Eq. 5
    torch.testing.assert_close(b, target.mean - a @ source.mean)
    if variant == "cholesky":  # Eq. 6: lower triangular, positive diagonal, hence unique
        expected = torch.linalg.cholesky(t) @ torch.linalg.inv(torch.linalg.cholesky(s))
        torch.testing.assert_close(a, expected)
    elif variant == "eigenvalue":  # Eq. 7: A S_s^1/2 is the symmetric root of S_t
        values, vectors = torch.linalg.eigh(s)
        root = a @ (vectors * values.sqrt()) @ vectors.T
        torch.testing.assert_close(root, root.T)
        assert torch.linalg.eigvalsh(root).min() > 0


@pytest.mark.parametrize(("source", "target"), ORDINARY)
def test_monge_is_symmetric_positive_and_cheapest(source: Tensor, target: Tensor) -> None:
    a, _ = color.transfer_matrix(moments(source), moments(target), "monge")
    torch.testing.assert_close(a, a.T, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(a).min() > 0
    cost = {
        v: float(
            (color.match(source, target, v, clip=False) - source).double().square().sum(0).mean()
        )
        for v in VARIANTS
    }
    assert cost["monge"] <= min(cost.values()) + 1e-9
    assert cost["monge"] < cost["cholesky"]


@degenerate
def test_monge_of_degenerate_pictures_is_symmetric_and_positive(odd: Tensor) -> None:
    for source, target in ((odd, correlated(1)), (correlated(1), odd), (odd, odd)):
        a, _ = color.transfer_matrix(moments(source), moments(target), "monge")
        torch.testing.assert_close(a, a.T, rtol=0, atol=1e-12)
        assert torch.linalg.eigvalsh(a).min() > -1e-12


@each_variant
@pytest.mark.parametrize("picture", [correlated(0), smooth(1), *DEGENERATE.values()])
def test_match_with_itself_is_the_identity(picture: Tensor, variant: Variant) -> None:
    torch.testing.assert_close(color.match(picture, picture, variant), picture, rtol=0, atol=1e-5)


@each_variant
@degenerate
def test_degenerate_pictures_are_finite_and_reach_the_mean(odd: Tensor, variant: Variant) -> None:
    for source, target in ((odd, correlated(1)), (correlated(1), odd), (odd, DEGENERATE["grey"])):
        clipped = color.match(source, target, variant)
        assert clipped.isfinite().all()
        assert clipped.min() >= 0
        assert clipped.max() <= 1
        result = color.match(source, target, variant, clip=False)
        mean, covariance = statistics(target)
        torch.testing.assert_close(statistics(result)[0], mean, rtol=0, atol=1e-5)
        if source is not odd:  # the target may be degenerate: everything still matches
            torch.testing.assert_close(statistics(result)[1], covariance, rtol=0, atol=1e-4)


@each_variant
@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-5, 1e-3])
def test_grey_style_gives_no_rainbow_noise(noise: float, variant: Variant) -> None:
    """All noise below that of 8-bit rounding passes with gain 1 at most."""
    g = torch.Generator().manual_seed(3)
    style = grey(2) + noise * torch.randn(3, 48, 32, generator=g)
    matrix, _ = color.transfer_matrix(moments(style), moments(correlated(1)), variant)
    values, vectors = torch.linalg.eigh(moments(style).covariance)
    gains = (matrix @ vectors).norm(dim=0)
    assert gains[:2].max() < 1 + 1e-6
    assert (
        gains[2]
        < (torch.linalg.eigvalsh(moments(correlated(1)).covariance)[-1] / values[2]).sqrt() + 1e-3
    )
    result = color.match(style, correlated(1), variant, clip=False)
    left = torch.linalg.eigvalsh(statistics(result)[1])  # still a line in colour space
    assert left[1] <= noise**2 * 1.2 + 1e-12
    assert left[2] > 1e-3


@each_variant
def test_the_seen_directions_of_a_degenerate_source_are_matched(variant: Variant) -> None:
    """Grey matched to grey, two colours to a mix of the same: no direction is missing."""
    for source, target in ((grey(2), grey(5)), (TWO_COLOURS, 0.5 * TWO_COLOURS + 0.1)):
        result = color.match(source, target, variant, clip=False)
        torch.testing.assert_close(statistics(result)[1], statistics(target)[1], rtol=0, atol=1e-5)


@each_variant
def test_gain_grows_without_a_jump(variant: Variant) -> None:
    """From unseen to seen, the deviation of colour grows step by step to the target's."""
    g = torch.Generator().manual_seed(3)
    noise, light = torch.randn(3, 48, 32, generator=g), grey(2)
    spread = []
    for level in torch.linspace(0.2, 1.2, 51) / 255:
        result = color.match(light + level * noise, correlated(1), variant, clip=False)
        spread.append(float(torch.linalg.eigvalsh(statistics(result)[1])[0].sqrt()))
    goal = float(torch.linalg.eigvalsh(statistics(correlated(1))[1])[0].sqrt())
    assert spread[0] < 0.1 * goal
    assert spread[-1] == pytest.approx(goal, rel=1e-3)
    assert torch.tensor(spread).diff().max() < 0.15 * goal


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_picture(dtype: torch.dtype) -> None:
    a, b = smooth(0).to(dtype), smooth(1)
    assert color.match(a, b).dtype == color.match_luminance(a, b).dtype == dtype
    assert color.restore_chroma(a, b).dtype == color.to_ycbcr(a).dtype == dtype
    assert (
        color.from_ycbcr(a).dtype == color.luminance_of(a).dtype == color.as_grey(a).dtype == dtype
    )


def test_clipping() -> None:
    wide = correlated(0) * 3 - 1
    assert color.match(correlated(1), wide, clip=False).max() > 1
    clipped = color.match(correlated(1), wide)
    assert clipped.min() == 0
    assert clipped.max() == 1
    torch.testing.assert_close(clipped, color.match(correlated(1), wide, clip=False).clamp(0, 1))


@pytest.mark.parametrize(
    ("rgb", "ycc"),
    [
        ((0, 0, 0), (0, 0.5, 0.5)),
        ((1, 1, 1), (1, 0.5, 0.5)),
        ((1, 0, 0), (0.299, 0.331264, 1.0)),
        ((0, 1, 0), (0.587, 0.168736, 0.081312)),
        ((0, 0, 1), (0.114, 1.0, 0.418688)),
        ((0.2, 0.4, 0.6), (0.363, 0.633747, 0.383738)),
    ],
)
def test_ycbcr_by_hand(rgb: tuple[float, ...], ycc: tuple[float, ...]) -> None:
    picture, expected = torch.tensor(rgb).reshape(3, 1, 1), torch.tensor(ycc).reshape(3, 1, 1)
    torch.testing.assert_close(color.to_ycbcr(picture.float()), expected, rtol=0, atol=2e-6)
    assert float(color.luminance_of(picture.float())) == pytest.approx(ycc[0], abs=1e-6)


def test_ycbcr_is_inverted() -> None:
    picture = torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(0))
    for there, back in ((color.to_ycbcr, color.from_ycbcr), (color.from_ycbcr, color.to_ycbcr)):
        torch.testing.assert_close(back(there(picture)), picture, rtol=0, atol=1e-6)


def test_grey() -> None:
    picture = correlated(0)
    y = color.luminance_of(picture)
    assert y.shape == (1, 40, 40)
    assert torch.equal(color.as_grey(picture), torch.cat([y, y, y]))
    torch.testing.assert_close(color.as_grey(grey(0)), grey(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("content", "clips"), [(smooth(1), False), (TWO.repeat(3, 1, 1), True)])
def test_match_luminance(content: Tensor, clips: bool) -> None:
    style = 0.5 * correlated(0)
    result = color.match_luminance(style, content)
    assert torch.equal(result[0], result[1])
    assert torch.equal(result[0], result[2])
    y_s, y_c = color.luminance_of(style).double(), color.luminance_of(content).double()
    ratio = y_c.std(correction=0) / y_s.std(correction=0)
    assert ratio > 1.05
    expected = (ratio * (y_s - y_s.mean()) + y_c.mean())[0]
    assert clips == bool(expected.min() < 0 and expected.max() > 1)
    torch.testing.assert_close(result[0].double(), expected.clamp(0, 1), rtol=0, atol=1e-6)


@degenerate
def test_match_luminance_of_degenerate_pictures(odd: Tensor) -> None:
    for style, content in ((odd, smooth(0)), (smooth(0), odd)):
        result = color.match_luminance(style, content)
        assert result.isfinite().all()
        assert result.min() >= 0
        assert result.max() <= 1
    flat = color.match_luminance(SINGLE, smooth(0))
    torch.testing.assert_close(flat, color.luminance_of(smooth(0)).mean().expand_as(flat))


SATURATED = (
    torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(1)).mul(3).sub(1).clamp(0, 1)
)


@pytest.mark.parametrize("content", [SATURATED, smooth(0), *DEGENERATE.values()])
@pytest.mark.parametrize("luminance", [-3.0, 0.0, 0.5, 1.0, 4.0, None])
def test_restore_chroma_is_exact(content: Tensor, luminance: float | None) -> None:
    g = torch.Generator().manual_seed(2)
    noise = torch.rand(content.shape, generator=g)
    stylised = noise if luminance is None else torch.full_like(noise, luminance)
    result = color.restore_chroma(stylised, content)
    assert result.min() >= 0
    assert result.max() <= 1
    got, original = color.to_ycbcr(result), color.to_ycbcr(content)
    torch.testing.assert_close(got[1:], original[1:], rtol=0, atol=1e-6)
    # Luminance is the stylised one's, unless RGB is at a face of the cube.
    wanted = color.luminance_of(stylised)
    low, high = result.amin(0, keepdim=True) < 1e-6, result.amax(0, keepdim=True) > 1 - 1e-6
    kept = (got[:1] - wanted).abs() < 1e-6
    assert (kept | (low & (got[:1] > wanted)) | (high & (got[:1] < wanted))).all()


def test_restore_chroma_gives_the_content_back() -> None:
    for content in (SATURATED, smooth(0)):
        stylised = color.as_grey(content)
        result = color.restore_chroma(stylised, content)
        torch.testing.assert_close(result, content, rtol=0, atol=1e-6)
    free = color.restore_chroma(0.9 * color.as_grey(smooth(0)), smooth(0))
    wanted = 0.9 * color.luminance_of(smooth(0))
    torch.testing.assert_close(color.luminance_of(free), wanted, rtol=0, atol=1e-6)


def test_recolored_pictures_keep_their_luminance_order_and_range() -> None:
    torch.manual_seed(0)
    pictures = 0.25 + torch.rand(8, 3, 12, 10) / 2
    out = color.recolored(pictures, 1.0)
    assert out.shape == pictures.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    for before, after in zip(pictures.mean(1), out.mean(1), strict=True):
        both = torch.stack([before.flatten(), after.flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.95  # the grey axis is not turned
    hues = (pictures - pictures.mean(1, keepdim=True)).flatten(1)
    turned = (out - out.mean(1, keepdim=True)).flatten(1)
    assert float(torch.cosine_similarity(hues, turned).min()) < 0  # some hues are opposite now


def test_recolored_leaves_grey_grey_and_the_others_alone() -> None:
    grey = torch.rand(4, 1, 6, 6).expand(-1, 3, -1, -1)
    out = color.recolored(grey, 1.0)
    torch.testing.assert_close(out, out.mean(1, keepdim=True).expand_as(out), atol=1e-5, rtol=0)
    pictures = torch.rand(200, 3, 2, 2)
    assert torch.equal(color.recolored(pictures, 0.0), pictures)
    same = (color.recolored(pictures, 0.5) == pictures).flatten(1).all(1).float().mean()
    assert 0.35 < float(same) < 0.65


@pytest.mark.parametrize("call", [color.match, lambda a, b, v: color.transfer_matrix(a, b, v)])
def test_unknown_variant(call) -> None:  # type: ignore[no-untyped-def]
    pictures = correlated(0), correlated(1)
    given = pictures if call is color.match else tuple(map(moments, pictures))
    with pytest.raises(InputError, match="'histogram'.*eigenvalue, cholesky, monge"):
        call(*given, "histogram")


def test_wrong_pictures_are_named() -> None:
    good = smooth(0)
    with pytest.raises(InputError, match="differ in size"):
        color.restore_chroma(good, good[:, 1:])
    for bad in (good[:1], good[None], torch.cat([good, good[:1]])):
        for call in (color.to_ycbcr, color.from_ycbcr, color.luminance_of, color.as_grey):
            with pytest.raises(InputError, match="RGB"):
                call(bad)
        with pytest.raises(InputError, match="RGB"):
            color.match(good, bad)
    with pytest.raises(InputError, match="two RGB pictures"):
        color.match(good, moments(good[:1]))
    for bad in (good * float("nan"), good[:, :0]):
        with pytest.raises(InputError, match="not finite"):
            color.match(bad, good)
        with pytest.raises(InputError, match="not finite"):
            color.match(good, bad)


@pytest.mark.parametrize("width", [32, 41])
def test_strips_make_the_same_picture(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """As the formulas of a whole picture do: what is added up differs by rounding in float64."""
    one, two = (correlated(seed, 50)[:, :48, :width].contiguous() for seed in (0, 1))
    grey_one = grey(3)[..., :32]
    changes = [
        lambda: color.to_ycbcr(one),
        lambda: color.from_ycbcr(one),
        lambda: color.as_grey(one),
        lambda: color.restore_chroma(one, two),
        lambda: color.with_colors_of(one, two, 0.3),
        lambda: color.match_luminance(one, two),
        lambda: color.match(one, two),
        lambda: color.match(grey_one, two, "monge", clip=False),
        lambda: color.moments_of(one).second,
        lambda: torch.tensor(color.colorfulness(one)),
    ]
    before = one.clone(), two.clone()
    whole = [change() for change in changes]
    for rows in (1, 7, 48):
        monkeypatch.setattr("impasto.images.picture.STRIP", rows * width)
        for change, expected in zip(changes, whole, strict=True):
            torch.testing.assert_close(change(), expected, rtol=1e-12, atol=3e-7)
        assert torch.equal(color.restore_chroma(one, two), whole[3])
    assert torch.equal(one, before[0])
    assert torch.equal(two, before[1])


def test_the_luminance_of_a_picture_suffices_to_restore_chroma() -> None:
    one, two = correlated(0), correlated(1)
    expected = color.restore_chroma(one, two)
    made = color.restore_chroma(color.luminance_of(one), two)
    torch.testing.assert_close(made, expected, rtol=0, atol=2e-7)
    for wrong in (one[:2], one[:, :, 1:]):
        with pytest.raises(InputError):
            color.restore_chroma(wrong, two)


def test_moments_of_colours_are_in_float64() -> None:
    picture = correlated(0)
    mean, covariance = statistics(picture)
    measured = color.moments_of(picture)
    torch.testing.assert_close(measured.mean, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(measured.covariance, covariance, rtol=0, atol=1e-12)
    with pytest.raises(InputError):
        color.moments_of(picture[:2])
