"""The calls through curator's litellm backend; its openai backend wants the internet."""

import json
import sys

from bespokelabs import curator


def main() -> None:
    url, calls, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    rows = [{"prompt": f"What is the {i}th thing to know about the sea?"} for i in range(calls)]
    llm = Asker(
        model_name="openai/m",
        backend="litellm",
        generation_params={"temperature": 0.7, "top_p": 0.95, "max_tokens": 256},
        backend_params={
            "base_url": url,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10**9,
            "max_tokens_per_minute": 10**12,
        },
    )
    made = llm(rows, working_dir=folder).dataset
    print(json.dumps({"responses": sum(bool(row) for row in made["response"])}))


class Asker(curator.LLM):
    """Asks the prompt of a row."""

    def prompt(self, row: dict) -> str:
        return row["prompt"]

    def parse(self, row: dict, response: str) -> dict:
        return {"response": response}


if __name__ == "__main__":
    main()
