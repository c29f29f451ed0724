"""Forecast the calls, tokens, cost and time of a build before it is made."""
