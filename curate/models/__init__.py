"""A name becomes a model: endpoints, judges, models in this process, embedded models, vLLM servers."""
