"""What goes wrong with the hub is one sentence that says what to do, and shows no secret."""

import logging

import pytest
from published import TOKEN

from curate.mix.hub.repo import check_repo, hub_client
from schemas.errors import UserError


def said(error):
    with pytest.raises(UserError) as found, hub_client("it could not be pushed"):
        raise error
    assert "\n" not in str(found.value)
    return str(found.value)


def test_neither_the_token_nor_signed_addresses_are_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plain-token")

    shown = said(ValueError(f"plain-token {TOKEN}\nat https://bucket.example/lfs/1?X-Signature=abc&key=d asked"))

    assert shown == "it could not be pushed: *** hf_*** at https://bucket.example/lfs/1 asked"


def test_what_an_upload_failed_of_is_named():
    failed = RuntimeError("Error while uploading 'a'")
    failed.__cause__ = ValueError("no space")

    assert said(failed) == "it could not be pushed: Error while uploading 'a' (no space)"


def test_a_hub_without_xet_is_told_of():
    lost = ConnectionError("HTTP status client error (404 Not Found): https://hub.example/api/xet-write-token/main")

    assert said(lost) == (
        "it could not be pushed: this hub stores no files by Xet; set HF_HUB_DISABLE_XET=1 and give the command again"
    )


def test_a_mistake_of_ours_and_a_sentence_for_the_user_stay_as_they_are():
    for error in (KeyError("ours"), UserError("yours")):
        with pytest.raises(type(error)) as found, hub_client("it could not be pushed"):
            raise error
        assert found.value is error


def test_the_settings_of_the_library_are_put_back(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    before = constants.HF_HUB_DISABLE_XET, logging.getLogger("huggingface_hub").level

    with hub_client("it could not be pushed"):
        assert constants.HF_HUB_DISABLE_XET

    assert (constants.HF_HUB_DISABLE_XET, logging.getLogger("huggingface_hub").level) == before


@pytest.mark.parametrize("repo", ["", "mix", "a/b/c", "/b", "a/", "https://hub.example/a/b", "a b/c", "a/b@v1"])
def test_what_is_no_name_of_a_repository_is_refused(repo):
    with pytest.raises(UserError, match="is no repository of the hub; name it as owner/name"):
        check_repo(repo)
