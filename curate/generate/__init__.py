"""Responses written by models: several samples of one, or a chosen and a rejected one at once."""
