"""What passes between stages: tables, closed lists of names, wire formats and manifests."""
