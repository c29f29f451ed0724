"""Detectors of facts about the text of a pair, one module a fact."""
