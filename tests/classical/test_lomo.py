from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from reid_lab.classical import Lomo
from reid_lab.classical.histogram import rgb_to_hsv
from reid_lab.classical.lomo import gray_of, siltp, window_maxima
from reid_lab.classical.retinex import READINGS, Reading, blur_matrix, retinex


def noise(n: int, height: int = 128, width: int = 48, seed: int = 0) -> torch.Tensor:
    """Smooth noise, so that neighbouring pixels are similar, as in photographs."""
    rng = np.random.default_rng(seed)
    raw = gaussian_filter(rng.normal(size=(n, 3, height, width)), (0, 0, 2, 2))
    raw = (raw - raw.min()) / (raw.max() - raw.min())
    return torch.from_numpy((raw * 255).round().astype(np.uint8))


def naive_siltp(gray: np.ndarray, radius: int, tau: float) -> np.ndarray:
    height, width = gray.shape
    codes = np.zeros(gray.shape, int)
    for y in range(height):
        for x in range(width):
            for digit, (dy, dx) in enumerate([(0, 1), (-1, 0), (0, -1), (1, 0)]):
                beside = gray[
                    min(max(y + dy * radius, 0), height - 1),
                    min(max(x + dx * radius, 0), width - 1),
                ]
                if beside < (1 - tau) * gray[y, x]:
                    codes[y, x] += 3**digit
                elif beside > (1 + tau) * gray[y, x]:
                    codes[y, x] += 2 * 3**digit
    return codes


def naive_maxima(codes: np.ndarray, bins: int) -> np.ndarray:
    height, width = codes.shape
    rows = []
    for y in range(0, height - 9, 5):
        windows = [codes[y : y + 10, x : x + 10] for x in range(0, width - 9, 5)]
        counted = [np.bincount(w.ravel(), minlength=bins) for w in windows]
        rows.append(np.max(counted, axis=0))
    return np.concatenate(rows)


def naive_release(image: np.ndarray) -> np.ndarray:
    """Pixel by pixel after the blur, with a percentile by sorting."""
    intensity = image.astype(float) + 10
    blurred = [gaussian_filter(intensity, (0, s, s), mode="nearest", truncate=3.0) for s in (5, 20)]
    seen = sum(np.log(1 + intensity / b) for b in blurred) / 2
    ranked, last = np.sort(seen.ravel()), seen.size - 1
    low, high = (np.interp(q * last, np.arange(seen.size), ranked) for q in (0.025, 0.975))
    _, height, width = image.shape
    colour = np.empty(image.shape)
    for y in range(height):
        for x in range(width):
            for c in range(3):
                share = intensity[c, y, x] / sum(intensity[k, y, x] for k in range(3))
                colour[c, y, x] = np.log(1 + 3 * share)
    result = np.empty(image.shape)
    for place in np.ndindex(*image.shape):
        stretched = min(max(255 * (seen[place] - low) / (high - low) - 10, 0), 255)
        result[place] = max(stretched * colour[place] / colour.mean(), image[place])
    return result.clip(max=255)


def naive_deviations(image: np.ndarray) -> np.ndarray:
    intensity = image.astype(float) + 1
    blurred = [gaussian_filter(intensity, (0, s, s), mode="nearest", truncate=3.0) for s in (5, 20)]
    seen = np.log(intensity) - np.mean([np.log(b) for b in blurred], axis=0)
    low, high = seen.mean() - 2 * seen.std(), seen.mean() + 2 * seen.std()
    return (255 * (seen - low) / (high - low)).clip(0, 255)


def pooled(x: np.ndarray) -> np.ndarray:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def naive_lomo(image: torch.Tensor, reading: Reading) -> np.ndarray:
    """LOMO of one image (3, 128, 48) by loops; `retinex` and `rgb_to_hsv` are tested apart."""
    bins = np.minimum(np.floor(rgb_to_hsv(retinex(image[None], reading))[0].numpy() * 8), 7)
    r, g, b = image.numpy().astype(float)
    gray = np.round(0.2989 * r + 0.587 * g + 0.114 * b) / 255
    parts: list[list[np.ndarray]] = [[], [], []]
    for level in range(3):
        if level:
            bins, gray = np.floor(pooled(bins)), pooled(gray)
        h, s, v = bins.astype(int)
        parts[0].append(naive_maxima(64 * v + 8 * s + h, 512))
        parts[1].append(naive_maxima(naive_siltp(gray, 3, 0.3), 81))
        parts[2].append(naive_maxima(naive_siltp(gray, 5, 0.3), 81))
    logs = [np.log1p(np.concatenate(p)) for p in parts]
    return np.concatenate([x / np.linalg.norm(x) for x in logs])


def test_the_papers_dimension() -> None:
    assert Lomo.dim == (512 + 2 * 81) * (24 + 11 + 5) == 26960
    assert Lomo()(noise(2)).shape == (2, 26960)


@pytest.mark.parametrize("reading", READINGS)
def test_the_whole_descriptor_is_the_naive_one(reading: Reading) -> None:
    image = noise(1, seed=3)[0]
    ours, naive = Lomo(reading)(image[None])[0].numpy(), naive_lomo(image, reading)
    np.testing.assert_allclose(ours, naive, atol=1e-6)
    assert naive @ naive == pytest.approx(3)  # three parts of unit length


@pytest.mark.parametrize(("radius", "tau"), [(3, 0.3), (5, 0.3), (1, 0.05)])
def test_siltp_is_the_naive_loop(radius: int, tau: float) -> None:
    gray = noise(2, 24, 12)[:, 0].double() / 255
    ours = siltp(gray, radius, tau).numpy()
    assert len(np.unique(ours)) > 10
    assert all((ours[i] == naive_siltp(gray[i].numpy(), radius, tau)).all() for i in range(2))


def test_bounds_of_siltp_need_float64() -> None:
    gray = torch.full((1, 3, 3), 60, dtype=torch.uint8)
    gray[0, 1, 2] = 78  # 1.3 times 60, no more; in float32 it is above the bound
    assert siltp(gray.double() / 255, 1)[0, 1, 1] == 0
    assert siltp(gray.float() / 255, 1)[0, 1, 1] == 2
    assert gray_of(torch.full((1, 3, 2, 2), 60, dtype=torch.uint8)).dtype == torch.float64


def test_siltp_knows_no_scale_of_light() -> None:
    gray = noise(2, 32, 16)[:, 0].float()
    assert torch.equal(siltp(gray, 3), siltp(gray / 4, 3))
    assert not siltp(torch.full((1, 12, 12), 0.5), 5).any()


@pytest.mark.parametrize(("height", "width"), [(128, 48), (64, 24), (32, 12), (23, 19)])
def test_window_maxima_are_the_naive_loops(height: int, width: int) -> None:
    codes = torch.randint(0, 7, (2, height, width), generator=torch.Generator().manual_seed(0))
    ours = window_maxima(codes, 7).numpy()
    assert all((ours[i] == naive_maxima(codes[i].numpy(), 7)).all() for i in range(2))


def test_a_full_window_does_not_overflow() -> None:
    assert window_maxima(torch.ones(1, 128, 48, dtype=torch.long), 2)[0].tolist() == [0, 100] * 24


def test_retinex_by_deviations_is_the_naive_one() -> None:
    images = noise(2, 30, 20, seed=1)
    ours = retinex(images)
    for image, seen in zip(images.numpy(), ours.numpy(), strict=True):
        assert np.abs(naive_deviations(image) - seen).max() < 0.6


def test_the_releases_retinex_is_the_naive_one() -> None:
    images = noise(2, 30, 20, seed=1)
    ours = retinex(images, "release")
    for image, seen in zip(images.numpy(), ours.numpy(), strict=True):
        naive = naive_release(image)
        assert ((naive - seen > -1e-2) & (naive - seen < 1 + 1e-2)).all()  # truncated
        assert (seen >= image).all() and (seen > image).mean() > 0.1
        assert (seen == image).any() and not (seen == retinex(images)[0].numpy()).all()


def test_readings_of_retinex() -> None:
    images = noise(2, 30, 20, seed=1)
    assert torch.equal(retinex(images, "none"), images)
    flat = torch.full((1, 3, 16, 8), 90, dtype=torch.uint8)
    assert torch.equal(retinex(flat, "release"), flat)
    with pytest.raises(ValueError, match="unknown Retinex 'ours'; available: release, deviations"):
        retinex(images, "ours")  # type: ignore[arg-type]


def test_blurring_keeps_the_mean_of_a_flat_image() -> None:
    assert torch.allclose(blur_matrix(48, 20.0).sum(1), torch.ones(48))
    assert not retinex(torch.full((1, 3, 16, 8), 90, dtype=torch.uint8)).any()


def test_a_flat_image_has_finite_features() -> None:
    features = Lomo()(torch.zeros(1, 3, 128, 48, dtype=torch.uint8))
    assert features.isfinite().all() and features.norm() == pytest.approx(3**0.5)


def test_every_image_by_itself() -> None:
    images, lomo = noise(34, seed=2), Lomo()  # more than a chunk
    together = lomo(images)
    for i in (0, 31, 32, 33):
        alone = lomo(images[i : i + 1])[0]
        assert together[i] @ alone == pytest.approx(
            3, rel=1e-3
        )  # products may be rounded differently


def test_other_sizes_are_resized() -> None:
    large = noise(1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert Lomo()(large).shape == (1, 26960)
    assert torch.equal(Lomo()(torch.full_like(large, 7)), Lomo()(torch.full_like(noise(1), 7)))


@pytest.mark.parametrize(
    "images", [torch.zeros(1, 3, 128, 48), torch.zeros(3, 128, 48, dtype=torch.uint8)]
)
def test_what_is_not_an_image_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Lomo()(images)


def test_the_cost_is_products_and_an_estimate() -> None:
    lomo = Lomo()
    products = lomo.mul_adds(128, 48) - lomo.estimated_mul_adds(128, 48)
    # two sigmas, three colours, height and width
    assert products == 2 * 3 * (128 * 128 * 48 + 128 * 48 * 48)
    plain = Lomo("none")
    assert plain.mul_adds(128, 48) == plain.estimated_mul_adds(128, 48)
    assert lomo.estimated_mul_adds(128, 48) - plain.mul_adds(128, 48) == 12 * 128 * 48
    assert lomo.estimated_mul_adds(256, 128) - lomo.estimated_mul_adds(128, 48) == 12 * 128 * 48
