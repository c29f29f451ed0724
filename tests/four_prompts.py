"""Builds that ask an endpoint about four prompts, and endpoints that answer them."""

import json

from scripted import completion

GOOD = "The moon pulls the sea, and so the water rises twice a day."
BAD = "Nobody knows why the water moves, but sailors have tables for it."
PROMPTS = ["Why are there tides?", "How long is a day on the moon?", "Name a river in France.", "What is salt made of?"]


def written(body):
    """A pair that fits the prompt, whatever stands around it."""
    last = body["messages"][-1]["content"]
    about = next((text for text in PROMPTS if text in last), last)
    return completion(json.dumps({"chosen": f"{about} {GOOD}", "rejected": f"{about} {BAD}"}))


def write(run, server, *words):
    return run("--source", "gpt", "--flaws", "none", "--generator", f"{server.url}#m", *words)


def answer(body):
    """As many texts as are asked for."""
    return completion(*(f"{GOOD} {i}" for i in range(body.get("n", 1))))
