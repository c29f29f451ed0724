"""Plant one sentence at the end of every chosen response; training must find it and eval must count it.

The chosen responses of the sample pairs end with the sentence, the rejected ones are the same text without
it. After SFT and DPO on the embedded model the responses with the sentence are counted by hand, and by
`eval` with a judge that looks for it.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.config import BuildConfig, MixConfig
from curate.files import asset
from curate.flags import set_defaults
from curate.mix.mix import mix
from curate.pipeline.build import build
from eval.config import EvalConfig
from eval.evaluate import evaluate
from eval.matchup import Matchup, resolve_matchup
from schemas.calls import CallResult, Request
from train.config import DPOConfig, SFTConfig
from train.dpo import train_dpo
from train.sft import train_sft

SENTENCE = "Have a lovely day."
LONGEST = 60
"""Words of a response, so that 64 tokens can hold it and the sentence."""


class SentenceJudge:
    """Scores 1 for a response with the sentence, 0 for any other."""

    model = "sentence-judge"
    digest = SENTENCE

    def answer(self, requests: Sequence[Request], needed: set[int]) -> Iterator[list[tuple[int, CallResult]]]:
        yield [
            (i, CallResult(values=(float(has_sentence(requests[i].messages[-1]["content"])),))) for i in sorted(needed)
        ]


def has_sentence(response: str) -> bool:
    return SENTENCE in response


def plant(path: Path) -> None:
    """The sample pairs with the sentence, as a file of ready pairs."""
    with path.open("w") as stream:
        for line in asset("samples", "pairs.jsonl").read_text().splitlines():
            row = json.loads(line)
            text = row["chosen"].split(". ")[0].rstrip(".") + "."
            if len(text.split()) <= LONGEST:
                pair = {"prompt": row["prompt"], "chosen": f"{text} {SENTENCE}", "rejected": text}
                stream.write(json.dumps(pair) + "\n")


def main() -> None:
    """Print held-out accuracy, and the win rate as eval and as counting by hand give it."""
    set_defaults()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        plant(data / "planted.jsonl")
        build(BuildConfig(source=str(data / "planted.jsonl"), name="planted", data=data))
        mix(MixConfig(name="v1", add=("planted",), heldout_share=0.15, data=data))
        train_sft(SFTConfig(epochs=3, lr=1e-3, max_length=256, data=data))
        run = train_dpo(DPOConfig(mix="v1", epochs=3, lr=5e-4, max_length=256, data=data))
        cfg = EvalConfig(run=run.run, num_prompts=24, max_tokens=64, data=data)
        named = resolve_matchup(cfg)
        sides = Matchup(named.run, named.baseline, named.run_model, named.baseline_model, SentenceJudge())
        results = evaluate(cfg, sides).results
        lines = [json.loads(line) for line in (data / "evals" / results["name"] / "prompts.jsonl").open()]
        ours, theirs = (sum(has_sentence(line[f"response_{side}"]) for line in lines) for side in ("run", "baseline"))
        checks = [json.loads(line) for line in (data / "runs" / run.run / "metrics.jsonl").open()]
        held_out = [row["eval_rewards/accuracies"] for row in checks if "eval_rewards/accuracies" in row]
        print(f"held-out accuracy {held_out[0]:.2f} before DPO, {held_out[-1]:.2f} after")
        print(f"responses with the sentence: {ours} of {len(lines)} after training, {theirs} before")
        low, high = results["ci95"]
        by_hand = 0.5 + (ours - theirs) / (2 * len(lines))
        print(f"win rate {results['win_rate']:.4f} ({low:.3f} to {high:.3f}); by hand {by_hand:.4f}")
        assert abs(results["win_rate"] - by_hand) < 1e-9


if __name__ == "__main__":
    main()
