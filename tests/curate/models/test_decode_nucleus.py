"""Drawing from a nucleus, against the warpers of transformers."""

import pytest
import torch
from rounding import assert_close
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

from curate.models.decode import CANDIDATES, draw, find_nuclei

VOCABULARY = 4 * CANDIDATES


def random_logits(spread):
    """Three rows; the smaller the spread, the more tokens a nucleus holds."""
    return spread * torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(0))


def warped(logits, temperature, top_p):
    """Probabilities as transformers defines them."""
    logits = TemperatureLogitsWarper(temperature)(None, logits)
    if top_p < 1:
        logits = TopPLogitsWarper(top_p)(None, logits)
    return logits.softmax(-1)


def ours(logits, temperature, top_p):
    """Probabilities of every token."""
    found = torch.full(logits.shape, -1.0)
    for rows, probabilities, tokens in find_nuclei(logits, temperature, top_p):
        found[rows] = torch.zeros(len(rows), VOCABULARY).scatter(-1, tokens, probabilities)
    return found / found.sum(-1, keepdim=True)


# With a spread of 1 a nucleus of 0.95 holds more than the candidates that are looked at first.
@pytest.mark.parametrize("spread", [1.0, 8.0])
@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.5])
@pytest.mark.parametrize("top_p", [0.0, 0.5, 0.95, 1.0])
def test_probabilities_are_those_of_the_warpers(spread, temperature, top_p):
    logits = random_logits(spread)

    peer, exact = (warped(each, temperature, top_p) for each in (logits, logits.double()))
    assert_close(ours(logits, temperature, top_p), peer, exact)


def test_rows_with_narrow_and_wide_nuclei_are_drawn_side_by_side():
    logits = random_logits(8.0)
    logits[1] = 0

    tokens = draw(logits, 1.0, 0.95, torch.tensor([0.5, 0.5, 0.5]))

    alone = [draw(logits[row : row + 1], 1.0, 0.95, torch.tensor([0.5])) for row in range(3)]
    assert tokens.tolist() == torch.cat(alone).tolist()


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_evenly_spread_luck_draws_each_token_in_proportion_to_its_probability(top_p):
    # Of 0.5, 0.3, 0.15 and 0.05 a nucleus of 0.9 keeps the first three, whose mass is 0.95.
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(9500, 4)
    luck = (torch.arange(9500, dtype=torch.float64) + 0.5) / 9500

    counts = draw(logits, 1.0, top_p, luck).bincount(minlength=4).tolist()

    expected = [5000, 3000, 1500, 0] if top_p == 0.9 else [4750, 2850, 1425, 475]
    assert counts == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_the_largest_luck_draws_a_token_that_has_a_probability(top_p):
    logits = torch.tensor([[2.0, 1.0, float("-inf"), float("-inf")]])

    assert draw(logits, 1.0, top_p, torch.tensor([1 - 2**-53], dtype=torch.float64)).tolist() == [1]
