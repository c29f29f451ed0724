"""People judge pairs: who is asked what, in Argilla or in a file, and what their answers say."""
