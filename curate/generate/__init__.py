"""Generate responses: several samples of one model, or a chosen and a rejected one in one call."""
