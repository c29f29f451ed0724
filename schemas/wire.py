"""What models send us as JSON."""

from pydantic import BaseModel, ConfigDict


class PairJSON(BaseModel):
    """A chosen and a rejected response to one prompt, written by one model."""

    model_config = ConfigDict(strict=True, extra="ignore")

    chosen: str
    rejected: str
