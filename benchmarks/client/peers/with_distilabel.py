"""The calls as a distilabel pipeline; a batch is what its AsyncLLM has in flight."""

import json
import sys

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    url, calls, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    rows = [{"instruction": f"What is the {i}th thing to know about the sea?"} for i in range(calls)]
    with Pipeline(name="calls", cache_dir=folder) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        sampling = {"temperature": 0.7, "top_p": 0.95, "max_new_tokens": 256}
        llm = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs=sampling)
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    made = pipeline.run(use_cache=False)["default"]["train"]
    print(json.dumps({"responses": sum(bool(row) for row in made["generation"])}))


if __name__ == "__main__":
    main()
