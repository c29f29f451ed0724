"""Tell what differs between two mixes, two builds or two screenings."""
