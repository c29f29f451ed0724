"""Ready pairs on ten things, no two of which are alike in wording or meaning. Their margins are 1 to 10."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEXTS = (
    (
        "Why do roses lose their leaves in autumn?",
        "They save water and strength for the cold months, and grow new ones in spring.",
        "It is a habit that nobody has ever looked into at all.",
    ),
    (
        "How can I sharpen a kitchen knife at home?",
        "Draw the blade over a wet whetstone, twenty strokes a side, at the same slant.",
        "Throw it away, since steel can never become sharp again.",
    ),
    (
        "Which planet of our system has the most moons?",
        "Saturn leads with well over a hundred known moons, ahead of Jupiter.",
        "The Earth has most of them, which is why nights are bright.",
    ),
    (
        "Explain what inflation means to a ten year old.",
        "Prices creep up, so your pocket money buys fewer sweets than last year.",
        "Balloons become larger, and the bank pays for the air.",
    ),
    (
        "Is it safe to wash wool jumpers in a machine?",
        "Yes, on a cold wool cycle with gentle soap, and dry them lying flat.",
        "Boil everything for hours, for fabric likes heat best.",
    ),
    (
        "Who painted the ceiling of the Sistine Chapel?",
        "Michelangelo did, between 1508 and 1512, mostly standing on a scaffold.",
        "Some tourists left those figures there in the seventies.",
    ),
    (
        "Give me a tip for falling asleep faster.",
        "Dim every lamp an hour before bed and keep your phone in another room.",
        "Drink three strong coffees, then watch a thriller in bed.",
    ),
    (
        "What makes bread dough rise?",
        "Yeast eats sugar and gives off gas, and gluten holds these bubbles inside.",
        "Bakers inflate loaves secretly with bicycle pumps.",
    ),
    (
        "Should I learn Python or Java first?",
        "Python asks for less ceremony, so beginners see results within minutes.",
        "Neither exists any more; computers guess our wishes today.",
    ),
    (
        "Where do swallows spend the winter?",
        "Most European swallows fly to Africa, south of the Sahara.",
        "They sleep under frozen lakes like small brown fish.",
    ),
)
PAIRS: list[dict[str, Any]] = [
    {"prompt": prompt, "chosen": chosen, "rejected": rejected, "score_chosen": 2.0 + i, "score_rejected": 1.0}
    for i, (prompt, chosen, rejected) in enumerate(TEXTS)
]


def write_rows(path: Path, rows: Iterable[Any] = PAIRS) -> str:
    """Write rows as JSON lines; returns the path as text."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
