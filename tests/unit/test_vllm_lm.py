"""lm-eval's vLLM class with what it does to requests that are too long taken from it: it cuts them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from opd_steps.errors import UserError
from opd_steps.evaluation.vllm_lm import whole_rows


class Cutting:
    """In the place of lm-eval's VLLM: a token a character, 20 in all."""

    max_length, max_gen_toks = 20, 8

    def tok_encode(self, texts):
        return [list(text) for text in texts]

    def generate_until(self, requests, disable_tqdm=False):
        return ["generated"] * len(requests)

    def _loglikelihood_tokens(self, requests, disable_tqdm=False):
        return [(0.0, True)] * len(requests)


def asked(prompt: int, **options) -> SimpleNamespace:
    return SimpleNamespace(args=("x" * prompt, options))


def test_what_fits_goes_through():
    lm = whole_rows(Cutting)()
    assert lm.generate_until([asked(12), asked(5, max_gen_toks=15)]) == ["generated"] * 2
    assert lm._loglikelihood_tokens([(None, [1] * 12, [2] * 7)]) == [(0.0, True)]


@pytest.mark.parametrize("request_", [asked(13), asked(6, max_gen_toks=15), asked(6, max_tokens=15), asked(21, max_gen_toks=1)])
def test_a_generation_that_would_be_cut(request_):
    with pytest.raises(UserError, match=r"evaluate\.options\.max_model_len: a prompt of \d+ tokens .*; vLLM takes 20 in all"):
        whole_rows(Cutting)().generate_until([asked(3), request_])


def test_a_likelihood_that_would_be_cut():
    with pytest.raises(UserError, match="vLLM takes 20 in all"):
        whole_rows(Cutting)()._loglikelihood_tokens([(None, [1] * 3, [2]), (None, [1] * 12, [2] * 8)])
