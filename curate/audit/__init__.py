"""How far labels and scorers can be trusted."""
