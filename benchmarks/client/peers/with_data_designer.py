"""The calls as one text column of a data-designer data set."""

import json
import sys

import pandas as pd
from data_designer.config import (
    ChatCompletionInferenceParams,
    DataDesignerConfigBuilder,
    DataFrameSeedSource,
    LLMTextColumnConfig,
    ModelConfig,
    ModelProvider,
    RunConfig,
)
from data_designer.interface import DataDesigner


def main() -> None:
    url, calls, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    prompts = pd.DataFrame({"prompt": [f"What is the {i}th thing to know about the sea?" for i in range(calls)]})
    sampling = ChatCompletionInferenceParams(
        temperature=0.7, top_p=0.95, max_tokens=256, max_parallel_requests=concurrency
    )
    model = ModelConfig(alias="m", model="m", provider="local", inference_parameters=sampling)
    builder = DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(DataFrameSeedSource(df=prompts))
    builder.add_column(LLMTextColumnConfig(name="response", model_alias="m", prompt="{{ prompt }}"))
    designer = DataDesigner(folder, model_providers=[ModelProvider(name="local", endpoint=url, api_key="none")])
    designer.set_run_config(RunConfig(otel_metrics_port=None))
    made = designer.create(builder, num_records=calls).load_dataset()
    print(json.dumps({"responses": int(made["response"].notna().sum())}))


if __name__ == "__main__":
    main()
