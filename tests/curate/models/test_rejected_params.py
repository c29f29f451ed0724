"""What an error refuses of a call, in the wordings that engines use, and the call without it."""

import json

import pytest
from engine_errors import error, google, openai, vllm
from hypothesis import given
from hypothesis import strategies as st

from curate.models.refusals import error_meaning
from curate.models.rejected_params import REFUSALS, adapt, refused_parameters
from curate.models.reply_body import error_in_answer, read_error
from curate.models.system_message import has_system

SYSTEM = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Why?"}]


REFUSED = {
    "system": [
        vllm("System role not supported"),
        vllm("system role is not allowed for this model"),
        vllm("Conversation roles must alternate user/assistant/user/assistant/..."),
        vllm("After the optional system message, conversation roles must alternate user and assistant roles"),
        vllm("Only user and assistant roles are supported!"),
        {
            "error": {
                "code": 500,
                "type": "server_error",
                "message": "Only user, assistant and tool roles are supported, got system",
            }
        },
        google("Developer instruction is not enabled for models/gemma-3-27b-it"),
        google("System instruction is not enabled for models/gemma-2-9b-it"),
        openai(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role"
        ),
        openai('messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter'),
        openai("This model does not support system messages."),
        openai("Invalid role: system"),
        {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user' or 'assistant'"}]},
        openai("The first message must be a user message"),
        {"error": "'system' is not one of ['user', 'assistant'] - 'messages.0.role'"},
    ],
    "n": [
        openai("'n' : number must be at most 1 with this model"),
        openai("Invalid n value (currently only n = 1 is supported)"),
        openai("n > 1 is not supported"),
        openai("Unsupported parameter: 'n'", param="n"),
        openai("`n` must be 1"),
        openai("This model does not support the parameter n"),
        google("Multiple candidates is not enabled for this model"),
        google("Only one candidate can be specified in the current model"),
        {"error": {"message": "Only one completion choice is allowed", "code": 400}},
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]},
        {
            "detail": [
                {"type": "less_than_equal", "loc": ["body", "n"], "msg": "Input should be less than or equal to 1"}
            ]
        },
        {"code": "InvalidParameter", "message": "Range of n should be [1, 4]"},
        {"message": "n must be less than or equal to 1"},
    ],
    "max_tokens": [
        openai(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        ),
        openai("Unrecognized request argument supplied: max_tokens"),
        {
            "detail": [
                {"type": "extra_forbidden", "loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}
            ]
        },
        openai("max_tokens is deprecated, send max_completion_tokens"),
    ],
    "max_completion_tokens": [
        openai("Unrecognized request argument supplied: max_completion_tokens"),
        {
            "detail": [
                {
                    "type": "extra_forbidden",
                    "loc": ["body", "max_completion_tokens"],
                    "msg": "Extra inputs are not permitted",
                }
            ]
        },
        {"error": "Additional properties are not allowed ('max_completion_tokens' was unexpected)"},
        openai("property 'max_completion_tokens' is unsupported"),
    ],
    "logprobs": [
        openai("You are not allowed to request logprobs from this model"),
        openai("This model does not support the 'logprobs' parameter"),
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]},
        google("Logprobs is not enabled for models/gemini"),
    ],
}
SENT = {
    "system": {"messages": SYSTEM, "max_tokens": 9},
    "n": {"messages": SYSTEM, "n": 2, "temperature": 0.7, "max_tokens": 9},
    "max_tokens": {"messages": SYSTEM, "max_tokens": 9, "temperature": 0.7},
    "max_completion_tokens": {"messages": SYSTEM, "max_completion_tokens": 9, "temperature": 0.7},
    "logprobs": {"messages": SYSTEM, "logprobs": True, "top_logprobs": 20, "max_tokens": 9},
}


@pytest.mark.parametrize(("name", "body"), [(name, body) for name, bodies in REFUSED.items() for body in bodies])
@pytest.mark.parametrize("status", [400, 403, 422])
def test_what_is_refused_of_a_call_is_known_in_the_wordings_of_engines(name, body, status):
    found = error(status, body)

    assert error_meaning(found, 9) is None
    assert refused_parameters(found, SENT[name])[0] == name


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_server_that_stumbles_refuses_nothing(status):
    for name, bodies in REFUSED.items():
        for body in bodies:
            assert refused_parameters(error(status, body), SENT[name]) == ()


def test_a_template_that_stumbles_over_a_system_message_is_no_fault_of_the_server():
    said = openai("Jinja Exception: Conversation roles must alternate user/assistant/user/assistant/...")

    assert refused_parameters(error(500, said), SENT["system"]) == ("system",)
    assert refused_parameters(error(500, openai("The system is not available")), SENT["system"]) == ()
    assert refused_parameters(error(500, said), {"messages": SYSTEM[1:]}) == ()


@pytest.mark.parametrize(
    "message",
    ["Line 1\nn lines are odd", "the prompt is odd", "an n-gram filter failed", "You can't have it", "1 of n/a"],
)
def test_an_error_that_names_no_parameter_refuses_none(message):
    assert refused_parameters(error(400, openai(message)), SENT["n"]) == ()


names = st.sets(st.sampled_from(["n", "max_tokens", "max_completion_tokens", "system", "temperature", "logprobs"]))


@given(refused=names, limit=st.sampled_from(["max_tokens", "max_completion_tokens"]), is_system=st.booleans())
def test_a_call_without_what_is_refused_keeps_its_limit_and_every_word(refused, limit, is_system):
    body = {"model": "m", "messages": SYSTEM if is_system else SYSTEM[1:], "n": 2, limit: 16, "temperature": 0.7}

    sent = adapt(body, refused)

    assert 16 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert not {"n", "temperature"} & refused & sent.keys()
    assert not ("system" in refused and has_system(sent["messages"]))
    words = " ".join(message["content"] for message in sent["messages"]).split()
    assert words == (["Be", "short.", "Why?"] if is_system else ["Why?"])
    assert sent["messages"][-1]["role"] == "user"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["error", "message", "code", "choices", "metadata"]),
            inner,
            max_size=4,
        )
    ),
)


@given(status=st.sampled_from([400, 403, 422, 500]), body=json_values, sent=st.sampled_from(list(SENT.values())))
def test_an_error_of_any_form_is_one_line_that_can_be_saved(status, body, sent):
    found = read_error(status, json.dumps(body).encode(), "")

    assert found.message.isprintable() or "\ufffd" in found.message or found.message
    assert "\n" not in found.message and len(found.message) <= 300
    found.message.encode()
    error_meaning(found, 9)
    assert refused_parameters(found, sent) in {*REFUSALS, ()}
    if isinstance(body, dict) and (inside := error_in_answer(body)):
        inside.message.encode()
