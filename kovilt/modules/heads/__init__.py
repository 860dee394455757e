"""What the states are trained for. Each objective keeps its draws, projection, loss and weight in one file."""
