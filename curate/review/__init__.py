"""Human review: choose pairs, send them to Argilla or a file, collect the answers, estimate label quality."""
