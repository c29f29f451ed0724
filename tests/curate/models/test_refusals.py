"""What the errors of engines and services mean, in the wordings they use."""

import pytest
from engine_errors import error, google, openai, vllm

from curate.models.refusals import error_meaning, is_about_access
from curate.models.rejected_params import refused_parameters

TOO_LONG = {
    "OpenAI": (400, openai("Your input is fine but large.", code="context_length_exceeded")),
    "OpenAI in words": (
        400,
        openai(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. "
            "Please "
            "reduce the length of the messages."
        ),
    ),
    "OpenAI characters": (
        400,
        openai(
            "Invalid 'messages[0].content': string too long. Expected a string with maximum length 1048576, but got a "
            "string with length 1048900 instead.",
            code="string_above_max_length",
        ),
    ),
    "Azure": (
        400,
        openai(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens. "
            "Please "
            "reduce the length of the messages."
        ),
    ),
    "vLLM": (
        400,
        vllm(
            "This model's maximum context length is 4096 tokens. However, you requested 4200 tokens (4100 in the "
            "messages, 100 in the completion). Please reduce the length of the messages or completion."
        ),
    ),
    "vLLM newer": (
        400,
        vllm(
            "This model's maximum context length is 4096 tokens. However, you requested 256 output tokens and your "
            "prompt contains at least 3841 input tokens, for a total of at least 4097 tokens. Please reduce the length "
            "of the input prompt or the number of requested output tokens."
        ),
    ),
    "vLLM max_tokens": (
        400,
        vllm(
            "'max_tokens' or 'max_completion_tokens' is too large: 256. This model's maximum context length is 4096 "
            "tokens and your request has 4000 input tokens (256 > 4096 - 4000)."
        ),
    ),
    "vLLM negative": (400, vllm("max_tokens must be at least 1, got -35.")),
    "vLLM model length": (
        400,
        openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    ),
    "vLLM passes limit": (400, vllm("Input prompt (5000 tokens) is too long and exceeds limit of 4096")),
    "SGLang": (400, vllm("The input (9000 tokens) is longer than the model's context length (8192 tokens).")),
    "SGLang total": (400, vllm("Requested token count exceeds the model's maximum context length of 8192 tokens.")),
    "llama.cpp": (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (9412 tokens) exceeds the available context size (8192 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9412,
            }
        },
    ),
    "llama.cpp batch": (
        500,
        {"error": {"code": 500, "message": "input is too large to process. increase the physical batch size"}},
    ),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` "
            "tokens and 256 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    "TGI inputs": (
        422,
        {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1200"},
    ),
    "Ollama": (400, {"error": "prompt too long; exceeded max context length by 120 tokens"}),
    "Ollama embedding": (500, {"error": "the input length exceeds the context length"}),
    "LM Studio": (
        400,
        {
            "error": "Trying to keep the first 5000 tokens when context the overflows. However, the model is "
            "loaded with "
            "context length of only 4096 tokens, which is not enough."
        },
    ),
    "TensorRT-LLM": (400, {"detail": "Prompt length (5000) exceeds maximum input length (4096)."}),
    "NIM": (
        400,
        vllm("The sum of prompt length (5000), query length (0) should not exceed max_num_tokens (4096)"),
    ),
    "NIM negative": (
        400,
        vllm("Default max_tokens (-904) should be greater than 0: max_seq_len 4096 - prompt_len 5000"),
    ),
    "MLC": (
        400,
        {"message": "Request prompt has 5000 tokens in total, larger than the model input length limit 4096."},
    ),
    "Anthropic": (
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000"},
        },
    ),
    "Anthropic sum": (
        400,
        openai("input length and `max_tokens` exceed context limit: 199759 + 8192 > 200000, decrease input length"),
    ),
    "Gemini": (
        400,
        google("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
    ),
    "Mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
            "context",
            "type": "invalid_request_prompt",
        },
    ),
    "Cohere": (400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}),
    "Together": (422, openai("Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.")),
    "Groq": (400, openai("Please reduce the length of the messages or completion.", param="messages")),
    "DeepSeek": (
        400,
        openai("This model's maximum context length is 65536 tokens. However, you requested 131134 tokens"),
    ),
    "Moonshot": (400, openai("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)")),
    "xAI": (
        400,
        {
            "code": "invalid",
            "error": "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        },
    ),
    "Alibaba": (400, {"code": "InvalidParameter", "message": "Range of input length should be [1, 129024]"}),
    "Zhipu": (400, {"error": {"code": "1261", "message": "Prompt 超长"}}),
    "Bedrock": (400, {"message": "Input is too long for requested model."}),
    "Bedrock count": (
        400,
        {"message": "Too many input tokens. Max input tokens: 8192, request input token count: 9000"},
    ),
    "watsonx": (
        400,
        {
            "errors": [
                {
                    "code": "invalid_input_argument",
                    "message": "the number of input tokens 5000 cannot exceed the total tokens limit 4096",
                }
            ]
        },
    ),
    "Fireworks": (400, {"error": {"message": "The prompt is too long: 9000, model maximum context length: 8191"}}),
    "Perplexity": (400, openai("The total length of all messages is too long.")),
    "Copilot": (
        400,
        openai("prompt token count of 70000 exceeds the limit of 64000", code="model_max_prompt_tokens_exceeded"),
    ),
    "OpenRouter": (
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum"}}'},
            }
        },
    ),
    "a body that is no JSON": (400, "<html>prompt is too long</html>"),
    "413": (413, "<html>413 Request Entity Too Large</html>"),
}


@pytest.mark.parametrize(("status", "body"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_prompt_too_long_is_known_in_the_wordings_of_engines(status, body):
    assert error_meaning(error(status, body), 256) == "prompt_too_long"


NOT_TOO_LONG = {
    "OpenAI tokens a minute": (
        429,
        openai(
            "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 45000. The input or "
            "output tokens must be reduced."
        ),
    ),
    "Groq tokens a minute": (
        413,
        openai(
            "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000, please "
            "reduce your message size",
            code="rate_limit_exceeded",
        ),
    ),
    "Bedrock throttle": (400, {"message": "Too many tokens, please wait before trying again."}),
    "OpenAI output": (
        400,
        openai(
            "max_tokens is too large: 32000. This model supports at most 16384 completion tokens, whereas you "
            "provided 32000."
        ),
    ),
    "Anthropic output": (
        400,
        openai("max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for claude-3-5"),
    ),
    "Groq output": (
        400,
        openai(
            "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than "
            "the `context_window` for this model"
        ),
    ),
    "DeepSeek output": (400, openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]")),
    "TGI output": (422, {"error": "Input validation error: `max_new_tokens` must be <= 512. Given: 1024"}),
    "vLLM, more than the context": (
        400,
        vllm(
            "'max_tokens' is too large: 40000. This model's maximum context length is 4096 tokens and your "
            "request has 20 input tokens (40000 > 4096 - 20)."
        ),
    ),
    "a bound of another parameter": (
        422,
        {
            "detail": [
                {"type": "less_than_equal", "loc": ["body", "n"], "msg": "Input should be less than or equal to 1"}
            ]
        },
    ),
    "a minimum": (
        422,
        {"detail": [{"loc": ["body", "max_tokens"], "msg": "Input should be greater than or equal to 1"}]},
    ),
    "too many requests": (400, openai("Too many requests, the rate limit is exceeded")),
    "a budget": (400, openai("Your request exceeded your monthly token limit")),
    "a prompt that is repeated": (422, {"detail": [{"msg": "field required", "input": "the prompt is too long"}]}),
    "a server that stumbles": (503, openai("context length unknown while the model is loading")),
}


@pytest.mark.parametrize(("status", "body"), NOT_TOO_LONG.values(), ids=NOT_TOO_LONG)
def test_other_limits_are_not_taken_for_a_prompt_too_long(status, body):
    assert error_meaning(error(status, body), 32_000) != "prompt_too_long"


MODERATED = {
    "OpenRouter": (
        403,
        {
            "error": {
                "code": 403,
                "message": "x requires moderation. Your input was flagged",
                "metadata": {"reasons": ["violence"]},
            }
        },
    ),
    "OpenAI": (400, openai("This request violates our policy.", code="content_policy_violation")),
    "OpenAI reasoning": (
        400,
        openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"
        ),
    ),
    "Azure": (
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
                "management policy.",
                "code": "content_filter",
                "innererror": {"code": "ResponsibleAIPolicyViolation"},
            }
        },
    ),
    "Azure code alone": (400, {"error": {"message": "Bad.", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    "Anthropic": (400, openai("Output blocked by content filtering policy")),
    "Gemini": (400, google("The prompt was blocked: PROHIBITED_CONTENT")),
    "Alibaba": (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
    "Zhipu": (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    "Zhipu in English": (
        400,
        {
            "error": {
                "code": "1301",
                "message": "The system has detected potentially unsafe or sensitive content in input",
            }
        },
    ),
    "Moonshot": (400, openai("The request was rejected because it was considered high risk")),
    "DeepSeek": (400, openai("Content Exists Risk")),
    "Bedrock": (400, {"message": "Blocked: the guardrail intervened"}),
    "403 in words of its own": (403, {"detail": "This prompt has harmful content."}),
}


@pytest.mark.parametrize(("status", "body"), MODERATED.values(), ids=MODERATED)
def test_a_moderated_prompt_is_refused_whatever_the_status(status, body):
    found = error(status, body)

    assert error_meaning(found, 256) == "refused"
    assert (
        refused_parameters(found, {"messages": [{"role": "system", "content": "Be short."}], "temperature": 1, "n": 2})
        == ()
    )


ACCESS = {
    "OpenAI": openai("You are not allowed to sample from this model"),
    "country": openai("Country, region, or territory not supported", code="unsupported_country_region_territory"),
    "permission": {"error": {"type": "permission_error", "message": "Your credential lacks a scope"}},
    "key": {"detail": "Invalid key"},
    "Google": google("Generative Language API has not been used in project 1 before", "PERMISSION_DENIED", 403),
    "gated": {"error": "Access to model google/gemma is restricted and you are not in the authorized list."},
    "Azure network": openai("Access denied due to Virtual Network/Firewall rules."),
    "a page": "<html><h1>Sorry, you have been blocked</h1>You are unable to access api.example.com</html>",
    "an account": openai("Your account has been suspended for violating our usage policies"),
}


@pytest.mark.parametrize("body", ACCESS.values(), ids=ACCESS)
def test_a_403_about_the_key_or_its_access_is_known(body):
    found = error(403, body)

    assert error_meaning(found, 256) == "no_key" or (error_meaning(found, 256) is None and is_about_access(found))


@pytest.mark.parametrize("body", ["", "no", "<html>403 Forbidden</html>", {"error": {"message": "Request rejected"}}])
def test_a_403_that_says_nothing_of_the_key_is_about_the_call(body):
    assert error_meaning(error(403, body), 256) is None
    assert not is_about_access(error(403, body))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, ""),
        (400, google("API key not valid. Please pass a valid API key.", "API_KEY_INVALID")),
        (400, {"code": "invalid", "error": "Incorrect API key provided: ***."}),
        (403, {"error": {"message": "missing x-api-key"}}),
    ],
)
def test_a_key_that_is_refused_is_known_whatever_the_status(status, body):
    assert error_meaning(error(status, body), 256) == "no_key"
