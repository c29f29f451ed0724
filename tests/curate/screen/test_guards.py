import polars as pl
import pytest

from curate.screen.guards import is_empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t",
        "\u00a0\u200b\ufeff",
        "<|im_end|>",
        " <|im_start|> <|im_end|>\n",
        "</s>",
        "[INST] [/INST]",
        "\x00",
    ],
)
def test_white_space_and_template_tokens_alone_are_empty(text):
    assert pl.DataFrame({"a": [text]}).select(is_empty("a")).item()


@pytest.mark.parametrize("text", [".", "0", "<b>", "no<|im_end|>", "<| not a token", "👍"])
def test_any_other_sign_is_text(text):
    assert not pl.DataFrame({"a": [text]}).select(is_empty("a")).item()
