"""Figures as SVG, and images as PNG."""

import io

import numpy as np
from PIL import Image

from jaxdistill.report import figures


def test_png_repeats_each_pixel():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shown = np.asarray(Image.open(io.BytesIO(figures.encode_png(image, side=6))))
    np.testing.assert_array_equal(shown, np.kron(image, np.ones((3, 3, 1), np.uint8)))


def test_many_classes_are_drawn_without_counts():
    few, many = (figures.draw_confusion(np.eye(n, dtype=int) * 99, range(n), "net", "few") for n in (20, 21))
    assert few.count(">99</text>") == 20
    assert ">99</text>" not in many


def test_curves_of_a_single_point_show_a_mark():
    assert "<use" in figures.draw_curves({"a": ([1], [2.0])}, "single").split('clip-path="')[-1]


def test_curves_over_magnitudes_have_a_logarithmic_axis_with_plain_numbers():
    figure = figures.draw_curves({"a": ([1, 2, 3], [1000.0, float("nan"), 1.0])}, "wide")
    assert [tick for tick in ("1", "10", "100", "1000") if f">{tick}</text>" in figure] == ["1", "10", "100", "1000"]


def test_the_front_has_what_nothing_cheaper_matches():
    points = {
        "large": (100.0, 0.9),
        "small": (10.0, 0.8),
        "worse": (20.0, 0.7),
        "equal": (30.0, 0.8),
        "tie": (10.0, 0.6),
    }
    assert figures.find_front(points) == ["small", "large"]
    assert figures.find_front(points, better="min") == ["tie"]


def test_the_front_of_all_series_has_names_and_the_axis_plain_numbers():
    points = {"large": (90_000.0, 0.9), "small": (900.0, 0.8), "worse": (2000.0, 0.7)}
    other = {"best": (800.0, 0.85)}
    figure = figures.draw_pareto({"post": points, "tuned": other}, "front", x="bytes", y="accuracy")
    shown = {"large": 1, "best": 1, "small": 0, "worse": 0, "1 k": 1, "10 k": 1, "post": 1, "tuned": 1}
    assert {name: figure.count(f">{name}</text>") for name in shown} == shown
    near = figures.draw_pareto({"": {"a": (24_700.0, 0.5), "b": (49_400.0, 0.6)}}, "near", x="bytes", y="accuracy")
    assert ">24.7 k</text>" in near
    assert ">49.4 k</text>" in near
    assert ">post</text>" not in figures.draw_pareto({"post": points}, "one", x="bytes", y="accuracy")
