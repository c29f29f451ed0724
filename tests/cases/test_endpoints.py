"""Endpoints that refuse, fail and redirect, as users of other tools have reported them, asked by the real command."""

import json

import pytest
from four_prompts import BAD, GOOD, PROMPTS, answer, write, written
from scripted import completion, user

from curate.cli.main import main
from curate.models.chat_api import ChatAPI
from curate.models.judge_prompts import pair_request
from curate.models.limits import EndpointConfig
from curate.models.resolve import resolve_generator, resolve_scorer
from schemas.calls import Request
from schemas.errors import UserError


def reply(case, name):
    (path,) = case(name).glob("reply_*.json")
    return int(path.stem.removeprefix("reply_")), json.loads(path.read_text())


def is_first(body):
    """The call is about the first prompt."""
    return PROMPTS[0] in body["messages"][-1]["content"]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def request(text, n=1, system=""):
    asked = [{"role": "system", "content": system}] if system else []
    return Request("generate", [*asked, *user(text)], n=n, sampling={"temperature": 0.7, "max_tokens": 77})


@pytest.fixture
def ask(recorder, tmp_path, monkeypatch):
    """Asks a server for a response to each prompt, through a ledger."""
    monkeypatch.delenv("PAIRWRIGHT_API_KEY", raising=False)
    models = {}

    def recorded(server, texts=PROMPTS, n=1, system=""):
        cfg = EndpointConfig(concurrency=1, longest_backoff_s=0.01)
        model = models.setdefault(server.url, resolve_generator(f"{server.url}#m", tmp_path, cfg))
        recorder.max_failed_share = 1.0
        return recorder.ask(model, [request(text, n, system) for text in texts])

    return recorded


def error(message, **more):
    return {"error": {"message": message, **more}}


# Too long

LONG_CASES = ["ep_too_long_anthropic", "ep_too_long_vllm", "ep_too_long_vllm_model_length"]
TOO_LONG = {
    "llama.cpp": (400, error("request exceeds the available context size", type="exceed_context_size_error")),
    "TGI": (
        422,
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000", "error_type": "validation"},
    ),
    "Gemini": (400, [error("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).")]),
    "in a good status": (200, error("This model's maximum context length is 8192 tokens.", code=400)),
    "too large a body": (413, {}),
}


@pytest.mark.parametrize("name", LONG_CASES)
def test_a_prompt_too_long_is_dropped_by_that_name_and_never_asked_again(run, endpoint, case, name):
    said = reply(case, name)
    server = endpoint(lambda body: said if is_first(body) else (200, written(body)))

    code, summary, _ = write(run, server)
    asked = len(server.bodies)
    write(run, server)

    assert (code, summary["dropped"], summary["kept"]) == (0, {"prompt_too_long": 1}, 3)
    assert len(server.bodies) == asked == 4


@pytest.mark.parametrize("said", TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_too_long_costs_no_other_and_is_never_asked_again(ask, endpoint, said):
    server = endpoint(lambda body: said if is_first(body) else (200, answer(body)))

    found = ask(server)
    again = ask(server)

    assert [each.failure for each in found] == ["prompt_too_long", None, None, None]
    assert [each.failure for each in again] == ["prompt_too_long", None, None, None]
    assert len(server.bodies) == 4


@pytest.mark.parametrize(
    "said",
    [
        (429, error("Request too large for m on tokens per min (TPM): Limit 30000, Requested 45000.")),
        (200, error("Request too large for m on tokens per min (TPM): Limit 30000, Requested 45000.", code=429)),
        (200, error("Rate limit reached", code="rate_limit_exceeded")),
    ],
)
def test_a_limit_a_minute_is_waited_for(ask, endpoint, said):
    met = []
    server = endpoint(lambda body: said if len(met) < 8 and not met.append(1) else (200, answer(body)))

    assert [each.failure for each in ask(server)] == [None] * 4
    assert len(server.bodies) == 12


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you gave 32000.",
        "max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for this model",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    ],
)
def test_a_response_that_may_be_longer_than_the_model_writes_is_no_long_prompt(ask, endpoint, message):
    server = endpoint(lambda body: (400, error(message)))

    assert {(each.failure, each.error) for each in ask(server)} == {("failed_call", f"HTTP 400: {message}")}


# Refused parameters

LIMIT = {
    "unrecognized": (400, error("Unrecognized request argument supplied: max_tokens")),
    "extra": (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]}),
    "deprecated": (400, error("`max_tokens` is deprecated, use `max_completion_tokens`")),
}
BY_OTHER_NAME = "the endpoint refuses max_tokens and is asked with max_completion_tokens"


def test_a_limit_that_is_refused_is_sent_by_its_other_name(run, endpoint, case, caplog):
    said = reply(case, "ep_max_completion_tokens")
    server = endpoint(lambda body: said if "max_tokens" in body else (200, written(body)))

    code, summary, _ = write(run, server, "--max-tokens", "77", "--concurrency", "1")

    assert (code, summary["kept"]) == (0, 4)
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 77, 77, 77, 77]
    assert warnings(caplog) == [f"{server.url}#m: {BY_OTHER_NAME}"]


@pytest.mark.parametrize("said", LIMIT.values(), ids=LIMIT)
def test_a_limit_that_is_refused_in_other_words_is_sent_by_its_other_name(ask, endpoint, caplog, said):
    server = endpoint(lambda body: said if "max_tokens" in body else (200, answer(body)))

    assert [each.failure for each in ask(server)] == [None] * 4
    assert [body.get("max_completion_tokens") for body in server.bodies] == [None, 77, 77, 77, 77]
    assert warnings(caplog) == [f"{server.url}#m: {BY_OTHER_NAME}"]


@pytest.mark.parametrize(
    "message",
    [
        "Unknown parameter: max_completion_tokens",
        "property 'max_completion_tokens' is unsupported",
        "Additional properties are not allowed ('max_completion_tokens' was unexpected)",
    ],
)
def test_openais_name_for_the_limit_is_left_where_a_server_does_not_know_it(endpoint, message):
    server = endpoint(lambda body: (400, error(message)) if "max_completion_tokens" in body else (200, answer(body)))
    api = ChatAPI("m", server.url, "m", "PAIRWRIGHT_API_KEY", EndpointConfig())
    api._max_tokens_name = "max_completion_tokens"

    ((_, found),) = next(api.answer([request("a")], {0}))

    assert found.failure is None
    assert [body.get("max_tokens") for body in server.bodies] == [None, 77]


def test_a_limit_that_is_refused_by_both_names_fails_the_call_and_asks_no_more(ask, endpoint):
    server = endpoint(
        lambda body: (400, error(f"{next(name for name in body if name.startswith('max_'))} is not supported"))
    )

    assert [each.failure for each in ask(server, PROMPTS[:1])] == ["failed_call"]
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False]


REFUSES_N = {
    "Gemini": (400, [error("Multiple candidates is not enabled for this model", code=400)]),
    "DeepSeek": (400, error("Invalid n value (currently only n = 1 is supported)")),
    "pydantic": (422, {"detail": [{"loc": ["body", "n"], "msg": "Input should be less than or equal to 1"}]}),
    "llama.cpp": (400, error("Only one completion choice is allowed", code=400)),
}


@pytest.mark.parametrize("name", ["ep_refuses_n", *REFUSES_N])
def test_several_responses_that_are_refused_are_asked_for_one_at_a_time(ask, endpoint, case, caplog, recorder, name):
    said = REFUSES_N[name] if name in REFUSES_N else reply(case, name)
    server = endpoint(lambda body: said if body.get("n", 1) > 1 else (200, completion(f"Answer {len(server.bodies)}")))

    found = ask(server, n=4)
    asked = len(server.bodies)

    assert [len(each.responses) for each in found] == [4] * 4
    assert len({response.text for each in found for response in each.responses}) == 16
    # refused once, then four a prompt, each of them counted
    assert [body.get("n", 1) for body in server.bodies] == [4] + [1] * 16
    assert (recorder.tally.calls, recorder.tally.failed_calls) == (16, 0)
    assert warnings(caplog) == [
        f"{server.url}#m: the endpoint refuses several responses a call and is asked for one at a time"
    ]
    assert [each.responses for each in ask(server, n=4)] == [each.responses for each in found]
    assert len(server.bodies) == asked


NO_SYSTEM = {
    "Gemma in vLLM": (400, {"object": "error", "message": "Conversation roles must alternate user/assistant/..."}),
    "Gemma at Google": (400, [error("Developer instruction is not enabled for models/gemma-3-27b-it", code=400)]),
    "llama.cpp": (500, error("Jinja Exception: Only user and assistant roles are supported!", type="server_error")),
    "o1-mini": (400, error("Unsupported value: 'messages[0].role' does not support 'system' with this model.")),
    "in a good status": (200, {"object": "error", "message": "system role is not allowed", "code": 400}),
}
MOVED = "the endpoint refuses a system message; its text goes into the first user turn"


def test_an_instruction_that_is_refused_as_a_system_message_goes_into_the_user_turn(run, endpoint, case, caplog):
    said = reply(case, "ep_no_system_role")
    server = endpoint(lambda body: said if body["messages"][0]["role"] == "system" else (200, written(body)))

    code, summary, _ = write(run, server, "--concurrency", "1")

    assert (code, summary["kept"], summary["dropped"]) == (0, 4, {})
    assert len(server.bodies) == 5
    for body in server.bodies[1:]:
        (turn,) = body["messages"]
        assert turn["role"] == "user"
        assert turn["content"].startswith("You write preference data.")
        assert turn["content"].endswith(tuple(f"\n\n{prompt}" for prompt in PROMPTS))
    assert warnings(caplog) == [f"{server.url}#m: {MOVED}"]


@pytest.mark.parametrize("said", NO_SYSTEM.values(), ids=NO_SYSTEM)
def test_a_system_message_goes_into_the_first_user_turn_where_it_is_refused(ask, endpoint, caplog, said):
    server = endpoint(lambda body: said if body["messages"][0]["role"] == "system" else (200, answer(body)))

    assert [each.failure for each in ask(server, system="Be short.")] == [None] * 4
    sent = [body["messages"] for body in server.bodies[1:]]
    assert sent == [[{"role": "user", "content": f"Be short.\n\n{text}"}] for text in PROMPTS]
    assert warnings(caplog) == [f"{server.url}#m: {MOVED}"]


def test_roles_that_are_refused_for_another_reason_fail_the_call_and_move_nothing(ask, endpoint, caplog):
    server = endpoint(lambda body: (400, error("Conversation roles must alternate user/assistant")))

    assert {each.failure for each in ask(server, PROMPTS[:1], system="Be short.")} == {"failed_call"}
    assert [body["messages"][0]["role"] for body in server.bodies] == ["system", "user"]
    assert warnings(caplog) == []


LOGPROBS = {
    "in a 400": (400, error("This model does not support the 'logprobs' parameter")),
    "extra": (422, {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]}),
    "of a plan": (403, error("Your plan does not include logprobs")),
}


@pytest.mark.parametrize("name", ["ep_403_logprobs", *LOGPROBS])
def test_a_pairwise_judge_is_asked_without_the_log_probabilities_that_are_refused(
    endpoint, case, recorder, caplog, name
):
    said = LOGPROBS[name] if name in LOGPROBS else reply(case, name)
    server = endpoint(lambda body: said if "logprobs" in body else (200, completion("A")))
    judge = resolve_scorer(f"judge-pairs:{server.url}#m", cfg=EndpointConfig(concurrency=1))

    found = recorder.ask(judge, [pair_request("helpful", user(text), GOOD, BAD) for text in PROMPTS])

    assert [each.values for each in found] == [(1.0,)] * 4
    assert ["logprobs" in body for body in server.bodies] == [True, False, False, False, False]
    assert "key" not in caplog.text
    assert warnings(caplog) == [
        f"judge-pairs:{server.url}#m: the endpoint refuses logprobs, top_logprobs and is asked without"
    ]


# Errors in a good status, and choices that broke off

BROKEN = {
    "a text": {"error": "upstream is gone"},
    "vLLM": {"object": "error", "message": "busy", "code": 503},
    "FastAPI": {"detail": "Internal failure"},
    "null choices": {"id": "x", "choices": None, "usage": None},
    "no choices": {"choices": []},
    "MiniMax": {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}},
    "a choice": {"choices": [{"message": {"content": "Half"}, "error": {"code": 502, "message": "gone"}}]},
    "a reason": {"choices": [{"message": {"content": "Half"}, "finish_reason": "error"}]},
    "vLLM's abort": {"choices": [{"message": {"content": "Half"}, "finish_reason": "abort"}]},
}


def test_an_error_in_a_good_status_is_waited_for_and_tried_again(run, endpoint, case):
    _, said = reply(case, "ep_error_in_200")
    met = []
    server = endpoint(lambda body: (200, said) if len(met) < 2 and not met.append(1) else (200, written(body)))

    code, summary, _ = write(run, server)

    assert (code, summary["dropped"], summary["kept"]) == (0, {}, 4)
    assert len(server.bodies) == 6


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN)
def test_an_error_in_a_good_status_is_a_try_that_failed(ask, endpoint, said):
    met = []
    server = endpoint(lambda body: (200, said) if len(met) < 2 and not met.append(1) else (200, answer(body)))

    assert [each.responses[0].text[:3] for each in ask(server)] == ["The"] * 4
    assert len(server.bodies) == 6


def test_an_error_in_a_good_status_stops_the_run_where_its_status_would(ask, endpoint, monkeypatch):
    monkeypatch.delenv("PAIRWRIGHT_API_KEY", raising=False)
    server = endpoint(lambda body: (200, error("Bad key", code=401)))

    with pytest.raises(UserError, match=r"refused the key .* is not set\): error 401 in a reply of HTTP 200: Bad key"):
        ask(server)


def test_of_several_choices_only_those_that_broke_off_are_asked_for_again(ask, endpoint):
    def handler(body):
        found = answer(body)
        if body.get("n") == 4:
            found["choices"][2] |= {"finish_reason": "error", "error": {"message": "gone"}}
        return 200, found

    server = endpoint(handler)

    assert [len(each.responses) for each in ask(server, n=4)] == [4] * 4
    assert sorted(body.get("n", 1) for body in server.bodies) == [1] * 4 + [4] * 4


# Moderation and access

MODERATED = {
    "OpenAI": (400, error("Your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt")),
    "Azure": (400, error("Filtered", code="content_filter", innererror={"code": "ResponsibleAIPolicyViolation"})),
    "Alibaba": (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
    "Gemini": (200, {"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
}


def test_a_moderated_prompt_is_dropped_as_refused_and_the_build_goes_on(run, endpoint, case):
    said = reply(case, "ep_403_moderation")
    server = endpoint(lambda body: said if is_first(body) else (200, written(body)))

    code, summary, told = write(run, server)
    asked = len(server.bodies)
    write(run, server)

    assert (code, summary["dropped"], summary["kept"]) == (0, {"refused": 1}, 3)
    assert "key" not in told
    assert len(server.bodies) == asked == 4


@pytest.mark.parametrize("said", MODERATED.values(), ids=MODERATED)
def test_a_moderated_prompt_costs_no_other_and_is_never_asked_again(ask, endpoint, said):
    server = endpoint(lambda body: said if is_first(body) else (200, answer(body)))

    found = ask(server)

    assert [each.failure for each in found] == ["refused", None, None, None]
    assert ask(server)[0] == found[0]
    assert len(server.bodies) == 4


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "no"),
        (403, "Your API key does not have permission"),
        (403, "Country, region, or territory not supported"),
        (403, "Access to model google/gemma is restricted"),
    ],
)
def test_what_is_said_of_the_key_stops_the_run(ask, endpoint, status, message):
    server = endpoint(lambda body: (status, error(message)))

    with pytest.raises(
        UserError, match=rf"refused the key \(PAIRWRIGHT_API_KEY is not set\): HTTP {status}: {message}"
    ):
        ask(server)

    assert len(server.bodies) == 1


def test_a_403_that_says_nothing_of_the_key_costs_one_call(ask, endpoint):
    server = endpoint(lambda body: (403, error("Rejected")) if is_first(body) else (200, answer(body)))

    assert [each.error for each in ask(server)] == ["HTTP 403: Rejected", None, None, None]


# Finish reasons

REASONS = {
    "length": ["length", "max_tokens", "MAX_TOKENS", "model_length", "FINISH_REASON_MAX_TOKENS", "maxTokens"],
    "stop": ["stop", "end_turn", "STOP", "eos", "stop_sequence", "COMPLETE", "eos_token"],
    None: [None, "", "FINISH_REASON_UNSPECIFIED"],
    "something new": ["something new"],
}
FILTERED = ["content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "refusal", "guardrail_intervened"]


@pytest.mark.parametrize(("told", "means"), [(told, means) for means, names in REASONS.items() for told in names])
def test_a_finish_reason_means_what_it_says(ask, endpoint, told, means):
    server = endpoint(lambda body: (200, completion("Because", finish_reason=told)))

    assert {each.responses[0].finish_reason for each in ask(server)} == {means}


def test_a_response_that_met_the_limit_in_other_words_is_dropped_as_truncated(run, endpoint):
    def handler(body):
        if body["model"] == "judge":
            return 200, completion(json.dumps({"reason": "So.", "score": 1 + len(server.bodies) % 9}))
        texts = [f"{text}{' It does so every day.' * i}" for i, text in enumerate((GOOD, BAD, BAD, GOOD))]
        return 200, completion(*texts, finish_reason="MAX_TOKENS")

    server = endpoint(handler)

    judge = f"judge:{server.url}#judge"
    _, summary, _ = run("--source", "sft", "--generator", f"{server.url}#m", "--scorer", judge)

    assert summary["dropped"] == {"truncated": 4}


@pytest.mark.parametrize("reason", FILTERED)
def test_a_filtered_response_is_refused_in_whatever_words(ask, endpoint, reason):
    server = endpoint(lambda body: (200, completion("Half", finish_reason=reason)))

    assert {(each.failure, each.error) for each in ask(server)} == {("refused", "content filter")}
    assert len(server.bodies) == 4


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "tool_use", "MALFORMED_FUNCTION_CALL"])
def test_a_call_of_a_tool_is_no_response_and_that_is_said(ask, endpoint, reason):
    server = endpoint(lambda body: (200, completion(None, finish_reason=reason)))

    said = "the model called a tool and wrote no response"
    assert {(each.failure, each.error) for each in ask(server)} == {("refused", said)}


# Streams


@pytest.mark.parametrize(
    "raw",
    [
        b'data: {"choices":[{"delta":{"content":"Hi"}}]}\n\ndata: [DONE]\n\n',
        b"event: message_start\ndata: {}\n\n",
        b": keep-alive\n\ndata: {}\n\n",
    ],
)
def test_a_stream_is_one_clear_sentence(ask, endpoint, raw):
    server = endpoint(lambda body: (200, raw))

    found = ask(server, PROMPTS[:1])[0]

    assert found.failure == "failed_call"
    assert found.error == "the endpoint streams its answer, although it was asked for it in one piece"
    assert len(server.bodies) == 1


def test_an_endpoint_that_only_streams_is_one_sentence(run, endpoint):
    message = "This model only support stream mode, please enable the stream parameter to access the model."
    server = endpoint(lambda body: (400, error(message)))

    code, _, told = write(run, server)

    assert code == 1
    assert f"failed, the last with: HTTP 400: {message}" in told.splitlines()[-1]
    assert len(server.bodies) <= 4


# What an endpoint says on a terminal

HIDDEN = "\x1b[31m\u202e\u200b\u2066\ufeff\x9b2J\u00ad\U000e0041"
UNSEEN = set(HIDDEN) - set("[31m2J")


def test_what_an_endpoint_says_is_shown_without_hidden_signs(run, endpoint, capsys):
    server = endpoint(lambda body: (400, error(f"no{HIDDEN}way")))

    code, summary, told = write(run, server)
    main(["ledger", "--data", "data"])
    ledger = capsys.readouterr().out

    assert code == 1
    assert "no\ufffd[31m" in told
    assert "failed_call" in ledger
    assert not UNSEEN & set(told + summary["error"] + ledger)


def test_hidden_signs_of_a_response_are_kept_in_the_pair_and_not_shown(run, endpoint, capsys):
    def handler(body):
        pair = json.loads(written(body)["choices"][0]["message"]["content"])
        return 200, completion(json.dumps({"chosen": pair["chosen"] + HIDDEN, "rejected": pair["rejected"]}))

    _, summary, _ = write(run, endpoint(handler))
    main(["show", "gpt", "--data", "data"])
    listed = capsys.readouterr().out
    main(["show", "gpt", "--data", "data", "--json"])
    printed = capsys.readouterr().out
    (pair, *_) = json.loads(printed)["pairs"]
    main(["explain", pair["pair_id"], "--data", "data"])
    explained = capsys.readouterr().out
    main(["explain", pair["pair_id"], "--data", "data", "--json"])
    whole = capsys.readouterr().out

    assert summary["name"] == "gpt"
    assert GOOD in explained
    assert not UNSEEN & set(listed + printed + explained + whole)
    # what is printed as JSON says all of it, in escapes
    assert json.loads(whole)["chosen"].endswith(HIDDEN)
