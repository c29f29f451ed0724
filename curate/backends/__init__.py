"""Models behind one way of asking, and the ledger that writes every call down."""
