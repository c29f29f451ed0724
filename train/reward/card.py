"""The model card of a reward head, written from the numbers beside it."""

from collections.abc import Mapping
from typing import Any

TITLES = {"smollm2": "SmolLM2-135M-Instruct (Apache-2.0)", "minilm": "all-MiniLM-L6-v2 (Apache-2.0)"}
ORIGINS = {
    "ultrafeedback_pairs": "UltraFeedback (openbmb/UltraFeedback, MIT), GPT-4 scores, a sample of 614 pairs",
    "hh_harmless_pairs": "HH (anthropics/hh-rlhf harmless-base test, MIT), human labels, 1,390 pairs",
    "gsm8k_4solutions": "GSM8K (openai/grade-school-math, MIT), 894 problems with four graded model solutions",
}
"""File -> what it is and its license, for the data of the shipped heads."""


def reward_card(results: Mapping[str, Any]) -> str:
    """README.md of a head, from what `results.json` holds."""
    trained = sum(results["train_pairs"].values())
    return f"""# {results["name"]}

A Bradley-Terry reward head: {results["columns"]:,} weights on frozen features of {TITLES[results["backbone"]]},
fitted to {trained:,} preference pairs. It is small enough to ship and runs on a laptop without a key.
It is a **weak** scorer, there so that the whole pipeline can run for real. It is never a stand-in for a large
reward model: do not select training data that you care about with it.

## Held-out accuracy

Share of held-out pairs whose chosen response scores higher, ties half. Intervals are 95%, from a bootstrap by
prompt ({results["resamples"]:,} resamples). Random is 0.500. No prompt (by its normalized first user turn) is in both
training and held-out data.

| pairs | held out | accuracy | "longer wins" | difference | against "longer wins" |
|---|---|---|---|---|---|
{accuracy_table(results)}

{pooled_verdict(results)} The design of the fit (features, planted pairs) was settled with
held-out numbers of earlier variants in view, so the table may flatter a little; columns and penalty were chosen by
cross-validation on training pairs alone.

## What fools it

On how many held-out prompts a worthless response scores at least as high as the chosen one:

{probe_table(results)}

For a harmful prompt a bare refusal can be the better response, and HH holds many such prompts: on those its
win is not a mistake in itself. Word salad was not planted: a response with its words shuffled often scores as high as
the response itself.

## Data

{data_table(results)}

Trained on share {results["share"]} of the prompt groups (seed {results["seed"]}); another 20% of the groups is
held out from every share. Left out: ties, equal responses, empty responses, and sides that disagree about the
prompt; at most two pairs of one GSM8K problem are taken. About a quarter of the pairs is trained on a second time
with a planted rejected response ({results["planted_pairs"]:,} pairs): an empty one, a full stop, a repeated word, the
prompt itself, the first third of the chosen one, the answer to another prompt or, where the file grades its
responses (not HH), a bare refusal. Without them such responses come out on top.

## How it scores

Blocks of columns: {", ".join(results["blocks"])}.
They and the L2 penalty (C = {results["strength"]:g}) were chosen by five-fold cross-validation by prompt. Weights
are then multiplied by {results["slope"]:.2f}, the slope of a logistic fit on the out-of-fold margins of the real
pairs: a margin of 1 between two responses to one prompt means odds of e to 1 that the higher one is preferred.
Mean loss of the held-out pairs is {results["heldout_loss"]:.3f} nats; a coin has 0.693. Scores of different prompts
cannot be compared.

The model reads {results["reads"]} of the response; lengths and
counts are of the whole text.

## Limits

English only. Few pairs, part of them labeled by GPT-4. It judges form far more than truth and cannot tell a wrong
fact from a right one. What is unlike the data above (code, other languages, very long texts) is scored on slight
evidence. Do not judge with the head that selected the data: `reward-mini` and `reward-mini-b` are trained on
disjoint prompts with features of different models for that reason.

## Reproduce

```
{results["command"]}
```
"""


def pooled_verdict(results: Mapping[str, Any]) -> str:
    """Whether the head is shown to beat a coin, and "longer wins", over all files."""
    coin = "beats a coin" if results["accuracy"]["all"][1] > 0.5 else "is **not shown to beat a coin**"
    longer = "beats" if results["gain"]["all"][1] > 0 else "is **not shown to beat**"
    return f'Over all files it {coin} and {longer} "longer wins".'


def accuracy_table(results: Mapping[str, Any]) -> str:
    """One row a file, and one for all; says whether the head differs from "longer wins"."""
    rows = []
    for dataset, (share, low, high) in results["accuracy"].items():
        longer = results["longer_wins"][dataset][0]
        gain, gain_low, gain_high = results["gain"][dataset]
        verdict = "better" if gain_low > 0 else "worse" if gain_high < 0 else "no difference shown"
        pairs = f"{dataset} | {results['heldout_pairs'][dataset]:,}"
        rows.append(
            f"| {pairs} | {share:.3f} ({low:.3f} to {high:.3f}) | {longer:.3f} "
            f"| {gain:+.3f} ({gain_low:+.3f} to {gain_high:+.3f}) | {verdict} |"
        )
    return "\n".join(rows)


def probe_table(results: Mapping[str, Any]) -> str:
    """One row a worthless response, one column a file."""
    datasets = list(results["train_pairs"])
    rows = [f"| response | {' | '.join(datasets)} |", "|---" * (len(datasets) + 1) + "|"]
    for probe, wins in results["probe_wins"].items():
        cells = [f"{wins[dataset][0]} of {wins[dataset][1]}" if dataset in wins else "-" for dataset in datasets]
        rows.append(f"| {probe} | {' | '.join(cells)} |")
    return "\n".join(rows)


def data_table(results: Mapping[str, Any]) -> str:
    """One line a file: what it is, and how many of its pairs were trained on."""
    return "\n".join(
        f"- `{dataset}`: {ORIGINS.get(dataset, 'origin and license not recorded')}; {count:,} pairs trained on"
        for dataset, count in results["train_pairs"].items()
    )
