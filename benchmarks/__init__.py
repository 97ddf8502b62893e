"""What rumbuffer costs, and what its peers do; each module says what it measures and how."""
