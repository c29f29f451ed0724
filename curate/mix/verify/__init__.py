"""Check a published mix wherever its folder lies."""
