"""What an AI back end costs: simulations of traffic that never was."""
