"""What things cost, and where it is written down."""
