"""The arithmetic of the benchmark's tables."""

import pytest

from tests.benchmarks.figures import Figures, best, ratio


def test_the_99th_percentile_is_a_value_that_was_measured():
    figures = Figures({"ms": range(1, 101)})

    assert (figures.percentile("ms", 0.5), figures.percentile("ms", 0.99), figures.percentile("ms", 1)) == (50, 99, 100)


def test_one_value_is_every_percentile():
    assert Figures({"ms": [7.0]}).percentile("ms", 0.99) == 7.0


def test_the_median_of_an_even_number_of_rounds_lies_between_the_middle_ones():
    figures = Figures()

    figures.add("runs", 4, 1)
    figures.add("runs", 2, 8)

    assert (figures.median("runs"), figures.spread("runs")) == (3, (1, 8))


def test_what_was_not_measured_has_no_figure_and_no_ratio():
    figures = Figures()

    assert (figures.median("runs"), figures.spread("runs"), figures.percentile("runs", 0.5)) == (None, None, None)
    assert (ratio(None, 2), ratio(2, None), ratio(2, 0)) == (None, None, None)


@pytest.mark.parametrize(("values", "wanted"), [((None, 3, 5), 5), ((None, None), None)])
def test_the_best_peer_is_the_best_of_those_that_were_measured(values, wanted):
    assert best(*values) == wanted
