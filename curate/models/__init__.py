"""Models by name: endpoints, judges, models in this process, embedded models, vLLM servers."""
